//! Examples that are encoded while the run trains on them (`data.streaming`): a thread reads and tokenizes a
//! little ahead, and a buffer shuffles what comes. The sequence is a function of the files and the settings
//! alone, so a resumed run generates it again and skips what was trained on.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use parlor_text::{EncodeOptions, ShuffleBuffer, data_files};
use serde_json::json;

use super::reader::{BATCH, RowReader};
use super::sequences::{SequenceEncoder, thread_pool, unusable};
use crate::artifacts::TextArtifacts;
use crate::config::TrainingType;
use crate::error::TrainError;
use crate::hash::hex_sha256;
use crate::tokens::Sequence;

/// Examples that wait in the channel, in addition to the shuffle buffer.
const WAITING: usize = 256;
/// Bytes of a token: its id and its weight.
const TOKEN: usize = 8;
/// Peak bytes per byte of a batch's text while it is encoded: as a row, as tokens, and as examples (measured).
const ENCODING_OVERHEAD: usize = 6;

/// A stream of examples that is not started yet.
#[derive(Clone, Debug)]
pub struct StreamSource {
    pub(crate) rows: RowReader,
    pub(crate) text: TextArtifacts,
    pub(crate) training_type: TrainingType,
    pub(crate) options: EncodeOptions,
    pub(crate) seed: u64,
    pub(crate) threads: usize,
    /// Examples that the run takes in all.
    pub(crate) examples: usize,
}

impl StreamSource {
    /// Length of the longest example, in tokens.
    pub(crate) fn longest(&self) -> usize {
        self.options.max_length
    }

    /// Upper bound of the bytes that the running stream holds: the buffer, and a batch that is being encoded.
    pub(crate) fn bytes(&self) -> u64 {
        ((self.rows.data.buffer_size + WAITING) * self.longest() * TOKEN + ENCODING_OVERHEAD * BATCH) as u64
    }

    /// SHA-256 over the names and sizes of the files, and the settings that determine the examples.
    pub(crate) fn sha256(&self) -> String {
        let data = &self.rows.data;
        let sets = data.training_sets();
        let files = sets.iter().filter_map(|set| data_files(Path::new(&set.path)).ok()).flatten();
        let size = |file: &Path| std::fs::metadata(file).map_or(0, |about| about.len());
        let files: Vec<_> = files.map(|file| json!([file, size(&file)])).collect();
        let key = json!({
            "files": files,
            "datasets": sets,
            "data_types": data.data_types,
            "on_bad_row": data.on_bad_row,
            "buffer_size": data.buffer_size,
            "batch_size": data.batch_size,
            "from_scratch": self.training_type == TrainingType::FromScratch,
            "max_length": self.options.max_length,
            "train_on": self.options.train_on,
            "on_long_row": self.options.on_long_row,
        });
        hex_sha256(key.to_string().as_bytes())
    }

    /// Starts the stream after `skipped` examples.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn start(&self, skipped: usize) -> Result<ExampleStream, TrainError> {
        let (sender, receiver) = sync_channel(WAITING);
        let (source, pool) = (self.clone(), thread_pool(self.threads)?);
        let run = move || {
            let mut sender = StreamSender { channel: sender, skipped };
            for epoch in 0.. {
                match source.epoch(epoch, &pool, &mut sender) {
                    Ok(ControlFlow::Continue(())) => {}
                    Ok(ControlFlow::Break(())) => return,
                    Err(error) => {
                        // The receiver is gone when the run has ended.
                        let _ = sender.channel.send(Err(error));
                        return;
                    }
                }
            }
        };
        std::thread::Builder::new()
            .name("parlor-stream".to_owned())
            .spawn(run)
            .map_err(|error| TrainError::data("cannot start a thread that reads", error))?;
        Ok(ExampleStream { receiver })
    }

    /// Sends the whole corpus once. Breaks when the receiver is gone.
    fn epoch(
        &self,
        epoch: u64,
        pool: &rayon::ThreadPool,
        sender: &mut StreamSender,
    ) -> Result<ControlFlow<()>, TrainError> {
        let settings = SequenceEncoder {
            text: &self.text,
            training_type: self.training_type,
            options: self.options.clone(),
            threads: self.threads,
        };
        let mut encoder = settings.encoder();
        let mut buffer = ShuffleBuffer::new(self.rows.data.buffer_size, self.seed, epoch);
        let mut failed = None;
        let mut flow = ControlFlow::Continue(());
        let mut reported = 0;
        let warnings = self.rows.read(&mut |rows| {
            let mut examples = Vec::new();
            let batch = pool.install(|| encoder.batch(&rows, &mut |example| examples.push(example)));
            if let Err(error) = batch.and_then(|()| encoder.check()) {
                failed = Some(unusable(error));
                return ControlFlow::Break(());
            }
            // Every epoch has the same bad rows; the first one reports them.
            for row in encoder.bad_rows().iter().skip(reported).filter(|_| epoch == 0) {
                tracing::warn!("{row}: left out");
                reported += 1;
            }
            drop(rows);
            for example in examples {
                if let Some(next) = buffer.push(Sequence::from(example)) {
                    flow = sender.send(next);
                }
                if flow.is_break() {
                    break;
                }
            }
            flow
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        for warning in warnings.iter().filter(|_| epoch == 0) {
            tracing::warn!("{warning}");
        }
        if flow.is_break() {
            return Ok(flow);
        }
        let report = encoder.finish().map_err(unusable)?;
        for warning in report.warnings().iter().filter(|_| epoch == 0) {
            tracing::warn!("{warning}");
        }
        Ok(buffer.finish().into_iter().try_for_each(|next| sender.send(next)))
    }
}

/// Sends examples, all but the first `skipped`.
struct StreamSender {
    channel: SyncSender<Result<Sequence, TrainError>>,
    skipped: usize,
}

impl StreamSender {
    fn send(&mut self, next: Sequence) -> ControlFlow<()> {
        if self.skipped > 0 {
            self.skipped -= 1;
            return ControlFlow::Continue(());
        }
        match self.channel.send(Ok(next)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

/// A running stream. Its thread ends when it is dropped.
pub(crate) struct ExampleStream {
    receiver: Receiver<Result<Sequence, TrainError>>,
}

impl ExampleStream {
    /// The next examples.
    ///
    /// # Errors
    /// The error that ended the stream.
    pub(crate) fn next(&mut self, count: usize) -> Result<Vec<Sequence>, TrainError> {
        let gone = |_| TrainError::data("cannot read the data", "the thread that reads it failed");
        (0..count).map(|_| self.receiver.recv().map_err(gone)?).collect()
    }
}
