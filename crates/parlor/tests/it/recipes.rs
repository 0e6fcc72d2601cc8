//! Every recipe, shortened, on the bundled data.

use std::path::{Path, PathBuf};

use crate::program::parlor;
use crate::tiny::{model, text};

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs a recipe for two steps, and returns its output directory.
fn run(directory: &Path, name: &str) -> PathBuf {
    let recipe = project().join("recipes").join(name);
    let args =
        ["train", "-c", text(&recipe), "--max-steps", "2", "--set", "training.output_dir=out", "--overwrite"];
    // The recipes start from the model that `from_scratch.yaml` makes; here a smaller one stands for it.
    let base = format!("model.name={}", text(&model()));
    let shorter = ["--set", "model.max_length=256", "--set", "data.max_length=128"];
    let args: Vec<&str> = match name {
        "from_scratch.yaml" => args.to_vec(),
        _ => [&args[..], &["--set", &base], &shorter].concat(),
    };
    parlor(directory, &args).ok();
    directory.join("out")
}

#[test]
fn every_recipe_runs() {
    let directory = tempfile::tempdir().unwrap();
    // A recipe names the bundled data as seen from the project.
    std::os::unix::fs::symlink(project().join("datasets"), directory.path().join("datasets")).unwrap();
    let mut names: Vec<String> = std::fs::read_dir(project().join("recipes"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() >= 3, "{names:?}");
    for name in names {
        let output = run(directory.path(), &name);
        let found =
            ["model.safetensors", "adapter_model.safetensors"].map(|file| output.join(file).is_file());
        assert!(found[0] != found[1], "{name} leaves a model or an adapter");
    }
}
