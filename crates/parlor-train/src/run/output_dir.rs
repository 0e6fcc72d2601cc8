//! The output directory of a run: locking it, refusing one that is in use, and clearing it.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::TrainError;
use crate::record::SAMPLES_FILE;
use parlor_files::atomic_dir;
use parlor_files::atomic_file::TEMPORARY_PREFIX;

/// What to do with an output directory that holds a run already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Refuse it.
    #[default]
    New,
    /// Remove that run's files.
    Overwrite,
    /// Resume from its newest intact checkpoint.
    Resume,
    /// Resume from this `checkpoint-N`, or from the newest one in this directory.
    ResumeFrom(PathBuf),
}

/// Files at the top of the directory that belong to a run. Others are never touched.
const RUN_FILES: [&str; 5] = ["metrics.jsonl", "run.json", "config.resolved.yaml", "loss.svg", SAMPLES_FILE];
const LOCK: &str = ".parlor.lock";

/// The directory, locked until this is dropped or the process ends.
#[derive(Debug)]
pub struct OutputDir {
    path: PathBuf,
    /// None when it is not locked.
    lock: Option<File>,
}

impl OutputDir {
    /// Creates the directory if needed, checks that it is writable, and locks it.
    ///
    /// # Errors
    /// [`TrainError::NotWritable`] or [`TrainError::Locked`].
    pub fn acquire(path: &Path) -> Result<Self, TrainError> {
        let refused = |source| TrainError::NotWritable { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(refused)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK))
            .map_err(refused)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), lock: Some(lock) }),
            Err(TryLockError::WouldBlock) => Err(TrainError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(refused(source)),
        }
    }

    /// The directory without a lock, for those who write nothing: the ranks other than 0, and forecasts.
    pub fn unlocked(path: &Path) -> Self {
        Self { path: path.to_owned(), lock: None }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses a directory that holds a run or a model.
    ///
    /// # Errors
    /// [`TrainError::Occupied`] with what was found.
    pub fn require_free(&self) -> Result<(), TrainError> {
        if self.lock.is_none() {
            return Ok(());
        }
        let mut found = self.run_entries();
        if found.is_empty() {
            return Ok(());
        }
        let more = found.len().saturating_sub(3);
        found.truncate(3);
        let mut found = found.join(", ");
        if more > 0 {
            found.push_str(&format!(" and {more} more"));
        }
        Err(TrainError::Occupied { path: self.path.clone(), found })
    }

    /// Removes the files of a run, and leaves everything else.
    pub fn clear(&self) {
        for name in self.run_entries() {
            atomic_dir::remove(&self.path.join(name));
        }
    }

    /// Names of the files and directories that belong to a run, sorted.
    fn run_entries(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&self.path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| belongs_to_run(name))
            .collect();
        names.sort();
        names
    }
}

fn belongs_to_run(name: &str) -> bool {
    let checkpoint = name.strip_prefix("checkpoint-").is_some_and(|step| step.parse::<u64>().is_ok());
    let model = name.ends_with(".safetensors") || name == "model.safetensors.index.json";
    let temporary = name.starts_with(TEMPORARY_PREFIX);
    checkpoint || model || temporary || name == "best" || RUN_FILES.contains(&name)
}
