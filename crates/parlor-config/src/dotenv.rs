//! The `.env` file: `NAME=value` lines as `dotenvy` reads them, with the line of each.
//!
//! `dotenvy` interpolates `$NAME` from the environment of the process, which a library does not read. So each
//! `$` is masked before parsing, and interpolated here from the environment that the caller passed and the
//! lines before.

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
    /// Its line in a file.
    pub(crate) origin: Option<Origin>,
}

/// Variables of the process, which the caller passes.
pub(crate) fn of_process(environment: &[(String, String)]) -> Vec<Variable> {
    let variable = |(name, value): &(String, String)| Variable {
        name: name.clone(),
        value: value.clone(),
        origin: None,
    };
    environment.iter().map(variable).collect()
}

/// Masks of a `$` that begins a name, and of one that does not: private-use characters that no text has.
const NAME: char = '\u{FDD0}';
const LITERAL: char = '\u{FDD1}';

/// Reads `path`; every line that cannot be read is a problem.
pub(crate) fn read(path: &Path, environment: &[Variable], problems: &mut Vec<Problem>) -> Vec<Variable> {
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
    let guarded = guarded(&text);
    let guarded_lines: Vec<&str> = guarded.lines().collect();
    let mut variables: Vec<Variable> = Vec::new();
    let mut next = 0;
    // dotenvy's grammar requires a line break at the end.
    for entry in dotenvy::from_read_iter(format!("{guarded}\n").as_bytes()) {
        match entry {
            Ok((name, value)) => {
                let found = (next..lines.len()).find(|&at| value_start(lines[at], &name).is_some());
                let origin = found.map(|at| {
                    next = at + 1;
                    let start = value_start(lines[at], &name).unwrap_or(0);
                    origin(path, at, lines[at], start..lines[at].trim_end().len())
                });
                let lookup = |name: &str| {
                    let mut known = environment.iter().rev().chain(variables.iter().rev());
                    let found = known.find(|known| known.name == name && !known.value.is_empty());
                    found.map(|found| found.value.as_str())
                };
                let value = expanded(&value, &lookup);
                variables.push(Variable { name, value, origin });
            }
            Err(error) => {
                let begin = match &error {
                    dotenvy::Error::LineParse(text, _) => text.lines().next().unwrap_or_default().trim_end(),
                    _ => "",
                };
                // The whole line, or its value.
                let found = (next..lines.len()).find(|&at| {
                    let line = guarded_lines.get(at).map_or("", |line| line.trim_end());
                    !begin.is_empty() && (line.starts_with(begin) || line.ends_with(begin))
                });
                let place = found.and_then(|at| {
                    next = at + 1;
                    // The line may hold a secret, so its text is not in the message.
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

/// The text with every `$` masked; `\$` and one in single quotes are literal.
fn guarded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut quote = None;
    let (mut comment, mut blank) = (false, true);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' if quote.is_none() => comment = false,
            _ if comment => {}
            '#' if quote.is_none() && blank => comment = true,
            '\'' | '"' if quote.is_none() => quote = Some(c),
            _ if quote == Some(c) => quote = None,
            '\\' if quote != Some('\'') => {
                match chars.next() {
                    Some('$') => out.push(LITERAL),
                    next => out.extend([Some(c), next].into_iter().flatten()),
                }
                blank = false;
                continue;
            }
            _ => {}
        }
        // A comment begins a line or follows white space, or the `=` of an empty value.
        blank = c.is_whitespace();
        out.push(match c {
            '$' if comment || quote == Some('\'') => LITERAL,
            '$' => NAME,
            c => c,
        });
    }
    out
}

/// The value with its names interpolated; an unset one is empty.
fn expanded<'v>(value: &str, lookup: &dyn Fn(&str) -> Option<&'v str>) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut parts = value.split(NAME);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let braced = part.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let (name, rest) =
            braced.unwrap_or_else(|| part.split_at(part.find(|c| !is_part(c)).unwrap_or(part.len())));
        if name.is_empty() || !name.chars().all(is_part) {
            // A dollar without a name.
            out.push('$');
            out.push_str(part);
        } else {
            out.push_str(lookup(name).unwrap_or_default());
            out.push_str(rest);
        }
    }
    out.replace(LITERAL, "$")
}

/// The byte where the value begins on a line that sets `name`.
fn value_start(line: &str, name: &str) -> Option<usize> {
    let rest = line.trim_start();
    let rest = rest.strip_prefix("export ").map_or(rest, str::trim_start);
    let rest = rest.strip_prefix(name)?.trim_start().strip_prefix('=')?.trim_start();
    Some(line.len() - rest.len())
}

/// A place on line `at`. Its source is that line alone, after empty lines, because other lines may hold secrets.
fn origin(path: &Path, at: usize, line: &str, span: Range<usize>) -> Origin {
    let text = format!("{}{line}", "\n".repeat(at));
    let source = Source { name: path.to_owned(), text: text.into(), layer: Layer::DotEnv };
    Origin { source: Arc::new(source), span: at + span.start..at + span.end.max(span.start) }
}
