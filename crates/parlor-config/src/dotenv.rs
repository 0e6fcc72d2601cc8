//! The `.env` file: `NAME=value` lines as `dotenvy` reads them, with the line of each.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::document::read_text;
use crate::node::{Origin, Source};
use crate::problem::{Layer, Problem};

/// An environment variable.
#[derive(Clone, Debug)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) value: String,
    /// Its line, when it stands in a file.
    pub(crate) origin: Option<Origin>,
}

/// Variables of the process, which the caller gives.
pub(crate) fn of_process(environment: &[(String, String)]) -> Vec<Variable> {
    let variable = |(name, value): &(String, String)| Variable {
        name: name.clone(),
        value: value.clone(),
        origin: None,
    };
    environment.iter().map(variable).collect()
}

/// Reads `path`; every line that cannot be read is a problem.
pub(crate) fn read(path: &Path, problems: &mut Vec<Problem>) -> Vec<Variable> {
    let layer = Some(Layer::DotEnv);
    let text = match read_text(path) {
        Ok(text) => text,
        Err(problem) => {
            let help = None;
            problems.push(Problem { layer, help, ..*problem });
            return Vec::new();
        }
    };
    let lines: Vec<&str> = text.lines().collect();
    let mut variables = Vec::new();
    let mut next = 0;
    // The end of the last line is part of dotenvy's grammar.
    for entry in dotenvy::from_read_iter(format!("{text}\n").as_bytes()) {
        match entry {
            Ok((name, value)) => {
                let found = (next..lines.len()).find(|&at| value_start(lines[at], &name).is_some());
                let origin = found.map(|at| {
                    next = at + 1;
                    let start = value_start(lines[at], &name).unwrap_or(0);
                    origin(path, at, lines[at], start..lines[at].trim_end().len())
                });
                variables.push(Variable { name, value, origin });
            }
            Err(error) => {
                let begin = match &error {
                    dotenvy::Error::LineParse(text, _) => text.lines().next().unwrap_or_default().trim_end(),
                    _ => "",
                };
                let found = (next..lines.len()).find(|&at| !begin.is_empty() && lines[at].starts_with(begin));
                let place = found.and_then(|at| {
                    next = at + 1;
                    // A line may hold a key: its text stays out of the message.
                    let hidden = "*".repeat(lines[at].len());
                    origin(path, at, &hidden, 0..hidden.len()).place()
                });
                let message = match &place {
                    Some(_) => "this line is not of the form NAME=value".to_owned(),
                    None => format!("{}: a line is not of the form NAME=value", path.display()),
                };
                let problem = Problem::at("", message).help("a value with spaces stands in quotes");
                problems.push(Problem { place, layer, ..problem });
            }
        }
    }
    variables
}

/// Where the value begins on a line that sets `name`.
fn value_start(line: &str, name: &str) -> Option<usize> {
    let rest = line.trim_start();
    let rest = rest.strip_prefix("export ").map_or(rest, str::trim_start);
    let rest = rest.strip_prefix(name)?.trim_start().strip_prefix('=')?.trim_start();
    Some(line.len() - rest.len())
}

/// A place on line `at`; its source is that line alone, below empty ones: the others may hold keys.
fn origin(path: &Path, at: usize, line: &str, span: Range<usize>) -> Origin {
    let text = format!("{}{line}", "\n".repeat(at));
    let source = Source { name: path.to_owned(), text: text.into(), layer: Layer::DotEnv };
    Origin { source: Arc::new(source), span: at + span.start..at + span.end.max(span.start) }
}
