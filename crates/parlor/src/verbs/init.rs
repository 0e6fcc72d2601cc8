//! `parlor init`: writes a commented config file.

use std::fs::File;
use std::io::Write;

use parlor::Config;
use parlor::configuration::commented_yaml;
use serde_json::{Value, json};

use crate::cli::InitArgs;
use crate::context::Context;
use crate::failure::Failure;

const HEADER: &str = "\
# Parlor's configuration. Every key is here with its meaning; what you delete takes its default.
#
#   parlor config validate        checks this file
#   parlor data validate ./data   checks your data
#   parlor train                  trains as this file says
#   parlor chat -m MODEL          talks with the result
#
# Keys can also be set by `--set KEY=VALUE` and by the environment (PARLOR__SECTION__KEY).

";

/// Values that differ from the defaults in the file: it trains a small model on the user's own data, and
/// enables no tracker.
fn choices() -> Vec<(&'static str, Value)> {
    vec![
        ("training.training_type", json!("from_scratch")),
        ("training.from_scratch.learning_rate", json!(1e-3)),
        ("training.from_scratch.warmup_ratio", json!(0.05)),
        ("monitoring.mlflow.enabled", json!(false)),
    ]
}

pub(super) fn run(context: &Context, args: &InitArgs) -> Result<(), Failure> {
    let path = &args.file;
    let text = format!("{HEADER}{}", commented_yaml::<Config>(&choices()));
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::input_help(
            format!("{} exists already, and is left as it is", path.display()),
            "name another file (`parlor init FILE`), or move this one away",
        ),
        _ => Failure::input(format!("cannot write {}: {error}", path.display())),
    };
    let mut file = File::create_new(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    context.output.result(&json!({ "path": path }), || {
        format!(
            "wrote {}\nput data into ./data/train (.jsonl, .json, .txt, .md), then: parlor train",
            path.display()
        )
    })
}
