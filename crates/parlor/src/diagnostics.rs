//! Reports on stderr, drawn by `miette`: what happened, the place with the offending text underlined, what to do.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use miette::{Diagnostic, LabeledSpan, MietteHandlerOpts, NamedSource, Report, SourceCode};

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

/// Chooses how reports are drawn; before the first one is made.
pub(crate) fn install() {
    let terminal = io::stderr().is_terminal();
    let colour = terminal && std::env::var_os("NO_COLOR").is_none();
    // A second call (tests in one process) keeps the first.
    let _ = miette::set_hook(Box::new(move |_| {
        let options = MietteHandlerOpts::new()
            .unicode(true)
            .color(colour)
            .terminal_links(false)
            .context_lines(1)
            .break_words(false)
            .wrap_lines(terminal);
        // Lines are wrapped for eyes only: what programs read stays in one piece.
        Box::new(if terminal { options } else { options.width(1000) }.build())
    }));
}

/// Draws reports on stderr, one after another.
pub(crate) fn show(reports: &[Report]) {
    let mut text: String = reports.iter().map(|report| format!("{report:?}\n")).collect();
    if reports.len() > 1 {
        text.push_str(&format!("{} problems\n", reports.len()));
    }
    // Nobody can be told when this fails.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
