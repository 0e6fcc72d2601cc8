//! `parlor config`: shows, validates and explains the configuration.

use parlor::configuration::{Explanation, Problem, SaveMode, json_schema, markdown_reference};
use parlor::{Config, ConfigManager};
use serde_json::{Value, json};

use crate::cli::ConfigVerb;
use crate::context::Context;
use crate::diagnostics;
use crate::failure::Failure;
use crate::output::{self, note};

pub(super) fn run(context: &Context, verb: &ConfigVerb) -> Result<(), Failure> {
    match verb {
        ConfigVerb::Validate => validate(context),
        ConfigVerb::Show { all } => {
            let manager = context.manager()?;
            let mode = if *all { SaveMode::All } else { SaveMode::Changed };
            context.output.result(&manager.shown(mode), || manager.to_yaml(mode))
        }
        ConfigVerb::Get { key } => {
            let value = context.manager()?.value(key)?;
            context.output.result(&json!({ "key": key, "value": value }), || plain(&value))
        }
        ConfigVerb::Explain { key } => {
            let manager = context.manager()?;
            let found = manager.explain(key)?;
            context.output.result(&found, || match found.kind.starts_with(SECTION) {
                true => section(&found, manager),
                false => explained(&found),
            })
        }
        ConfigVerb::Schema { markdown: true } => {
            let text = markdown_reference::<Config>(&parlor::rules());
            context.output.result(&json!({ "markdown": text }), || text.clone())
        }
        ConfigVerb::Schema { markdown: false } => {
            let schema = json_schema::<Config>(&parlor::rules());
            context.output.result(&schema, || format!("{schema:#}"))
        }
    }
}

fn validate(context: &Context) -> Result<(), Failure> {
    let files = context.sources().files;
    let problems = match parlor::load_config(context.sources()) {
        Ok(manager) => {
            // Valid, but it needs a feature that is not supported yet, so `train` would stop: warn.
            let config = manager.get();
            for missing in parlor::train::config::unsupported(&config.training) {
                note(&format!("note: `{}`: {}", missing.key, missing.message));
            }
            for missing in config.monitoring.unsupported() {
                note(&format!("note: `{}`: {}; {}", missing.key, missing.why, missing.help));
            }
            Vec::new()
        }
        Err(error) => error.problems,
    };
    let valid = problems.is_empty();
    if context.output.is_json() {
        let problems: Vec<Value> = problems.iter().map(row).collect();
        output::json(&json!({ "valid": valid, "problems": problems }))?;
        return if valid { Ok(()) } else { Err(Failure::silent_input()) };
    }
    if !valid {
        return Err(Failure::inputs(problems.into_iter().map(diagnostics::of_problem).collect()));
    }
    match files.as_slice() {
        [] => output::line("valid: no config file here, so everything has its default"),
        files => {
            let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
            output::line(&format!("valid: {}", names.join(", ")))
        }
    }
}

fn row(problem: &Problem) -> Value {
    let place = problem.place.as_ref();
    json!({
        "path": problem.path,
        "message": problem.message,
        "file": place.map(|place| &place.file),
        "line": place.map(|place| place.line),
        "column": place.map(|place| place.column),
        "help": problem.help,
    })
}

/// A value for shells: texts without quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(_) | Value::Array(_) => format!("{value:#}"),
        other => other.to_string(),
    }
}

/// The type of a section.
const SECTION: &str = "a section";

/// The keys of a section, a line each.
fn section(found: &Explanation, manager: &ConfigManager<Config>) -> String {
    let below = format!("{}.", found.key);
    let keys = manager.keys();
    let keys = keys.iter().filter(|key| key.starts_with(&below)).filter_map(|key| manager.explain(key).ok());
    let keys: Vec<Explanation> = keys.filter(|key| !key.kind.starts_with(SECTION)).collect();
    let longest = keys.iter().map(|key| key.key.len()).max().unwrap_or(0);
    let mut out = format!("{}: {}\n\n", found.key, found.description);
    for key in &keys {
        out.push_str(&format!("  {:<longest$}  {} ({})\n", key.key, key.value, from(key)));
    }
    format!("{out}\n`parlor config explain` with one of these keys says more about it.\n")
}

/// The layer and the place that a value comes from.
fn from(found: &Explanation) -> String {
    match (&found.file, found.line) {
        (Some(file), Some(line)) => format!("{}, {}:{line}", found.layer, file.display()),
        (Some(file), None) if !file.as_os_str().is_empty() && found.layer.to_string() != "default" => {
            format!("{}, {}", found.layer, file.display())
        }
        _ => found.layer.to_string(),
    }
}

fn explained(found: &Explanation) -> String {
    let mut out = format!("{} = {}\n", found.key, found.value);
    let mut row = |name: &str, text: &str| out.push_str(&format!("  {name:<13}{text}\n"));
    row("from", &from(found));
    row("default", &found.default.to_string());
    row("takes", &found.kind);
    if let Some(range) = &found.range {
        row("allowed", range);
    }
    row("environment", &found.environment.join(", "));
    format!("{out}\n{}\n", found.description)
}
