//! Failures of verbs: reports for stderr, and an exit code.
//!
//! 1: it failed while running. 2: usage, configuration or input error; nothing was started. 130: interrupted,
//! after saving.

use std::process::ExitCode;

use miette::Report;
use parlor::configuration::{ConfigError, Problem};
use parlor::engine::GenerateError;
use parlor::model::ModelLoadError;
use parlor::text::{DataError, EncodeError, MaskError, TemplateError, TokenizerError};
use parlor::train::TrainError;
use parlor::train::distributed::DistributedError;

use crate::diagnostics::{self, Message};

const FAILED: u8 = 1;
const INPUT: u8 = 2;
/// The exit code that shells report for a program ended by Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

/// Why a verb failed or was interrupted.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    reports: Vec<Report>,
}

impl Failure {
    /// It failed while running.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { code: FAILED, reports: vec![Message::new(message).into()] }
    }

    /// The request cannot be carried out; nothing was started.
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self { code: INPUT, reports: vec![Message::new(message).into()] }
    }

    /// As [`Self::input`], with what to do about it.
    pub(crate) fn input_help(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { code: INPUT, reports: vec![Message::new(message).help(help).into()] }
    }

    /// Several problems of the input at once.
    pub(crate) fn inputs(reports: Vec<Report>) -> Self {
        Self { code: INPUT, reports }
    }

    /// Interrupted by the user; everything has been reported.
    pub(crate) fn interrupted() -> Self {
        Self { code: INTERRUPTED, reports: Vec::new() }
    }

    /// Only an exit code, because the result says everything (`config validate` of an invalid file).
    pub(crate) fn silent_input() -> Self {
        Self { code: INPUT, reports: Vec::new() }
    }

    /// The reader of stdout is gone, so there is nothing to report.
    pub(crate) fn reader_gone() -> Self {
        Self { code: 0, reports: Vec::new() }
    }

    /// Whether it is a requested end, not a failure.
    pub(crate) fn is_orderly(&self) -> bool {
        [0, INTERRUPTED].contains(&self.code)
    }

    /// Writes the reports to stderr; returns the exit code.
    pub(crate) fn show(&self) -> u8 {
        diagnostics::show(&self.reports);
        self.code
    }

    /// Writes the reports to stderr.
    pub(crate) fn report(self) -> ExitCode {
        ExitCode::from(self.show())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::inputs(error.problems.into_iter().map(diagnostics::of_problem).collect())
    }
}

impl From<Box<Problem>> for Failure {
    fn from(problem: Box<Problem>) -> Self {
        Self::inputs(vec![diagnostics::of_problem(*problem)])
    }
}

impl From<ModelLoadError> for Failure {
    fn from(error: ModelLoadError) -> Self {
        let message = format!("{} ({})\nin {}", error.what, error.kind, error.place);
        Self::input_help(message, error.help)
    }
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        let code = if error.before_start() { INPUT } else { FAILED };
        let report = match error {
            TrainError::Model(source) => match source.downcast::<ModelLoadError>() {
                Ok(error) => return Self::from(*error),
                Err(other) => Message::new(other.to_string()),
            },
            other => Message::new(other.to_string()),
        };
        Self { code, reports: vec![report.into()] }
    }
}

impl From<GenerateError> for Failure {
    fn from(error: GenerateError) -> Self {
        match error {
            GenerateError::Params(_)
            | GenerateError::EmptyPrompt
            | GenerateError::PromptTooLong { .. }
            | GenerateError::PromptOverMaxLength { .. }
            | GenerateError::StopWithoutTokenizer(_) => Self::input(error.to_string()),
            GenerateError::NotFinite { .. }
            | GenerateError::Forbidden { .. }
            | GenerateError::Decoder(_)
            | GenerateError::Tokenizer(_) => Self::failed(error.to_string()),
        }
    }
}

/// Errors that only input can cause.
macro_rules! input_errors {
    ($($error:ty),+) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::input(error.to_string())
            }
        })+
    };
}
input_errors!(DataError, DistributedError, EncodeError, MaskError, TemplateError, TokenizerError);
