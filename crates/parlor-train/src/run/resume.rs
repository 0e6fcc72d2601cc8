//! Which checkpoint a run resumes from, and clearing what earlier runs left in its directory.

use super::output_dir::{OutputDir, Start};
use crate::checkpoint::{
    Checkpoint, TRAINER_STATE, list_checkpoints, newest_checkpoint, open_checkpoint, remove_temporaries,
};
use crate::error::TrainError;
use crate::reference::REFERENCE;
use parlor_files::atomic_dir;

/// The checkpoint to resume from, if any; refuses an output directory that `start` does not allow.
///
/// # Errors
/// [`TrainError::Occupied`], [`TrainError::NothingToResume`], [`TrainError::Damaged`].
pub(super) fn find_checkpoint(
    output: &OutputDir,
    start: &Start,
    warnings: &mut Vec<String>,
) -> Result<Option<Checkpoint>, TrainError> {
    let directory = match start {
        Start::New => {
            output.require_free()?;
            return Ok(None);
        }
        Start::Overwrite => return Ok(None),
        Start::Resume => output.path(),
        Start::ResumeFrom(path) => {
            let parent = path.parent().and_then(|parent| parent.canonicalize().ok());
            let inside = output.path().canonicalize().ok();
            if path.join(TRAINER_STATE).exists() {
                // A checkpoint from another directory resumes in this one, which must be free.
                if parent.is_none() || parent != inside {
                    output.require_free()?;
                }
                return Ok(Some(open_checkpoint(path)?));
            }
            if path.canonicalize().ok() != inside {
                output.require_free()?;
            }
            path.as_path()
        }
    };
    let newest = newest_checkpoint(directory);
    for damaged in &newest.damaged {
        warnings.push(format!("{damaged}; going on from the one before it"));
    }
    match newest.checkpoint {
        Some(checkpoint) => Ok(Some(checkpoint)),
        // A run that was killed before its first checkpoint starts again.
        None if *start == Start::Resume
            && list_checkpoints(directory).is_empty()
            && !output.path().join("config.json").exists() =>
        {
            warnings.push(format!(
                "{} holds no checkpoint yet: starting from the beginning",
                directory.display()
            ));
            Ok(None)
        }
        None => Err(TrainError::NothingToResume { path: directory.to_owned(), damaged: newest.damaged }),
    }
}

/// Removes what an earlier run (`overwrite`), a killed one, or a later part of this one left behind. Returns
/// warnings for the user.
pub(super) fn clear_leftovers(
    output: &OutputDir,
    resume: Option<&Checkpoint>,
    overwrite: bool,
    needs_reference: bool,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let directory = output.path();
    let removed = remove_temporaries(directory);
    if !removed.is_empty() {
        warnings.push(format!("removed what a killed run was still writing: {}", removed.join(", ")));
    }
    let Some(checkpoint) = resume else {
        // A resume that found no checkpoint starts again; `New` found nothing to clear.
        if overwrite || list_checkpoints(directory).is_empty() {
            output.clear();
        }
        // A cached reference names its model and examples, so it is kept where it may serve again.
        if !needs_reference {
            atomic_dir::remove(&directory.join(REFERENCE));
        }
        return warnings;
    };
    // Later checkpoints are damaged, or of steps that are taken again.
    for (step, path) in list_checkpoints(directory) {
        if step > checkpoint.state.step {
            atomic_dir::remove(&path);
            warnings.push(format!("removed {}, which comes after the checkpoint in use", path.display()));
        }
    }
    warnings
}
