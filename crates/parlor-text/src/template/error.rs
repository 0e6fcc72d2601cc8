//! Why a template could not be compiled or rendered.

use minijinja::ErrorKind;

use super::jinja;

/// Why a template could not be compiled or rendered.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum TemplateError {
    /// A file that should hold a template.
    #[error("{0}")]
    Source(String),
    /// The template is not valid.
    #[error("the chat template does not compile (line {line}): {why}")]
    Compile {
        /// Line in the template, from 1.
        line: usize,
        /// What the parser says.
        why: String,
    },
    /// The template refused the conversation with `raise_exception`.
    #[error("the chat template refuses this conversation: {message}")]
    Raised {
        /// The template's own words.
        message: String,
    },
    /// Rendering failed.
    #[error("the chat template failed at line {line}: {why}")]
    Render {
        /// Line in the template, from 1.
        line: usize,
        /// What the engine says.
        why: String,
    },
    /// A message contains the characters of the private marks.
    #[error("a message contains private-use characters that Parlor reserves (U+F0A10 to U+F0A13)")]
    Reserved,
}

/// What the engine says of an error.
pub(super) fn detail(error: &minijinja::Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), |detail| format!("{}: {detail}", error.kind()))
}

/// The error of a rendering: what the template raised itself, or where and why it failed.
pub(super) fn render_error(error: &minijinja::Error) -> TemplateError {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(current) = cause {
        let detail = current.downcast_ref::<minijinja::Error>().and_then(minijinja::Error::detail);
        if let Some((_, message)) = detail.and_then(|detail| detail.split_once(jinja::RAISED)) {
            return TemplateError::Raised { message: message.to_owned() };
        }
        cause = current.source();
    }
    let why = match error.kind() {
        ErrorKind::OutOfFuel => "it runs for too long".to_owned(),
        _ => detail(error),
    };
    TemplateError::Render { line: error.line().unwrap_or(1), why }
}
