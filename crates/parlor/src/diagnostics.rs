//! Reports on stderr, rendered by `miette`: what happened, the place with the text underlined, and what to do.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use miette::{Diagnostic, LabeledSpan, MietteHandlerOpts, NamedSource, Report, SourceCode};
use parlor::configuration::{Layer, Place, Problem};

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

/// A problem of the configuration, with the text underlined.
#[derive(Clone, Debug)]
struct ConfigProblem {
    text: String,
    help: Option<String>,
    place: Option<(NamedSource<String>, LabeledSpan)>,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for ConfigProblem {}

impl Diagnostic for ConfigProblem {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.place.as_ref().map(|(source, _)| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.place.as_ref().map(|(_, span)| Box::new(std::iter::once(span.clone())) as Box<_>)
    }
}

/// A problem of the configuration as a report.
pub(crate) fn of_problem(problem: Problem) -> Report {
    let Problem { path, message, help, place, layer } = problem;
    let key = if path.is_empty() { message.clone() } else { format!("`{path}`: {message}") };
    // For a file, the rendering names line and column; a variable or a flag is named in words.
    let text = match (&place, layer) {
        (Some(place), Some(Layer::Environment | Layer::DotEnv)) => {
            format!("environment variable {}: {key}", place.file.display())
        }
        _ => key,
    };
    let place = place.map(|Place { file, offset, len, source, .. }| {
        let label = LabeledSpan::new(None, offset, len.max(1).min(source.len().saturating_sub(offset)));
        (NamedSource::new(file.display().to_string(), source.to_string()), label)
    });
    ConfigProblem { text, help, place }.into()
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
        // Lines are wrapped on terminals only, so that programs can read them.
        Box::new(if terminal { options } else { options.width(1000) }.build())
    }));
}

/// Draws reports on stderr, one after another.
pub(crate) fn show(reports: &[Report]) {
    let mut text: String = reports.iter().map(|report| format!("{report:?}\n")).collect();
    if reports.len() > 1 {
        text.push_str(&format!("{} problems\n", reports.len()));
    }
    // A failure to write cannot be reported.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
