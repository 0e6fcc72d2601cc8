//! Resolves `-m MODEL` and the config to a loaded model, its tokenizer and its chat template.

use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parlor::model::{
    LoadOptions, LoadedModel, MaxLength, ModelConfig, ModelLoadError, ModelManager, TextArtifacts, TextFiles,
    WeightLayout, locate_model, locate_with_adapters, read_gguf_text,
};
use parlor::text::{ChatTemplate, Tokenizer};
use serde_json::{Map, Value};

use crate::cli::{ModelArgs, TemplateArgs, TemplateKwargs};
use crate::context::Context;
use crate::failure::Failure;
use crate::paths::of_model;

/// The section `model:` with the flags on top.
pub(crate) fn section(context: &Context, args: &ModelArgs) -> Result<ModelConfig, Failure> {
    let mut section = context.config()?.model.clone();
    match &args.model {
        Some(name) => {
            section.name.clone_from(name);
            // The config's adapter belongs to its own model, not to this one.
            section.model_type = "auto".to_owned();
        }
        None if !context.named("model.name")? => {
            return Err(Failure::input_help(
                "no model is named",
                "pass `-m DIR` or `-m FILE.gguf`, or set `model.name` in a config file",
            ));
        }
        None => {}
    }
    if let Some(device) = args.device {
        section.device = device;
    }
    if let Some(dtype) = args.dtype {
        section.torch_dtype = dtype.into();
    }
    Ok(section)
}

/// Variables of the chat template: those of the flags override the config's.
pub(crate) fn template_kwargs(
    context: &Context,
    flags: &TemplateArgs,
) -> Result<Map<String, Value>, Failure> {
    let mut kwargs = context.config()?.model.template_kwargs();
    if let Some(TemplateKwargs(more)) = &flags.template_kwargs {
        kwargs.extend(more.clone());
    }
    Ok(kwargs)
}

/// The maximum length: a configured one must fit the model, the default follows it.
pub(crate) fn max_length(context: &Context, section: &ModelConfig) -> Result<MaxLength, Failure> {
    Ok(match context.chosen("model.max_length")? {
        true => MaxLength::Exactly(section.max_length),
        false => MaxLength::Model,
    })
}

/// The adapter to use: these verbs take one at a time.
pub(crate) fn adapters(args: &ModelArgs) -> Result<Vec<PathBuf>, Failure> {
    match args.adapter.as_slice() {
        [] | [_] => Ok(args.adapter.clone()),
        several => Err(Failure::input_help(
            format!("{} adapters are given, and one can be used at a time here", several.len()),
            "name one with `-a`, or merge several into a model with `parlor merge`",
        )),
    }
}

/// Loads the model for generation. It is never dropped: freeing a large vocabulary string by string takes
/// longer than the end of the process.
pub(crate) fn load(context: &Context, args: &ModelArgs) -> Result<ManuallyDrop<Arc<LoadedModel>>, Failure> {
    load_in(WeightLayout::Prepacked, context, args).map(ManuallyDrop::new)
}

/// Loads the model, with its weights in this layout.
pub(crate) fn load_in(
    layout: WeightLayout,
    context: &Context,
    args: &ModelArgs,
) -> Result<Arc<LoadedModel>, Failure> {
    let section = section(context, args)?;
    let max_length = max_length(context, &section)?;
    let options = LoadOptions { layout, ..section.load_options(max_length) };
    let manager = ModelManager::with_options(section, options).with_adapters(adapters(args)?);
    manager.load_model().map_err(|error| named(context, error))
}

/// The failure of a model that was not found, with the paths that were tried.
pub(crate) fn named(context: &Context, error: ModelLoadError) -> Failure {
    match context.missing() {
        Ok(missing) => of_model(missing, error).into(),
        Err(failure) => failure,
    }
}

/// The model's tokenizer.
pub(crate) fn tokenizer(model: &LoadedModel) -> Result<&Tokenizer, Failure> {
    model.tokenizer.as_ref().ok_or_else(|| no_tokenizer(&model.path))
}

fn no_tokenizer(path: &Path) -> Failure {
    let help = match path.is_file() {
        true => "use a file with a vocabulary, or give token ids with `--ids`",
        false => "copy tokenizer.json beside config.json, or give token ids with `--ids`",
    };
    Failure::input_help(format!("{} has no tokenizer", path.display()), help)
}

/// The model's chat template.
pub(crate) fn template(model: &LoadedModel) -> Result<&ChatTemplate, Failure> {
    model.chat_template.as_ref().ok_or_else(|| no_template(&model.path.display().to_string()))
}

fn no_template(path: &str) -> Failure {
    Failure::input_help(
        format!("{path} has no chat template: it is a base model, which continues text and does not chat"),
        "use `parlor generate -p TEXT`, fine-tune it on conversations, or put a chat_template.jinja beside its \
         tokenizer",
    )
}

/// The tokenizer and chat template of a model, loaded without its weights.
pub(crate) struct TextModel {
    path: PathBuf,
    pub(crate) tokenizer: Tokenizer,
    /// The template, when the file holds it; that of a directory is read on demand.
    template: Option<ChatTemplate>,
}

impl TextModel {
    /// Finds the model and reads its tokenizer.
    pub(crate) fn read(context: &Context, args: &ModelArgs) -> Result<Self, Failure> {
        let section = section(context, args)?;
        let cache_dir = section.cache_dir.as_deref();
        let mut path = locate_model(&section.name, cache_dir).map_err(|error| named(context, error))?;
        if !path.join("tokenizer.json").is_file() {
            // An adapter without a tokenizer uses its base's.
            path = locate_with_adapters(&path, &[], cache_dir)?.0;
        }
        if let Some(TextArtifacts { tokenizer, chat_template: template, warnings }) = read_gguf_text(&path)? {
            for warning in warnings {
                tracing::warn!(model = %path.display(), "{warning}");
            }
            let tokenizer = tokenizer.ok_or_else(|| no_tokenizer(&path))?;
            return Ok(Self { path, tokenizer, template });
        }
        TextFiles::refuse_pointers(&path)?;
        let tokenizer = Tokenizer::from_dir(&path)?;
        Ok(Self { path, tokenizer, template: None })
    }

    /// Its chat template, if it has one.
    pub(crate) fn find_template(&self) -> Result<Option<ChatTemplate>, Failure> {
        match &self.template {
            Some(template) => Ok(Some(template.clone())),
            None if self.path.is_file() => Ok(None),
            None => Ok(ChatTemplate::from_dir(&self.path, &self.tokenizer)?),
        }
    }

    /// Its chat template.
    pub(crate) fn template(&self) -> Result<ChatTemplate, Failure> {
        self.find_template()?.ok_or_else(|| no_template(&self.path.display().to_string()))
    }
}
