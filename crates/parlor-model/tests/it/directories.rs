//! Model directories to test with: the committed fixtures, and copies of them to damage.

use std::fs;
use std::path::{Path, PathBuf};

use parlor_model::ModelLoadError;
use serde_json::{Map, Value};
use tempfile::TempDir;

/// The committed model `name`.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models").join(name)
}

/// The names of all committed models.
pub(crate) fn fixtures() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(fixture(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Files of a fixture that are the test's, not the model's.
const NOT_THE_MODEL: [&str; 4] = ["expected.safetensors", "generate.json", "meta.json", "training.json"];

/// A copy of the fixture `name` that may be changed.
pub(crate) fn copy(name: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap();
        if !NOT_THE_MODEL.iter().any(|name| file == *name) {
            fs::copy(&path, dir.path().join(file)).unwrap();
        }
    }
    dir
}

/// Edits a JSON file of a model.
pub(crate) fn edit_json(dir: &Path, name: &str, edit: impl FnOnce(&mut Map<String, Value>)) {
    let path = dir.join(name);
    let mut map = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut map);
    fs::write(&path, serde_json::to_vec(&map).unwrap()).unwrap();
}

/// The error's text, with `dir` written as `DIR`, for snapshots.
pub(crate) fn text(error: &ModelLoadError, dir: &Path) -> String {
    format!("[{}] {error}", error.kind).replace(&dir.display().to_string(), "DIR")
}
