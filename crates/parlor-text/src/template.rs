//! Chat templates: messages to the text a model was trained on, byte for byte as `transformers` renders it.
//!
//! Source: `transformers/utils/chat_template_utils.py`. The engine is `minijinja` with its Python methods; what
//! is added here is HF's environment: `tojson` and printing in Python's spelling, `raise_exception`,
//! `strftime_now`, `{% generation %}`, and bounds, since a template is foreign input.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use jiff::civil::DateTime;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value, ValueKind};
use minijinja::{Environment, ErrorKind, context};
use serde_json::{Map, Value as Json};
use sha2::{Digest, Sha256};

use crate::chat::Message;
use crate::python_json;
use crate::template_source::{BEGIN, END, find, mark_generation};
use crate::tokenizer::Tokenizer;

/// Steps a rendering may take: about a second's worth, far beyond any real template.
const FUEL: u64 = 20_000_000;
const MAX_SOURCE: usize = 1 << 20;
const NAME: &str = "chat_template";

/// Why a template could not be compiled or rendered.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TemplateError {
    /// The file that should hold it.
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
    /// The template failed.
    #[error("the chat template failed at line {line}: {why}")]
    Render {
        /// Line in the template, from 1.
        line: usize,
        /// What the engine says.
        why: String,
    },
    /// A message contains the private marks.
    #[error("a message contains private-use characters that Parlor reserves (U+F0A10 to U+F0A13)")]
    Reserved,
}

/// What a rendering may see besides the messages.
#[derive(Clone, Debug, Default)]
pub struct RenderOptions {
    /// JSON Schemas of the tools the model may call.
    pub tools: Option<Vec<Json>>,
    /// End with the beginning of the assistant's next message.
    pub add_generation_prompt: bool,
    /// What `strftime_now` takes as now; the clock when absent.
    pub now: Option<DateTime>,
    /// Further variables (`enable_thinking`, ...).
    pub kwargs: Map<String, Json>,
}

/// A rendered conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// Bytes of `text` inside `{% generation %}` blocks.
    pub generated: Vec<Range<usize>>,
}

/// A compiled template.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: Arc<str>,
    environment: Arc<Environment<'static>>,
    special: Map<String, Json>,
    kwargs: Map<String, Json>,
    marked: bool,
}

impl ChatTemplate {
    /// Compiles `source`; `special` are the texts of special tokens (`bos_token`, ...).
    ///
    /// # Errors
    /// [`TemplateError::Compile`] with the line.
    pub fn new(source: &str, special: Map<String, Json>) -> Result<Self, TemplateError> {
        if source.len() > MAX_SOURCE {
            let why = format!("it has {} bytes; at most {MAX_SOURCE} are accepted", source.len());
            return Err(TemplateError::Compile { line: 1, why });
        }
        let (prepared, marked) = mark_generation(source);
        let compile = |error: minijinja::Error| TemplateError::Compile {
            line: error.line().unwrap_or(1),
            why: detail(&error),
        };
        let mut environment = environment().map_err(compile)?;
        environment.add_template_owned(NAME, prepared).map_err(compile)?;
        Ok(Self {
            source: source.into(),
            environment: Arc::new(environment),
            special,
            kwargs: Map::new(),
            marked,
        })
    }

    /// The template of a model directory, if it has one.
    ///
    /// # Errors
    /// As [`Self::new`], and [`TemplateError::Source`] for a file that cannot be read.
    pub fn from_dir(directory: &Path, tokenizer: &Tokenizer) -> Result<Option<Self>, TemplateError> {
        find(directory)?.map(|source| Self::new(&source, tokenizer.special_texts())).transpose()
    }

    /// ChatML with marked assistant parts and tools, for models that start from nothing.
    ///
    /// # Errors
    /// None in practice: the template is part of the program and tested.
    pub fn chatml(tokenizer: &Tokenizer) -> Result<Self, TemplateError> {
        Self::new(include_str!("chatml.jinja"), tokenizer.special_texts())
    }

    /// The same with values for further variables (`enable_thinking`, ...), which those of [`RenderOptions`] override.
    #[must_use]
    pub fn with_kwargs(mut self, kwargs: &Map<String, Json>) -> Self {
        self.kwargs.extend(kwargs.iter().map(|(name, value)| (name.clone(), value.clone())));
        self
    }

    /// The variables of [`Self::with_kwargs`].
    pub fn kwargs(&self) -> &Map<String, Json> {
        &self.kwargs
    }

    /// The template's source, as it was given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the template marks the assistant's part with `{% generation %}`.
    pub fn marks_generation(&self) -> bool {
        self.marked
    }

    /// SHA-256 of the source, in hexadecimal.
    pub fn content_hash(&self) -> String {
        Sha256::digest(self.source.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Renders a conversation.
    ///
    /// # Errors
    /// [`TemplateError::Raised`] with the template's own words, or [`TemplateError::Render`] with the line.
    pub fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<Rendered, TemplateError> {
        let messages: Vec<Map<String, Json>> = messages.iter().map(Message::for_template).collect();
        let messages = Value::from(Serde(messages));
        let mut variables: Vec<(String, Value)> = self
            .special
            .iter()
            .chain(&self.kwargs)
            .chain(&options.kwargs)
            .map(|(name, value)| (name.clone(), Value::from(Serde(value))))
            .collect();
        let tools = options.tools.as_ref().map_or(Value::from(()), |tools| Value::from(Serde(tools)));
        let now = options.now.unwrap_or_else(|| jiff::Zoned::now().datetime());
        let strftime_now = Value::from_function(move |format: String| {
            jiff::fmt::strtime::format(&format, now)
                .map_err(|error| minijinja::Error::new(ErrorKind::InvalidOperation, error.to_string()))
        });
        variables.push(("strftime_now".to_owned(), strftime_now));
        variables.push(("messages".to_owned(), messages));
        variables.push(("tools".to_owned(), tools));
        variables.push(("add_generation_prompt".to_owned(), options.add_generation_prompt.into()));
        let variables = Value::from_pairs(variables);
        let template = self.environment.get_template(NAME).map_err(|error| render_error(&error))?;
        let text = template.render(context! { ..variables }).map_err(|error| render_error(&error))?;
        unmark(&text)
    }
}

/// Takes the marks out of the output and notes what they enclosed.
fn unmark(text: &str) -> Result<Rendered, TemplateError> {
    let mut rendered = Rendered { text: String::with_capacity(text.len()), generated: Vec::new() };
    let (mut rest, mut open) = (text, None);
    loop {
        let mark = if open.is_none() { BEGIN } else { END };
        let (before, after) = match rest.split_once(mark) {
            Some((before, after)) => (before, Some(after)),
            None => (rest, None),
        };
        if before.contains(BEGIN) || before.contains(END) {
            return Err(TemplateError::Reserved);
        }
        rendered.text.push_str(before);
        let Some(after) = after else { break };
        match open.take() {
            None => open = Some(rendered.text.len()),
            Some(start) => rendered.generated.push(start..rendered.text.len()),
        }
        rest = after;
    }
    if open.is_some() { Err(TemplateError::Reserved) } else { Ok(rendered) }
}

fn environment() -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(100);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_formatter(|out, _, value| {
        let failed = |_| minijinja::Error::new(ErrorKind::WriteFailure, "the output cannot grow");
        match value.kind() {
            ValueKind::Undefined => Ok(()),
            ValueKind::String => out.write_str(value.as_str().unwrap_or_default()).map_err(failed),
            _ => out.write_str(&python_json::text(&to_json(value)?)).map_err(failed),
        }
    });
    environment.add_filter("tojson", |value: &Value, arguments: Kwargs| {
        let indent: Option<usize> = arguments.get("indent")?;
        // Accepted as in HF; their defaults are the only ones that templates use.
        let _: Option<bool> = arguments.get("ensure_ascii")?;
        arguments.assert_all_used()?;
        Ok::<_, minijinja::Error>(python_json::dumps(&to_json(value)?, indent))
    });
    environment.add_function("raise_exception", |message: String| {
        Err::<Value, _>(minijinja::Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
    });
    Ok(environment)
}

/// Marks an error that the template raised itself.
const RAISED: &str = "\u{F0A14}raised:";

fn to_json(value: &Value) -> Result<Json, minijinja::Error> {
    serde_json::to_value(value)
        .map_err(|error| minijinja::Error::new(ErrorKind::BadSerialization, error.to_string()))
}

fn detail(error: &minijinja::Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), |detail| format!("{}: {detail}", error.kind()))
}

fn render_error(error: &minijinja::Error) -> TemplateError {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(current) = cause {
        let detail = current.downcast_ref::<minijinja::Error>().and_then(minijinja::Error::detail);
        if let Some((_, message)) = detail.and_then(|detail| detail.split_once(RAISED)) {
            return TemplateError::Raised { message: message.to_owned() };
        }
        cause = current.source();
    }
    TemplateError::Render { line: error.line().unwrap_or(1), why: detail(error) }
}
