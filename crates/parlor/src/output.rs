//! Output: results go to stdout, as text or as JSON, and everything else to stderr.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::failure::Failure;

/// The form of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Text for people.
    Text,
    /// One JSON object, or one per line.
    Json,
}

impl Output {
    /// Writes a result: `value` as one line of JSON, or `text`.
    pub(crate) fn result(self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        match self {
            Output::Text => line(&text()),
            Output::Json => json(value),
        }
    }

    pub(crate) fn is_json(self) -> bool {
        self == Output::Json
    }
}

/// Whether results are coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colours {
    Off,
    On,
}

impl Colours {
    /// On a terminal, unless `NO_COLOR` is set (no-color.org); anywhere when `CLICOLOR_FORCE` is.
    pub(crate) fn of_stdout() -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let wanted = set("CLICOLOR_FORCE") || (io::stdout().is_terminal() && !dumb);
        if wanted && !set("NO_COLOR") { Colours::On } else { Colours::Off }
    }
}

/// Writes one line of JSON to stdout.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::failed(format!("the result cannot be written as JSON: {error}")))?;
    line(&text)
}

/// Writes `text` to stdout, with one line break at its end.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    piece(text)?;
    if text.ends_with('\n') || text.is_empty() { Ok(()) } else { piece("\n") }
}

/// Writes `text` to stdout as it is, at once.
pub(crate) fn piece(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // A reader that closes the pipe early (`| head`) is not a failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::reader_gone()),
        Err(error) => Err(Failure::failed(format!("cannot write to stdout: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// Writes a line to stderr. A failure to write cannot be reported and is ignored.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
