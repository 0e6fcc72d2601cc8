//! Where the rows of a run's metrics go, as the loop sees it.

use serde_json::{Map, Value};

use crate::storage::FillError;

/// A sink for metrics. `run.rs` has the one over files and trackers; tests collect rows in memory.
pub trait Recorder {
    /// Takes one row: `step`, `epoch`, and training or evaluation numbers.
    ///
    /// # Errors
    /// When the row cannot be written.
    fn record(&mut self, row: &Map<String, Value>) -> Result<(), FillError>;

    /// Makes the rows so far durable: called before each checkpoint, which relies on them.
    ///
    /// # Errors
    /// When they cannot be written.
    fn sync(&mut self) -> Result<(), FillError>;
}

/// Takes rows and keeps none: those of a rank that is not the one that writes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unrecorded;

impl Recorder for Unrecorded {
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
