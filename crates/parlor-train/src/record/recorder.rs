//! Where the loop writes its metrics.

use serde_json::{Map, Value};

use parlor_files::FillError;

/// A sink for metrics: files and trackers in a run, or a list in memory.
pub trait Recorder {
    /// Records one row: `step`, `epoch`, and training or evaluation metrics.
    ///
    /// # Errors
    /// When the row cannot be written.
    fn record(&mut self, row: &Map<String, Value>) -> Result<(), FillError>;

    /// Makes the rows so far durable. Called before each checkpoint, which relies on them.
    ///
    /// # Errors
    /// When they cannot be written.
    fn sync(&mut self) -> Result<(), FillError>;
}

/// Discards all rows, for the ranks that do not write.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NoRecord;

impl Recorder for NoRecord {
    fn record(&mut self, _: &Map<String, Value>) -> Result<(), FillError> {
        Ok(())
    }

    fn sync(&mut self) -> Result<(), FillError> {
        Ok(())
    }
}

impl Recorder for Vec<Map<String, Value>> {
    fn record(&mut self, row: &Map<String, Value>) -> Result<(), FillError> {
        self.push(row.clone());
        Ok(())
    }

    fn sync(&mut self) -> Result<(), FillError> {
        Ok(())
    }
}
