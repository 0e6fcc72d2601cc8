//! Reports on stderr, drawn by `miette`: what happened, the place with the offending text underlined, what to do.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, Report, SourceCode};

/// A report without a place in a file.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    text: String,
    help: Option<String>,
}

impl Message {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), help: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Message {}

impl Diagnostic for Message {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }
}

/// Draws reports on stderr, one after another.
pub(crate) fn show(reports: &[Report]) {
    let terminal = io::stderr().is_terminal();
    let colour = terminal && std::env::var_os("NO_COLOR").is_none();
    let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    // Lines are wrapped for eyes only: what programs read stays in one piece.
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(if terminal { terminal_width() } else { 1000 })
        .with_wrap_lines(terminal)
        .with_break_words(false);
    let mut text = String::new();
    for report in reports {
        let start = text.len();
        if handler.render_report(&mut text, report.as_ref()).is_err() {
            text.truncate(start);
            text.push_str(&report.to_string());
        }
        text.push('\n');
    }
    if reports.len() > 1 {
        text.push_str(&format!("{} problems\n", reports.len()));
    }
    // Nobody can be told when this fails.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

fn terminal_width() -> usize {
    let (_, width) = console_size();
    width.clamp(60, 120)
}
