//! A run: started, logged to and finished, in the local files and in every tracker.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::clock::Clock;
use crate::config::{MlflowConfig, MonitoringConfig};
use crate::error::TrackError;
use crate::local_files::{LOSS_FILE, LocalFiles};
use crate::mlflow::{MlflowFileStore, MlflowRun};
use crate::row::Row;
use crate::run_record::{RUN_FILE, Resumption, RunInfo, RunRecord, RunStatus};
use crate::secret::REDACTED;
use crate::tracker::Tracker;

const MLFLOW: &str = "mlflow";

/// The arguments of [`Run::start`].
#[derive(Clone, Debug)]
pub struct RunStart {
    /// Directory of the local files.
    pub output_dir: PathBuf,
    /// Number of steps done, to resume a run; `None` starts a new one.
    pub resume_from: Option<u64>,
    /// Its inputs.
    pub info: RunInfo,
    /// 32 hex digits; `None` draws them at random. A resumed run keeps its own.
    pub run_id: Option<String>,
    /// A source of the current time.
    pub clock: Clock,
}

impl RunStart {
    /// A new run in `output_dir`, on the system's clock.
    pub fn new(output_dir: impl Into<PathBuf>, info: RunInfo) -> Self {
        let output_dir = output_dir.into();
        Self { output_dir, resume_from: None, info, run_id: None, clock: Clock::system() }
    }
}

/// A run being recorded. When it is dropped without [`Run::finish`], it is recorded as failed.
///
/// ```
/// use parlor_track::{MonitoringConfig, Row, Run, RunInfo, RunStart, RunStatus};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// let start = RunStart::new(directory.path(), RunInfo::default());
/// // Local files only: MLflow is enabled by default.
/// let mut config = MonitoringConfig::default();
/// config.mlflow.enabled = false;
/// let mut run = Run::start(&config, start)?;
/// for step in 1..=3 {
///     run.log(&Row::new(step).with("loss", 2.0 / step as f64))?;
/// }
/// run.finish(RunStatus::Finished, Some(0))?;
/// assert!(directory.path().join("metrics.jsonl").is_file());
/// assert!(directory.path().join("loss.svg").is_file());
/// # Ok(())
/// # }
/// ```
pub struct Run {
    record: RunRecord,
    files: LocalFiles,
    trackers: Vec<Box<dyn Tracker>>,
    reported: BTreeSet<(&'static str, &'static str)>,
    clock: Clock,
}

impl Run {
    /// Starts or resumes a run, in the local files and in every tracker that is enabled.
    ///
    /// # Errors
    /// When the configuration enables something unsupported, or the local files cannot be written. A tracker
    /// that cannot start is logged and left out.
    pub fn start(config: &MonitoringConfig, start: RunStart) -> Result<Self, TrackError> {
        let unsupported = config.unsupported();
        if !unsupported.is_empty() {
            return Err(TrackError::Unsupported(unsupported));
        }
        let RunStart { output_dir, resume_from, mut info, run_id, clock } = start;
        info.params.retain(|_, value| value.as_str() != Some(REDACTED));
        let now = clock.now();
        let before = resume_from.and_then(|_| earlier_record(&output_dir));
        let record = match (before, resume_from) {
            (Some(before), Some(step)) => {
                let mut resumed = before.resumed;
                resumed.push(Resumption { at: now, step });
                let (status, exit_status, ended_at) = (RunStatus::Running, None, None);
                RunRecord { status, exit_status, ended_at, resumed, info, ..before }
            }
            (_, resume_from) => RunRecord {
                run_id: run_id.unwrap_or_else(|| format!("{:032x}", fastrand::u128(..))),
                name: config.mlflow.run_name.clone().unwrap_or_else(|| default_name(&output_dir, now)),
                status: RunStatus::Running,
                exit_status: None,
                started_at: now,
                ended_at: None,
                resumed: resume_from.map(|step| Resumption { at: now, step }).into_iter().collect(),
                info,
                trackers: Default::default(),
            },
        };
        let files = match resume_from {
            Some(step) => LocalFiles::resume(&output_dir, &record.name, step)?,
            None => LocalFiles::create(&output_dir, &record.name)?,
        };
        let mut run = Self { record, files, trackers: Vec::new(), reported: BTreeSet::new(), clock };
        if config.mlflow.enabled {
            run.start_mlflow(&config.mlflow, resume_from);
        }
        run.files.write_record(&run.record)?;
        Ok(run)
    }

    fn start_mlflow(&mut self, config: &MlflowConfig, resume_from: Option<u64>) {
        let before: Option<MlflowRun> =
            self.record.trackers.get(MLFLOW).and_then(|run| serde_json::from_value(run.clone()).ok());
        let record = &self.record;
        let create = || {
            let clock = self.clock.clone();
            MlflowFileStore::create(config, &record.run_id, &record.name, &record.info, clock)
        };
        let started = match (before, resume_from) {
            (Some(run), Some(step)) => MlflowFileStore::resume(run, &record.info, step, self.clock.clone())
                .or_else(|error| {
                    tracing::warn!("the run in MLflow cannot go on ({error}); it is started anew there");
                    create()
                }),
            _ => create(),
        };
        match started {
            Ok(store) => {
                let directory = store.run().directory.display().to_string();
                tracing::info!(
                    "MLflow records are in {directory}; see them with: MLFLOW_ALLOW_FILE_STORE=true mlflow ui --backend-store-uri {directory:?}"
                );
                if let Ok(run) = serde_json::to_value(store.run()) {
                    self.record.trackers.insert(MLFLOW.to_owned(), run);
                }
                self.trackers.push(Box::new(store));
            }
            Err(error) => {
                tracing::warn!("the run is not recorded in MLflow: {error}");
            }
        }
    }

    /// Adds a tracker that is started already.
    pub fn add_tracker(&mut self, tracker: Box<dyn Tracker>) {
        self.trackers.push(tracker);
    }

    /// The run's record.
    pub fn record(&self) -> &RunRecord {
        &self.record
    }

    /// Records a row.
    ///
    /// # Errors
    /// When the local files cannot be written.
    pub fn log(&mut self, row: &Row) -> Result<(), TrackError> {
        let written = self.files.log(row);
        self.each("log", |tracker| tracker.log(row));
        written
    }

    /// Syncs the local rows to disk. Called before each checkpoint, which relies on them.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn sync(&mut self) -> Result<(), TrackError> {
        self.files.sync()
    }

    /// Copies a small file to the trackers.
    pub fn artifact(&mut self, path: &Path) {
        self.each("artifact", |tracker| tracker.artifact(path));
    }

    /// Ends the run: the plot, `run.json`, and every tracker. `exit_status` is the program's; `None` takes
    /// the one that goes with `status`.
    ///
    /// # Errors
    /// When the local files cannot be written; the trackers are ended all the same.
    pub fn finish(mut self, status: RunStatus, exit_status: Option<i32>) -> Result<(), TrackError> {
        self.end(status, exit_status)
    }

    fn end(&mut self, status: RunStatus, exit_status: Option<i32>) -> Result<(), TrackError> {
        self.record.status = status;
        self.record.exit_status = exit_status.or(status.exit_status());
        self.record.ended_at = Some(self.clock.now());
        let plotted = self.files.plot();
        let recorded = self.files.write_record(&self.record);
        for name in [RUN_FILE, LOSS_FILE] {
            let path = self.files.output_dir().join(name);
            if path.exists() {
                self.artifact(&path);
            }
        }
        self.each("finish", |tracker| tracker.finish(status));
        plotted.and(recorded)
    }

    /// Calls every tracker; logs a failure the first time it happens.
    fn each(
        &mut self,
        action: &'static str,
        mut act: impl FnMut(&mut dyn Tracker) -> Result<(), TrackError>,
    ) {
        for tracker in &mut self.trackers {
            if let Err(error) = act(tracker.as_mut()) {
                let name = tracker.name();
                if self.reported.insert((name, action)) {
                    tracing::warn!(
                        "{name}: {action}: {error} (training goes on; further ones are not shown)"
                    );
                } else {
                    tracing::debug!("{name}: {action}: {error}");
                }
            }
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.record.status == RunStatus::Running
            && let Err(error) = self.end(RunStatus::Failed, None)
        {
            tracing::warn!("the run's end could not be recorded: {error}");
        }
    }
}

fn earlier_record(output_dir: &Path) -> Option<RunRecord> {
    RunRecord::read(output_dir).unwrap_or_else(|error| {
        tracing::warn!("{error}; the resumed run gets a new id");
        None
    })
}

/// `trained-20261123-043000`
fn default_name(output_dir: &Path, now: jiff::Timestamp) -> String {
    let last = std::path::absolute(output_dir).ok();
    let last = last.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    format!("{}-{}", last.unwrap_or_else(|| "run".to_owned()), now.strftime("%Y%m%d-%H%M%S"))
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("record", &self.record).finish_non_exhaustive()
    }
}
