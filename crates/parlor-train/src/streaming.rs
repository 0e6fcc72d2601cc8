//! Examples that are made while the run trains on them (`data.streaming`): a thread reads and tokenises a little ahead, and a
//! buffer shuffles what comes. The sequence is a function of the files and the settings alone, so a run that goes on makes it
//! again and passes over what was trained on.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use parlor_text::{EncodeError, EncodeOptions, ShuffleBuffer, data_files};
use serde_json::json;

use crate::config::TrainingType;
use crate::error::TrainError;
use crate::materials::{TextArtifacts, data_error, encoder, pool};
use crate::parlor_state::hex_sha256;
use crate::row_feed::{BATCH, RowReader};
use crate::sequence::Sequence;

/// Examples that wait beside those in the buffer.
const WAITING: usize = 256;
/// Bytes of a token: its id and its weight.
const TOKEN: usize = 8;
/// Bytes that a byte of a batch takes until its tokens are examples: as a row, as tokens, and as examples (measured).
const ON_THE_WAY: usize = 6;

/// What to stream.
#[derive(Clone, Debug)]
pub struct Streaming {
    pub(crate) rows: RowReader,
    pub(crate) text: TextArtifacts,
    pub(crate) training_type: TrainingType,
    pub(crate) options: EncodeOptions,
    pub(crate) seed: u64,
    pub(crate) threads: usize,
    /// Examples that the run takes in all.
    pub(crate) examples: usize,
}

impl Streaming {
    /// Tokens of its longest example.
    pub(crate) fn longest(&self) -> usize {
        self.options.max_length
    }

    /// Bytes that it holds at most once it runs: the buffer, and a batch of rows on its way to tokens.
    pub(crate) fn bytes(&self) -> u64 {
        ((self.rows.data.buffer_size + WAITING) * self.longest() * TOKEN + ON_THE_WAY * BATCH) as u64
    }

    /// Hash of what it reads, by the names and sizes of the files, and of the settings that decide what comes of it.
    pub(crate) fn sha256(&self) -> String {
        let data = &self.rows.data;
        let sets = data.training_sets();
        let files = sets.iter().filter_map(|set| data_files(Path::new(&set.path)).ok()).flatten();
        let size = |file: &Path| std::fs::metadata(file).map_or(0, |about| about.len());
        let files: Vec<_> = files.map(|file| json!([file, size(&file)])).collect();
        let decides = json!({
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
        hex_sha256(decides.to_string().as_bytes())
    }

    /// Begins after `skipped` examples.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(crate) fn start(&self, skipped: usize) -> Result<Stream, TrainError> {
        let (sender, receiver) = sync_channel(WAITING);
        let (source, pool) = (self.clone(), pool(self.threads)?);
        let run = move || {
            let mut outlet = Outlet { sender, skipped };
            for epoch in 0.. {
                match source.epoch(epoch, &pool, &mut outlet) {
                    Ok(ControlFlow::Continue(())) => {}
                    Ok(ControlFlow::Break(())) => return,
                    Err(error) => {
                        // Nobody waits for it when the run has ended.
                        let _ = outlet.sender.send(Err(error));
                        return;
                    }
                }
            }
        };
        std::thread::Builder::new()
            .name("parlor-stream".to_owned())
            .spawn(run)
            .map_err(|error| data_error("cannot start a thread that reads", error))?;
        Ok(Stream { receiver })
    }

    /// The corpus once. Breaks when nobody takes more.
    fn epoch(
        &self,
        epoch: u64,
        pool: &rayon::ThreadPool,
        outlet: &mut Outlet,
    ) -> Result<ControlFlow<()>, TrainError> {
        let mut encoder = encoder(&self.text, self.training_type, self.options.clone());
        let mut buffer = ShuffleBuffer::new(self.rows.data.buffer_size, self.seed, epoch);
        let cannot = |error: EncodeError| data_error("cannot use the data", error);
        let mut failed = None;
        let mut flow = ControlFlow::Continue(());
        let mut told = 0;
        let warnings = self.rows.read(&mut |rows| {
            let mut examples = Vec::new();
            let batch = pool.install(|| encoder.batch(&rows, &mut |example| examples.push(example)));
            if let Err(error) = batch.and_then(|()| encoder.check()) {
                failed = Some(cannot(error));
                return ControlFlow::Break(());
            }
            // Every epoch meets the same.
            for row in encoder.bad_rows().iter().skip(told).filter(|_| epoch == 0) {
                tracing::warn!("{row}: left out");
                told += 1;
            }
            drop(rows);
            for example in examples {
                if let Some(next) = buffer.push(Sequence::from(example)) {
                    flow = outlet.send(next);
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
        let report = encoder.finish().map_err(cannot)?;
        for warning in report.warnings().iter().filter(|_| epoch == 0) {
            tracing::warn!("{warning}");
        }
        Ok(buffer.finish().into_iter().try_for_each(|next| outlet.send(next)))
    }
}

/// Where examples go, but for the first ones.
struct Outlet {
    sender: SyncSender<Result<Sequence, TrainError>>,
    skipped: usize,
}

impl Outlet {
    fn send(&mut self, next: Sequence) -> ControlFlow<()> {
        if self.skipped > 0 {
            self.skipped -= 1;
            return ControlFlow::Continue(());
        }
        match self.sender.send(Ok(next)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

/// Examples as they come. Dropped, its thread ends.
pub(crate) struct Stream {
    receiver: Receiver<Result<Sequence, TrainError>>,
}

impl Stream {
    /// The next examples.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn next(&mut self, count: usize) -> Result<Vec<Sequence>, TrainError> {
        let gone = |_| data_error("cannot read the data", "the thread that reads it failed");
        (0..count).map(|_| self.receiver.recv().map_err(gone)?).collect()
    }
}
