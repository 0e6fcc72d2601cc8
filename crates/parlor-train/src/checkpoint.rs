//! `checkpoint-N/`: written atomically, verified before use, and rotated.
//!
//! Layout (INTEROP 5.1): the model in HF layout (so that `-m checkpoint-N` works), `optimizer.safetensors`,
//! `trainer_state.json` with exactly HF's fields, and `parlor_state.json`, which names every other file with its
//! size and hash. Leaves out the pickled files of HF's `Trainer`.

mod identity;
mod parlor_state;
mod trainer_state;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub use identity::Identity;
pub use parlor_state::{Best, FileRecord, Generator, PARLOR_STATE, ParlorState, Totals};
pub use trainer_state::TrainerState;

use crate::hash::hex;
use parlor_files::atomic_file::TEMPORARY_PREFIX;
use parlor_files::{FillError, WriteError, atomic_dir, human_bytes};

/// Name of the optimizer's state within a checkpoint.
pub const OPTIMIZER_STATE: &str = "optimizer.safetensors";
/// Name of HF's state within a checkpoint.
pub const TRAINER_STATE: &str = "trainer_state.json";

/// A checkpoint that was verified.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Its directory.
    pub path: PathBuf,
    /// Parlor's state.
    pub state: ParlorState,
    /// HF's state.
    pub trainer_state: TrainerState,
}

/// Why a checkpoint cannot be used.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("checkpoint {path} is damaged: {file}: {what}", path = path.display())]
pub struct DamagedCheckpoint {
    /// The checkpoint's directory.
    pub path: PathBuf,
    /// The file in it.
    pub file: String,
    /// What was expected and what was found.
    pub what: String,
}

/// Name of the checkpoint after `step` steps.
pub fn checkpoint_name(step: u64) -> String {
    format!("checkpoint-{step}")
}

/// Writes `checkpoint-N` into `output_dir`. `fill` writes the model and the optimizer's state into the
/// directory that it is given; the two state files are added here.
///
/// # Errors
/// What `fill` or the system says; the temporary directory is removed then, and earlier checkpoints
/// are untouched.
pub fn write_checkpoint(
    output_dir: &Path,
    state: &ParlorState,
    trainer_state: &TrainerState,
    fill: &dyn Fn(&Path) -> Result<(), FillError>,
) -> Result<PathBuf, WriteError> {
    atomic_dir::replace(output_dir, &checkpoint_name(state.step), &mut |directory| {
        fill(directory)?;
        let mut text = serde_json::to_vec_pretty(trainer_state)?;
        text.push(b'\n');
        fs::write(directory.join(TRAINER_STATE), text)?;
        let mut state = state.clone();
        state.files = records(directory)?;
        fs::write(directory.join(PARLOR_STATE), state.to_json()?)?;
        Ok(())
    })
}

fn records(directory: &Path) -> std::io::Result<BTreeMap<String, FileRecord>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.insert(entry.file_name().to_string_lossy().into_owned(), record(&entry.path())?);
        }
    }
    Ok(files)
}

fn record(path: &Path) -> std::io::Result<FileRecord> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(FileRecord { bytes, sha256: hex(&hasher.finalize()) });
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
    }
}

/// Reads the checkpoint in `path` and verifies size and hash of every file.
///
/// # Errors
/// The first file that differs from what was written.
pub fn open_checkpoint(path: &Path) -> Result<Checkpoint, DamagedCheckpoint> {
    let damaged =
        |file: &str, what: String| DamagedCheckpoint { path: path.to_owned(), file: file.to_owned(), what };
    let text = fs::read(path.join(PARLOR_STATE)).map_err(|error| damaged(PARLOR_STATE, error.to_string()))?;
    let state = ParlorState::from_json(&text).map_err(|what| damaged(PARLOR_STATE, what))?;
    for required in [OPTIMIZER_STATE, TRAINER_STATE] {
        if !state.files.contains_key(required) {
            return Err(damaged(required, "it is not among the checkpoint's files".to_owned()));
        }
    }
    for (name, expected) in &state.files {
        let found = record(&path.join(name)).map_err(|error| damaged(name, error.to_string()))?;
        if found.bytes != expected.bytes {
            let (found, expected) = (human_bytes(found.bytes), human_bytes(expected.bytes));
            return Err(damaged(name, format!("it holds {found}, expected {expected}")));
        }
        if found.sha256 != expected.sha256 {
            return Err(damaged(name, "its contents have changed since it was written".to_owned()));
        }
    }
    let text =
        fs::read(path.join(TRAINER_STATE)).map_err(|error| damaged(TRAINER_STATE, error.to_string()))?;
    let trainer_state: TrainerState =
        serde_json::from_slice(&text).map_err(|error| damaged(TRAINER_STATE, error.to_string()))?;
    Ok(Checkpoint { path: path.to_owned(), state, trainer_state })
}

/// The checkpoints in `output_dir` by step, oldest first, unverified.
pub fn list_checkpoints(output_dir: &Path) -> Vec<(u64, PathBuf)> {
    let mut found: Vec<(u64, PathBuf)> = fs::read_dir(output_dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let step = name.to_str()?.strip_prefix("checkpoint-")?.parse().ok()?;
            entry.path().is_dir().then(|| (step, entry.path()))
        })
        .collect();
    found.sort();
    found
}

/// Result of [`newest_checkpoint`].
#[derive(Clone, Debug, Default)]
pub struct Newest {
    /// The newest intact checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// Newer ones that are damaged.
    pub damaged: Vec<DamagedCheckpoint>,
}

/// The newest intact checkpoint of a run, and the damaged ones that are newer.
pub fn newest_checkpoint(output_dir: &Path) -> Newest {
    let mut newest = Newest::default();
    for (_, path) in list_checkpoints(output_dir).into_iter().rev() {
        match open_checkpoint(&path) {
            Ok(checkpoint) => {
                newest.checkpoint = Some(checkpoint);
                break;
            }
            Err(error) => newest.damaged.push(error),
        }
    }
    newest
}

/// Removes the temporary files and directories that a killed run left in `output_dir`; returns their names.
pub fn remove_temporaries(output_dir: &Path) -> Vec<String> {
    let mut removed = Vec::new();
    for entry in fs::read_dir(output_dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(TEMPORARY_PREFIX) {
            atomic_dir::remove(&entry.path());
            removed.push(name);
        }
    }
    removed.sort();
    removed
}

/// Removes the oldest checkpoints until `limit` are left. The one of step `best` is kept in addition.
pub fn rotate_checkpoints(output_dir: &Path, limit: Option<usize>, best: Option<u64>) {
    let Some(limit) = limit else { return };
    let checkpoints = list_checkpoints(output_dir);
    let surplus = checkpoints.len().saturating_sub(limit.max(1));
    for (step, path) in &checkpoints[..surplus] {
        if Some(*step) != best {
            // Renamed first, so that a kill during the removal leaves no checkpoint that looks intact.
            let parked = output_dir.join(format!("{TEMPORARY_PREFIX}old-{}", checkpoint_name(*step)));
            if fs::rename(path, &parked).is_ok() {
                atomic_dir::remove(&parked);
            }
        }
    }
}
