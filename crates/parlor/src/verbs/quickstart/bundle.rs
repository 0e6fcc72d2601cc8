//! The dialogues that are part of the program, so that `quickstart` needs nothing but the binary.

use std::path::Path;

use include_dir::{Dir, include_dir};
use parlor::train::storage::write_file;

use crate::failure::Failure;

/// Dialogues to train on, and dialogues held out. Source: `datasets/`, written for this project.
static TRAIN: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../datasets/chat");
static EVAL: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../datasets/chat_eval");

/// Questions whose answers are shown after the training.
pub(super) const SAMPLES: [&str; 3] = ["What is Parlor?", "How do I fine-tune a model?", "Hello!"];

/// Writes the dialogues below `directory`, as `train/` and `eval/`.
pub(super) fn write(directory: &Path) -> Result<(), Failure> {
    for (name, files) in [("train", &TRAIN), ("eval", &EVAL)] {
        let below = directory.join(name);
        std::fs::create_dir_all(&below)
            .map_err(|error| Failure::input(format!("cannot write {}: {error}", below.display())))?;
        for file in files.files() {
            let Some(name) = file.path().file_name() else { continue };
            let path = below.join(name);
            write_file(&path, file.contents())
                .map_err(|error| Failure::input(format!("cannot write {}: {error}", path.display())))?;
        }
    }
    Ok(())
}
