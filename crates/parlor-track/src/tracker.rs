//! What every tracker beside the local files does. Its constructor starts it; its errors never stop a run.

use std::path::Path;

use crate::error::TrackError;
use crate::row::Row;
use crate::run_record::RunStatus;

/// A place that a run is reported to.
pub trait Tracker: Send {
    /// Its key in `monitoring:`.
    fn name(&self) -> &'static str;

    /// Takes a row of metrics.
    ///
    /// # Errors
    /// When it could not be recorded; later rows may still be.
    fn log(&mut self, row: &Row) -> Result<(), TrackError>;

    /// Takes a copy of a small file.
    ///
    /// # Errors
    /// When the file cannot be read or copied.
    fn artifact(&mut self, path: &Path) -> Result<(), TrackError>;

    /// Says how the run ended.
    ///
    /// # Errors
    /// When it could not be recorded.
    fn finish(&mut self, status: RunStatus) -> Result<(), TrackError>;
}
