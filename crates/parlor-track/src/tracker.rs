//! The interface of trackers other than the local files. A constructor starts a tracker; its errors never
//! stop a run.

use std::path::Path;

use crate::error::TrackError;
use crate::row::Row;
use crate::run_record::RunStatus;

/// Something that a run is reported to.
pub trait Tracker: Send {
    /// Its key in `monitoring:`.
    fn name(&self) -> &'static str;

    /// Records a row of metrics.
    ///
    /// # Errors
    /// When it could not be recorded. Later rows may still succeed.
    fn log(&mut self, row: &Row) -> Result<(), TrackError>;

    /// Records a copy of a small file.
    ///
    /// # Errors
    /// When the file cannot be read or copied.
    fn artifact(&mut self, path: &Path) -> Result<(), TrackError>;

    /// Records the end of the run.
    ///
    /// # Errors
    /// When it could not be recorded.
    fn finish(&mut self, status: RunStatus) -> Result<(), TrackError>;
}
