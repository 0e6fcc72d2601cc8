//! Chat templates: messages to the text a model was trained on, byte for byte as `transformers` renders it.
//!
//! Source: `transformers/utils/chat_template_utils.py` and `PreTrainedTokenizerBase.get_chat_template`
//! (5.23). The language is in `jinja/`. This file adds the variables of a rendering (messages, tools,
//! documents, special tokens, the date), the choice among named templates, and `{% generation %}`.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use jiff::civil::DateTime;
use minijinja::value::Value;
use minijinja::{Environment, context};
use serde_json::{Map, Value as Json};
use sha2::{Digest, Sha256};

use super::error::{TemplateError, detail, render_error};
use super::families;
use super::generation_tags::{Generation, mark_generation, normalized, unmark};
use super::jinja::{self, MessageMarks};
use super::rendered::{RenderOptions, Rendered, RenderedParts};
use super::source::{self, DEFAULT_FILE, NamedTemplates, TOOL_USE_FILE};
use crate::message::Message;
use crate::tokenizer::Tokenizer;

const MAX_SOURCE: usize = 1 << 20;
const NAME: &str = "chat_template";

/// A compiled template, or several by name: conversations with tools use the one called `tool_use`.
///
/// ```
/// use parlor_text::{ChatTemplate, Message, RenderOptions, Tokenizer};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/qwen2_chat");
/// let tokenizer = Tokenizer::from_dir(&directory)?;
/// let template = ChatTemplate::from_dir(&directory, &tokenizer)?.ok_or("the model has no chat template")?;
/// let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
/// let rendered = template.render(&[Message::new("user", "Hello")], &options)?;
/// assert!(rendered.text.contains("Hello"));
/// # Ok(())
/// # }
/// ```
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
    /// The same template, writing marks around each message's part. Compiled on first use.
    with_marks: OnceLock<Result<Environment<'static>, TemplateError>>,
    /// The same template, changed to keep the thoughts that it drops; none when it does not drop them that way.
    with_thoughts: OnceLock<Option<Arc<Compiled>>>,
    marked: bool,
    reads_clock: bool,
}

impl ChatTemplate {
    /// Compiles `source`; `special` are the texts of special tokens (`bos_token`, ...).
    ///
    /// # Errors
    /// [`TemplateError::Compile`] with the line.
    pub fn new(source: &str, special: Map<String, Json>) -> Result<Self, TemplateError> {
        Self::named(&NamedTemplates { default: source.to_owned(), tool_use: None }, special)
    }

    /// Compiles a model's templates.
    ///
    /// # Errors
    /// [`TemplateError::Compile`] with the line.
    pub fn named(sources: &NamedTemplates, special: Map<String, Json>) -> Result<Self, TemplateError> {
        let default = Arc::new(Compiled::new(&sources.default)?);
        let tool_use = sources.tool_use.as_deref().map(Compiled::new).transpose()?.map(Arc::new);
        Ok(Self { default, tool_use, special, kwargs: Map::new(), now: None })
    }

    /// The template of a model directory, if it has one.
    ///
    /// # Errors
    /// As [`Self::new`], and [`TemplateError::Source`] for a file that cannot be read.
    pub fn from_dir(directory: &Path, tokenizer: &Tokenizer) -> Result<Option<Self>, TemplateError> {
        let found = source::find(directory)?;
        found.map(|sources| Self::named(&sources, tokenizer.special_texts())).transpose()
    }

    /// ChatML with marked assistant parts and tools, for models that are trained from scratch.
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

    /// The same template with a fixed date for `strftime_now`. A run fixes its date, so that a resumed run
    /// has the same.
    #[must_use]
    pub fn with_now(mut self, now: DateTime) -> Self {
        self.now = Some(now);
        self
    }

    /// The fixed date; none when renderings read the clock.
    pub fn now(&self) -> Option<DateTime> {
        self.now
    }

    /// Variables of every rendering.
    pub fn kwargs(&self) -> &Map<String, Json> {
        &self.kwargs
    }

    /// Whether a rendering depends on the date.
    pub fn reads_clock(&self) -> bool {
        self.all().any(|compiled| compiled.reads_clock)
    }

    /// The source of the template for conversations without tools, unchanged.
    pub fn source(&self) -> &str {
        &self.default.source
    }

    /// The source of the template for conversations with or without tools.
    pub(crate) fn source_for(&self, tools: Option<&[Json]>) -> &str {
        &self.chosen(tools).source
    }

    /// Its files in a model directory: name and content.
    pub fn files(&self) -> Vec<(&'static str, &str)> {
        let mut files = vec![(DEFAULT_FILE, self.source())];
        if let Some(tool_use) = &self.tool_use {
            files.push((TOOL_USE_FILE, &tool_use.source));
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

    /// Renders a conversation and tells which message each part belongs to. None when the template takes the
    /// output of its loop over the messages apart.
    pub(crate) fn render_parts(
        &self,
        messages: &[Message],
        options: &RenderOptions,
    ) -> Result<Option<RenderedParts>, TemplateError> {
        let compiled = self.chosen(options.tools.as_deref());
        let environment = compiled.with_marks.get_or_init(|| {
            prepared(&compiled.source, Generation::Ignored, MessageMarks::Written)
                .map(|(environment, _)| environment)
        });
        let environment = environment.as_ref().map_err(Clone::clone)?;
        let parts = jinja::split_parts(&self.run(environment, messages, options)?);
        Ok(parts.map(|(text, parts)| RenderedParts { text, parts }))
    }

    /// Whether the template mentions thoughts.
    pub(crate) fn knows_thoughts(&self, tools: Option<&[Json]>) -> bool {
        self.chosen(tools).source.contains("think")
    }

    /// The same template, changed to keep the thoughts that it drops from every answer (as those of the
    /// distillations of DeepSeek R1 do), so that they can be trained. None when it does not drop them that
    /// way.
    pub(crate) fn keeping_thoughts(&self, tools: Option<&[Json]>) -> Option<Self> {
        let compiled = self.chosen(tools);
        let with_thoughts = compiled.with_thoughts.get_or_init(|| {
            let source = families::keeping_thoughts(&compiled.source)?;
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
        // Jinja2's name for the template itself, which has no blocks here.
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
        let (environment, marked) = prepared(source, Generation::Marked, MessageMarks::Omitted)?;
        let reads_clock = source.contains("strftime_now");
        let (with_marks, with_thoughts) = (OnceLock::new(), OnceLock::new());
        Ok(Self { source: source.to_owned(), environment, with_marks, with_thoughts, marked, reads_clock })
    }
}

/// An environment with this template, and whether the template has `generation` tags.
fn prepared(
    source: &str,
    generation: Generation,
    marks: MessageMarks,
) -> Result<(Environment<'static>, bool), TemplateError> {
    let compile = |error: minijinja::Error| TemplateError::Compile {
        line: error.line().unwrap_or(1),
        why: detail(&error),
    };
    let (prepared, marked) = mark_generation(&normalized(source), generation);
    let prepared = jinja::rewritten(&prepared, jinja::syntax().map_err(compile)?, marks).map_err(compile)?;
    let mut environment = jinja::environment().map_err(compile)?;
    environment.add_template_owned(NAME, prepared).map_err(compile)?;
    Ok((environment, marked))
}
