//! Rows as token sequences, for training and evaluation alike: read from the token cache, or encoded and cached.

use parlor_text::{EncodeError, EncodeOptions, EncodeReport, Encoder, Example};

use super::reader::RowReader;
use super::token_cache::{CacheEntry, CacheHeader};
use crate::artifacts::TextArtifacts;
use crate::config::TrainingType;
use crate::error::TrainError;
use crate::event::TrainEvent;
use crate::objective::examples_sha256;
use crate::objectives::CrossEntropy;
use crate::tokens::{Sequence, TokenFile, TokenFileWriter};

/// Rows and the cache of their tokens.
#[derive(Debug)]
pub(crate) struct CachedRows {
    pub(crate) reader: RowReader,
    pub(crate) cache: CacheEntry,
}

/// Sequences of one split.
#[derive(Debug)]
pub(crate) struct EncodedSequences {
    pub(crate) sequences: Vec<Sequence>,
    pub(crate) report: EncodeReport,
    pub(crate) sha256: String,
}

impl EncodedSequences {
    fn of_file(file: TokenFile, report: EncodeReport) -> Self {
        Self { sha256: file.sha256().to_owned(), report, sequences: Sequence::all_of(file) }
    }
}

/// How rows become sequences.
#[derive(Clone, Debug)]
pub(crate) struct SequenceEncoder<'a> {
    pub(crate) text: &'a TextArtifacts,
    pub(crate) training_type: TrainingType,
    pub(crate) options: EncodeOptions,
    /// Threads that tokenize; 0 uses all cores.
    pub(crate) threads: usize,
}

impl SequenceEncoder<'_> {
    /// An encoder that takes rows batch by batch.
    pub(super) fn encoder(&self) -> Encoder<'_> {
        let (tokenizer, template) = (&self.text.tokenizer, self.text.template.as_ref());
        match self.training_type {
            TrainingType::FromScratch => Encoder::pretraining(tokenizer, template, self.options.clone()),
            _ => Encoder::sft(tokenizer, template, self.options.clone()),
        }
    }

    /// The sequences of rows: the cached ones of an earlier run, or new ones, which are cached where that is
    /// allowed.
    ///
    /// # Errors
    /// [`TrainError::Data`] naming the row.
    pub(crate) fn encode(
        &self,
        rows: &mut CachedRows,
        observer: &mut dyn FnMut(TrainEvent),
        warnings: &mut Vec<String>,
    ) -> Result<EncodedSequences, TrainError> {
        let CachedRows { reader, cache } = rows;
        let key = cache.key(self.text, self.training_type, &self.options);
        if let Some(key) = &key
            && let Some((file, header)) = cache.load(key, warnings)
        {
            let text = format!("using the tokens of {} ({} examples)", file.path().display(), file.len());
            observer(TrainEvent::Note(text));
            warnings.extend(header.report.warnings());
            return Ok(EncodedSequences::of_file(file, header.report));
        }
        let mut encoder = self.encoder();
        let pool = thread_pool(self.threads)?;
        let (mut done, total) = (0, reader.statistics.rows);
        let mut encode = |take: &mut (dyn FnMut(Example) + Send)| -> Result<(), TrainError> {
            reader.each(&mut |batch| {
                pool.install(|| encoder.batch(batch, take)).map_err(unusable)?;
                done += batch.len();
                observer(TrainEvent::Tokenized { done, total });
                Ok(())
            })
        };
        let Some(key) = key.filter(|_| cache.is_writable()) else {
            let mut sequences = Vec::new();
            encode(&mut |example| sequences.push(Sequence::from(example)))?;
            let report = encoder.finish().map_err(unusable)?;
            warnings.extend(report.warnings());
            let sha256 = examples_sha256(&CrossEntropy, &sequences);
            return Ok(EncodedSequences { sequences, report, sha256 });
        };
        let mut writer = TokenFileWriter::create(&cache.path)?;
        encode(&mut |example| writer.push(&example))?;
        let report = encoder.finish().map_err(unusable)?;
        warnings.extend(report.warnings());
        let statistics = reader.statistics.clone();
        let file = writer.finish(CacheHeader { key, statistics, report: report.clone() })?;
        Ok(EncodedSequences::of_file(file, report))
    }
}

/// Rows that cannot be encoded.
pub(super) fn unusable(error: EncodeError) -> TrainError {
    TrainError::data("cannot use the data", error)
}

/// A pool of `threads` threads; 0 uses all cores.
pub(super) fn thread_pool(threads: usize) -> Result<rayon::ThreadPool, TrainError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|error| TrainError::data("cannot start `dataloader_num_workers` threads", error))
}
