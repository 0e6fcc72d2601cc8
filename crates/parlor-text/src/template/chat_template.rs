//! Chat templates: messages to the text a model was trained on, byte for byte as `transformers` renders it.
//!
//! Source: `transformers/utils/chat_template_utils.py` and `PreTrainedTokenizerBase.get_chat_template` (5.23). The
//! language is in `jinja/`; this adds what a rendering sees (messages, tools, documents, special tokens, the date),
//! the choice among named templates, and `{% generation %}`.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use jiff::civil::DateTime;
use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, context};
use serde_json::{Map, Value as Json};
use sha2::{Digest, Sha256};

use crate::chat::Message;
use crate::jinja::{self, Ownership};
use crate::template_families;
use crate::template_source::{self, BEGIN, END, Generation, Named, mark_generation, normalized};
use crate::tokenizer::Tokenizer;

const MAX_SOURCE: usize = 1 << 20;
const NAME: &str = "chat_template";

/// Why a template could not be compiled or rendered.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
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
    /// What `strftime_now` takes as now; without it the template's own date, else the clock.
    pub now: Option<DateTime>,
    /// Further variables (`enable_thinking`, `documents`, ...), over those of the template.
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

/// A compiled template, or several by name: conversations with tools take the one called `tool_use`.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    default: Arc<Compiled>,
    tool_use: Option<Arc<Compiled>>,
    special: Map<String, Json>,
    kwargs: Map<String, Json>,
    now: Option<DateTime>,
}

#[derive(Debug)]
struct Compiled {
    source: String,
    environment: Environment<'static>,
    /// The same, with marks around what belongs to each message; compiled when masks are asked for.
    owned: OnceLock<Result<Environment<'static>, TemplateError>>,
    /// The same template for training on thoughts that it drops, where it is of that kind.
    with_thoughts: OnceLock<Option<Arc<Compiled>>>,
    marked: bool,
    reads_clock: bool,
}

/// A text, and its parts that belong to messages.
pub(crate) type Owned = (String, Vec<jinja::Part>);

impl ChatTemplate {
    /// Compiles `source`; `special` are the texts of special tokens (`bos_token`, ...).
    ///
    /// # Errors
    /// [`TemplateError::Compile`] with the line.
    pub fn new(source: &str, special: Map<String, Json>) -> Result<Self, TemplateError> {
        Self::named(&Named { default: source.to_owned(), tool_use: None }, special)
    }

    /// Compiles a model's templates.
    ///
    /// # Errors
    /// [`TemplateError::Compile`] with the line.
    pub fn named(sources: &Named, special: Map<String, Json>) -> Result<Self, TemplateError> {
        let default = Arc::new(Compiled::new(&sources.default)?);
        let tool_use = sources.tool_use.as_deref().map(Compiled::new).transpose()?.map(Arc::new);
        Ok(Self { default, tool_use, special, kwargs: Map::new(), now: None })
    }

    /// The template of a model directory, if it has one.
    ///
    /// # Errors
    /// As [`Self::new`], and [`TemplateError::Source`] for a file that cannot be read.
    pub fn from_dir(directory: &Path, tokenizer: &Tokenizer) -> Result<Option<Self>, TemplateError> {
        let found = template_source::find(directory)?;
        found.map(|sources| Self::named(&sources, tokenizer.special_texts())).transpose()
    }

    /// ChatML with marked assistant parts and tools, for models that start from nothing.
    ///
    /// # Errors
    /// None in practice: the template is part of the program and tested.
    pub fn chatml(tokenizer: &Tokenizer) -> Result<Self, TemplateError> {
        Self::new(include_str!("chatml.jinja"), tokenizer.special_texts())
    }

    /// The same template with further variables for every rendering (`model.chat_template_kwargs`).
    #[must_use]
    pub fn with_kwargs(mut self, kwargs: &Map<String, Json>) -> Self {
        self.kwargs.extend(kwargs.clone());
        self
    }

    /// The same template with a date that `strftime_now` takes as now: a run's own, so that it is the same on resume.
    #[must_use]
    pub fn with_now(mut self, now: DateTime) -> Self {
        self.now = Some(now);
        self
    }

    /// The date that renderings see; none when they read the clock.
    pub fn now(&self) -> Option<DateTime> {
        self.now
    }

    /// Variables that every rendering sees.
    pub fn kwargs(&self) -> &Map<String, Json> {
        &self.kwargs
    }

    /// Whether a rendering may depend on the date.
    pub fn reads_clock(&self) -> bool {
        self.all().any(|compiled| compiled.reads_clock)
    }

    /// The source of the template for conversations without tools, as it was given.
    pub fn source(&self) -> &str {
        &self.default.source
    }

    /// The source of the template for conversations with or without tools.
    pub(crate) fn source_for(&self, tools: Option<&[Json]>) -> &str {
        &self.chosen(tools).source
    }

    /// The files that hold it in a model directory: name and content.
    pub fn files(&self) -> Vec<(&'static str, &str)> {
        let mut files = vec![(template_source::DEFAULT_FILE, self.source())];
        if let Some(tool_use) = &self.tool_use {
            files.push((template_source::TOOL_USE_FILE, &tool_use.source));
        }
        files
    }

    /// Whether the template marks the assistant's part with `{% generation %}`.
    pub fn marks_generation(&self, tools: Option<&[Json]>) -> bool {
        self.chosen(tools).marked
    }

    /// SHA-256 of the sources, in hexadecimal.
    pub fn content_hash(&self) -> String {
        let mut digest = Sha256::new();
        self.all().for_each(|compiled| digest.update(compiled.source.as_bytes()));
        digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn all(&self) -> impl Iterator<Item = &Compiled> {
        [Some(&self.default), self.tool_use.as_ref()].into_iter().flatten().map(Arc::as_ref)
    }

    fn chosen(&self, tools: Option<&[Json]>) -> &Compiled {
        self.tool_use.as_ref().filter(|_| tools.is_some()).unwrap_or(&self.default)
    }

    /// Renders a conversation.
    ///
    /// # Errors
    /// [`TemplateError::Raised`] with the template's own words, or [`TemplateError::Render`] with the line.
    pub fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<Rendered, TemplateError> {
        let compiled = self.chosen(options.tools.as_deref());
        unmark(&self.run(&compiled.environment, messages, options)?)
    }

    /// Renders a conversation and tells which message each part belongs to; none where the template does not go over
    /// the messages in a loop whose output stays as it is.
    pub(crate) fn render_owned(
        &self,
        messages: &[Message],
        options: &RenderOptions,
    ) -> Result<Option<Owned>, TemplateError> {
        let compiled = self.chosen(options.tools.as_deref());
        let environment = compiled.owned.get_or_init(|| {
            prepared(&compiled.source, Generation::Ignored, Ownership::Marked)
                .map(|(environment, _)| environment)
        });
        let environment = environment.as_ref().map_err(Clone::clone)?;
        Ok(jinja::parts(&self.run(environment, messages, options)?))
    }

    /// Whether the template says anything about thoughts.
    pub(crate) fn knows_thoughts(&self, tools: Option<&[Json]>) -> bool {
        self.chosen(tools).source.contains("think")
    }

    /// The same template, but keeping the thoughts that it drops from every answer (as the distillations of DeepSeek
    /// R1 do): training on them is what such data is for. None where it drops none in this way.
    pub(crate) fn keeping_thoughts(&self, tools: Option<&[Json]>) -> Option<Self> {
        let compiled = self.chosen(tools);
        let with_thoughts = compiled.with_thoughts.get_or_init(|| {
            let source = template_families::keeping_thoughts(&compiled.source)?;
            Compiled::new(&source).ok().map(Arc::new)
        });
        Some(Self { default: with_thoughts.clone()?, tool_use: None, ..self.clone() })
    }

    fn run(
        &self,
        environment: &Environment<'_>,
        messages: &[Message],
        options: &RenderOptions,
    ) -> Result<String, TemplateError> {
        let messages: Vec<Value> = messages
            .iter()
            .enumerate()
            .map(|(index, message)| jinja::message(index, &message.for_template()))
            .collect();
        let mut variables: Vec<(String, Value)> = vec![("documents".to_owned(), Value::from(()))];
        let given = self.special.iter().chain(&self.kwargs).chain(&options.kwargs);
        variables.extend(given.map(|(name, value)| (name.clone(), jinja::from_json(value))));
        let tools =
            options.tools.as_ref().map(|tools| tools.iter().map(jinja::from_json).collect::<Vec<_>>());
        let now = options.now.or(self.now).unwrap_or_else(|| jiff::Zoned::now().datetime());
        variables.push(("strftime_now".to_owned(), jinja::strftime_now(now)));
        variables.push(("messages".to_owned(), Value::from(messages)));
        variables.push(("tools".to_owned(), tools.map_or(Value::from(()), Value::from)));
        variables.push(("add_generation_prompt".to_owned(), options.add_generation_prompt.into()));
        // What Jinja2 calls the template itself; it has no blocks here.
        variables.push(("self".to_owned(), Value::from(true)));
        let variables = Value::from_pairs(variables);
        let template = environment.get_template(NAME).map_err(|error| render_error(&error))?;
        template.render(context! { ..variables }).map_err(|error| render_error(&error))
    }
}

impl Compiled {
    fn new(source: &str) -> Result<Self, TemplateError> {
        if source.len() > MAX_SOURCE {
            let why = format!("it has {} bytes; at most {MAX_SOURCE} are accepted", source.len());
            return Err(TemplateError::Compile { line: 1, why });
        }
        let (environment, marked) = prepared(source, Generation::Marked, Ownership::Unmarked)?;
        let reads_clock = source.contains("strftime_now");
        let (owned, with_thoughts) = (OnceLock::new(), OnceLock::new());
        Ok(Self { source: source.to_owned(), environment, owned, with_thoughts, marked, reads_clock })
    }
}

/// An environment that holds the template alone, and whether it marks what is generated.
fn prepared(
    source: &str,
    generation: Generation,
    ownership: Ownership,
) -> Result<(Environment<'static>, bool), TemplateError> {
    let compile = |error: minijinja::Error| TemplateError::Compile {
        line: error.line().unwrap_or(1),
        why: detail(&error),
    };
    let (prepared, marked) = mark_generation(&normalized(source), generation);
    let prepared =
        jinja::rewritten(&prepared, jinja::syntax().map_err(compile)?, ownership).map_err(compile)?;
    let mut environment = jinja::environment().map_err(compile)?;
    environment.add_template_owned(NAME, prepared).map_err(compile)?;
    Ok((environment, marked))
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

fn detail(error: &minijinja::Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), |detail| format!("{}: {detail}", error.kind()))
}

fn render_error(error: &minijinja::Error) -> TemplateError {
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
