//! The three files of a run in its output directory: `metrics.jsonl`, `run.json`, `loss.svg`.
//!
//! Everything else relies on this record, so its errors are returned. The plot is redrawn as rows come in
//! (less often as the run grows), at each evaluation, and at the end.

use std::path::{Path, PathBuf};

use crate::curves::LossCurves;
use crate::error::TrackError;
use crate::metrics_file::MetricsFile;
use crate::plot::loss_svg;
use crate::row::Row;
use crate::run_record::{RUN_FILE, RunRecord};
use crate::whole_file;

/// A row per logged step.
pub const METRICS_FILE: &str = "metrics.jsonl";
/// The plot of the losses.
pub const LOSS_FILE: &str = "loss.svg";

/// Minimum number of rows between two drawings of the plot.
const ROWS_BETWEEN_PLOTS: usize = 20;

/// The local files of one run.
#[derive(Debug)]
pub struct LocalFiles {
    output_dir: PathBuf,
    metrics: MetricsFile,
    curves: LossCurves,
    rows: usize,
    rows_at_plot: usize,
}

impl LocalFiles {
    /// Creates the files in `output_dir`, replacing old ones; creates the directory if missing. `title` is
    /// the plot's title.
    ///
    /// # Errors
    /// When the directory cannot be created or written.
    pub fn create(output_dir: &Path, title: &str) -> Result<Self, TrackError> {
        std::fs::create_dir_all(output_dir).map_err(|source| TrackError::write(output_dir, source))?;
        let metrics = MetricsFile::create(output_dir.join(METRICS_FILE))?;
        Ok(Self::with(output_dir, title, metrics))
    }

    /// Resumes the files of a run after `step` steps: rows of later steps are removed.
    ///
    /// # Errors
    /// When they cannot be read or written.
    pub fn resume(output_dir: &Path, title: &str, step: u64) -> Result<Self, TrackError> {
        std::fs::create_dir_all(output_dir).map_err(|source| TrackError::write(output_dir, source))?;
        let (metrics, rows) = MetricsFile::resume(output_dir.join(METRICS_FILE), step)?;
        let mut files = Self::with(output_dir, title, metrics);
        for row in &rows {
            files.curves.push(row);
        }
        files.rows = rows.len();
        files.rows_at_plot = rows.len();
        Ok(files)
    }

    fn with(output_dir: &Path, title: &str, metrics: MetricsFile) -> Self {
        let curves = LossCurves::new(title);
        Self { output_dir: output_dir.to_owned(), metrics, curves, rows: 0, rows_at_plot: 0 }
    }

    /// Appends a row, and draws the plot when it is time.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn log(&mut self, row: &Row) -> Result<(), TrackError> {
        self.metrics.append(row)?;
        self.rows += 1;
        let evaluated = self.curves.push(row);
        let due = ROWS_BETWEEN_PLOTS.max(self.rows / 20);
        if evaluated || self.rows - self.rows_at_plot >= due { self.plot() } else { Ok(()) }
    }

    /// Syncs the rows to disk. Called before each checkpoint, which relies on them.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn sync(&self) -> Result<(), TrackError> {
        self.metrics.sync()
    }

    /// Draws the plot, if there is something to draw.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn plot(&mut self) -> Result<(), TrackError> {
        self.rows_at_plot = self.rows;
        match loss_svg(&self.curves)? {
            Some(svg) => self.write(LOSS_FILE, svg.as_bytes()),
            None => Ok(()),
        }
    }

    /// Writes `run.json`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_record(&self, record: &RunRecord) -> Result<(), TrackError> {
        let path = self.output_dir.join(RUN_FILE);
        let mut json =
            serde_json::to_string_pretty(record).map_err(|error| TrackError::malformed(&path, error))?;
        json.push('\n');
        self.write(RUN_FILE, json.as_bytes())
    }

    fn write(&self, name: &str, contents: &[u8]) -> Result<(), TrackError> {
        whole_file::write(&self.output_dir.join(name), &self.output_dir, contents)
    }

    /// The directory of the files.
    pub fn output_dir(&self) -> &Path {
        &self.output_dir
    }
}
