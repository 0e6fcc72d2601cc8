//! The dialogues that are embedded in the program, so that `quickstart` needs only the binary.

use std::path::Path;

use include_dir::{Dir, include_dir};
use parlor::files::atomic_file;
use parlor::text::epoch_order;
use serde_json::{Value, json};

use crate::failure::Failure;

/// Dialogues to train on, and dialogues held out. Source: `datasets/`, written for this project.
static TRAIN: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../datasets/chat");
static EVAL: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../datasets/chat_eval");

/// Questions whose answers are shown after the training.
pub(super) const SAMPLES: [&str; 3] = ["What is Parlor?", "How do I fine-tune a model?", "Hello!"];

/// Number of messages of a joined conversation.
const JOINED: usize = 8;

/// Writes the dialogues below `directory`, as `train/` and `eval/`.
pub(super) fn write(directory: &Path) -> Result<(), Failure> {
    let mut messages = Vec::new();
    for (name, files) in [("train", &TRAIN), ("eval", &EVAL)] {
        let below = directory.join(name);
        std::fs::create_dir_all(&below)
            .map_err(|error| Failure::input(format!("cannot write {}: {error}", below.display())))?;
        for file in files.files() {
            let Some(file_name) = file.path().file_name() else { continue };
            put(&below.join(file_name), file.contents())?;
            if name == "train" {
                messages.extend(dialogues(file.contents()));
            }
        }
    }
    put(&directory.join("train").join("joined.jsonl"), joined(&messages).as_bytes())
}

fn put(path: &Path, contents: &[u8]) -> Result<(), Failure> {
    atomic_file::write(path, contents)
        .map_err(|error| Failure::input(format!("cannot write {}: {error}", path.display())))
}

/// The messages of each row.
fn dialogues(contents: &[u8]) -> Vec<Vec<Value>> {
    let rows = contents.split(|&byte| byte == b'\n');
    let rows = rows.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    rows.filter_map(|row| row.get("messages")?.as_array().cloned()).collect()
}

/// The same dialogues, several joined into one conversation. Most are a single question with its answer, and
/// a bot that is trained on nothing else fails at the second question of a chat.
fn joined(dialogues: &[Vec<Value>]) -> String {
    let (mut out, mut conversation) = (String::new(), Vec::new());
    for index in epoch_order(dialogues.len(), 0, 0) {
        conversation.extend_from_slice(&dialogues[index]);
        if conversation.len() >= JOINED {
            out.push_str(&format!("{}\n", json!({ "messages": conversation })));
            conversation.clear();
        }
    }
    if !conversation.is_empty() {
        out.push_str(&format!("{}\n", json!({ "messages": conversation })));
    }
    out
}
