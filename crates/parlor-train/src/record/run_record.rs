//! The record of a run in its directory and with the trackers: its metrics, and how it ended.

use std::path::Path;

use parlor_track::{METRICS_FILE, MonitoringConfig, Row, Run, RunInfo, RunStart, RunStatus, read_rows};
use serde_json::{Map, Value};

use super::recorder::Recorder;
use crate::checkpoint::ParlorState;
use crate::error::TrainError;
use crate::event::Outcome;
use parlor_files::FillError;

/// An open record.
pub(crate) struct RunRecord {
    run: Run,
    /// A step whose evaluation the file has already, although the checkpoint is older: it is evaluated again,
    /// with the same result, which must not be written twice.
    recorded_evaluation: Option<u64>,
}

impl RunRecord {
    /// Starts the record in `directory`, or continues the one of the run that resumes from `resume`.
    ///
    /// # Errors
    /// [`TrainError::Record`].
    pub(crate) fn start(
        directory: &Path,
        info: RunInfo,
        monitoring: &MonitoringConfig,
        resume: Option<&ParlorState>,
    ) -> Result<Self, TrainError> {
        let failed = |error| TrainError::Record(Box::new(error));
        let mut start = RunStart::new(directory, info);
        start.resume_from = resume.map(|state| state.step);
        let opened = Run::start(monitoring, start).map_err(failed)?;
        let pending = resume.filter(|state| state.evaluation_pending).map(|state| state.step);
        let recorded_evaluation = match pending {
            Some(step) => read_rows(&directory.join(METRICS_FILE))
                .map_err(failed)?
                .iter()
                .any(|row| row.step == step && row.number("eval_loss").is_some())
                .then_some(step),
            None => None,
        };
        let mut record = Self { run: opened, recorded_evaluation };
        record.run.artifact(&directory.join("config.resolved.yaml"));
        Ok(record)
    }

    /// Records how the run ended.
    ///
    /// # Errors
    /// [`TrainError::Record`].
    pub(crate) fn finish(self, outcome: Outcome) -> Result<(), TrainError> {
        let status = match outcome {
            Outcome::Completed | Outcome::StoppedEarly => RunStatus::Finished,
            Outcome::Interrupted => RunStatus::Interrupted,
        };
        self.run.finish(status, None).map_err(|error| TrainError::Record(Box::new(error)))
    }

    /// Records that the run failed. The disk may refuse this too; the caller reports the error that it
    /// already has.
    pub(crate) fn fail(self) {
        if let Err(second) = self.run.finish(RunStatus::Failed, None) {
            tracing::warn!("{second}");
        }
    }
}

impl Recorder for RunRecord {
    fn record(&mut self, row: &Map<String, Value>) -> Result<(), FillError> {
        let row = Row::from_json(row)?;
        if self.recorded_evaluation == Some(row.step) && row.number("eval_loss").is_some() {
            self.recorded_evaluation = None;
            return Ok(());
        }
        Ok(self.run.log(&row)?)
    }

    fn sync(&mut self) -> Result<(), FillError> {
        Ok(self.run.sync()?)
    }
}
