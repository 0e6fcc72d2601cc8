//! Keys that nobody may read: not on stdout, not on stderr, not in a run's files.

use std::path::Path;

use crate::program::{command, ended};
use crate::tiny::workplace;

const SECRET: &str = "sk-very-secret-0123456789";

fn holds(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holds(&path));
        } else if String::from_utf8_lossy(&std::fs::read(&path).unwrap()).contains(SECRET) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn secrets_are_never_shown_or_written() {
    let directory = workplace();
    let names = ["API_KEY", "WANDB_API_KEY", "COMET_API_KEY", "HF_TOKEN"];
    let runs: [&[&str]; 8] = [
        &["config", "show", "--all"],
        &["config", "show", "--all", "--json"],
        &["config", "get", "serving.api_key"],
        &["config", "get", "serving"],
        &["config", "explain", "monitoring.wandb.api_key"],
        &["config", "explain", "hf_token", "--json"],
        &["config", "validate", "-vvv"],
        &["train", "--max-steps", "2", "-vvv", "--json"],
    ];
    for args in runs {
        let mut command = command(directory.path(), args);
        let ended = ended(command.envs(names.map(|name| (name, SECRET)))).ok();
        assert!(!ended.stdout.contains(SECRET), "{args:?}: {}", ended.stdout);
        assert!(!ended.stderr.contains(SECRET), "{args:?}: {}", ended.stderr);
    }
    assert_eq!(holds(directory.path()), Vec::<String>::new());
    // Nor when another key of the same layer is wrong.
    let mut command = command(directory.path(), &["config", "validate"]);
    let refused = ended(command.env("API_KEY", SECRET).env("SERVER_PORT", "x")).refused(&["SERVER_PORT"]);
    assert!(!refused.stderr.contains(SECRET), "{}", refused.stderr);
}
