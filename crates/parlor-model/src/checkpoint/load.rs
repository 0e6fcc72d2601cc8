//! Loads a model from a directory or a GGUF file: decoder, tokenizer, chat template, and their configuration.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parlor_text::{ChatTemplate, Tokenizer};
use serde_json::{Map, Value};

use super::read_decoder::read_decoder;
use super::text_artifacts::{TextArtifacts, gguf_text_artifacts, read_text_artifacts};
use crate::arch::{self, Architecture, dropout};
use crate::config::{DecoderConfig, GenerationConfig, LoadOptions, MaxLength};
use crate::decoder::Decoder;
use crate::error::{LoadErrorKind, ModelLoadError};
use crate::files::{
    ContentKey, Gguf, TextFiles, WeightFiles, content_key, generation_file, is_gguf, name_the_file,
    read_object,
};

/// A model that was loaded.
#[derive(Debug)]
pub struct LoadedModel {
    /// The network.
    pub decoder: Decoder,
    /// Its family.
    pub architecture: Architecture,
    /// `config.json` as it is in the file; for a GGUF file, one with the same meaning.
    pub hf_config: Map<String, Value>,
    /// Special tokens and recommended sampling.
    pub generation: GenerationConfig,
    /// Text to token ids; `None` when there is no tokenizer.
    pub tokenizer: Option<Tokenizer>,
    /// Conversations to text; `None` when there is no template.
    pub chat_template: Option<ChatTemplate>,
    /// Tokenizer and template files, byte for byte; for a GGUF file, equivalent ones.
    pub text_files: TextFiles,
    /// The directory, or the GGUF file.
    pub path: PathBuf,
    /// The directories of the adapters that are attached.
    pub adapters: Vec<PathBuf>,
    /// Longest sequence in tokens, after `model.max_length`.
    pub max_length: usize,
    /// Number of tensors in its weight files.
    pub tensors: usize,
    /// Identifies the content of the directory or file.
    pub content_key: ContentKey,
    /// Warnings about the files, also sent as `tracing` events.
    pub warnings: Vec<String>,
}

impl LoadedModel {
    /// Tokens that end a completion: those that the model names, else the end-of-sequence token of its
    /// tokenizer.
    pub fn eos_token_ids(&self) -> Vec<u32> {
        match (self.generation.eos_token_ids.as_slice(), &self.tokenizer) {
            ([], Some(tokenizer)) => tokenizer.eos().map(|token| token.id).into_iter().collect(),
            (own, _) => own.to_vec(),
        }
    }

    /// Sends its warnings and the end of loading as events.
    fn log_loaded(&self) {
        for warning in &self.warnings {
            tracing::warn!(model = %self.path.display(), "{warning}");
        }
        tracing::info!(
            model = %self.path.display(),
            architecture = %self.architecture,
            parameters = self.decoder.parameter_count(),
            tensors = self.tensors,
            "model loaded"
        );
    }

    /// A warning for training this model when its `config.json` sets dropout, which transformers applies in
    /// training and the decoder does not have.
    pub fn dropout_warning(&self) -> Option<String> {
        let keys = dropout(&self.hf_config);
        let list = keys.iter().map(|(key, p)| format!("{key} {p}")).collect::<Vec<_>>().join(", ");
        let file = self.path.join("config.json");
        (!keys.is_empty())
            .then(|| format!("{} asks for dropout ({list}): this build trains without it", file.display()))
    }
}

/// Loads the model at `path`: a directory in Hugging Face layout, or a GGUF file.
///
/// ```no_run
/// use std::path::Path;
///
/// use parlor_model::{Batch, LoadOptions, Workspace, load_path};
///
/// let model = load_path(Path::new("models/my-model"), &LoadOptions::default())?;
/// let batch = Batch::of_sequences([&[1, 2, 3][..]]);
/// let logits = model.decoder.logits(&batch, &[2], None, &mut Workspace::default())?;
/// assert_eq!(logits.len(), model.decoder.config().vocab_size);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// See [`ModelLoadError`]; every error names the file and what to do.
pub fn load_path(path: &Path, options: &LoadOptions) -> Result<LoadedModel, ModelLoadError> {
    if is_gguf(path) { load_gguf(path, options) } else { load_directory(path, options) }
}

/// Loads the model in a GGUF file, tokenizer and weights at the same time.
///
/// ```no_run
/// use std::path::Path;
///
/// use parlor_model::{LoadOptions, WeightLayout, load_gguf};
///
/// // Prepacked weights are the fastest for inference.
/// let options = LoadOptions { layout: WeightLayout::Prepacked, ..LoadOptions::default() };
/// let model = load_gguf(Path::new("models/my-model.gguf"), &options)?;
/// println!("{} with {} layers", model.architecture, model.decoder.config().num_hidden_layers());
/// # Ok::<(), parlor_model::ModelLoadError>(())
/// ```
///
/// # Errors
/// See [`ModelLoadError`]; every error names the file and what to do.
pub fn load_gguf(path: &Path, options: &LoadOptions) -> Result<LoadedModel, ModelLoadError> {
    let key = content_key(path)?;
    let file = Gguf::open(path)?;
    let (architecture, config) = Architecture::of_gguf(&file)?;
    let max_length = check_max_length(options.max_length, &config, path)?;
    let hf_config = architecture.hf_config(&config).unwrap_or_default();
    let generation = arch::gguf::generation(&file.metadata, config.vocab_size)?;
    let (text, weights) = load_concurrently(
        || gguf_text_artifacts(&file.metadata, config.vocab_size),
        || read_decoder(&file.weights, architecture, &config, options),
    );
    let (decoder, mut warnings) = weights?;
    let TextArtifacts { tokenizer, chat_template, warnings: of_text } = text?;
    warnings.extend(of_text);
    let text_files = tokenizer
        .as_ref()
        .map(|tokenizer| TextFiles::of_text_artifacts(tokenizer, chat_template.as_ref()))
        .unwrap_or_default();
    let model = LoadedModel {
        decoder,
        architecture,
        hf_config,
        generation,
        tokenizer,
        chat_template,
        text_files,
        path: path.to_owned(),
        adapters: Vec::new(),
        max_length,
        tensors: file.weights.len(),
        content_key: key,
        warnings,
    };
    model.log_loaded();
    Ok(model)
}

/// Loads the model in `dir`, tokenizer and weights at the same time.
///
/// ```no_run
/// use std::path::Path;
///
/// use parlor_model::{LoadOptions, load_directory};
///
/// let model = load_directory(Path::new("models/my-model"), &LoadOptions::for_training())?;
/// for warning in &model.warnings {
///     eprintln!("{warning}");
/// }
/// # Ok::<(), parlor_model::ModelLoadError>(())
/// ```
///
/// # Errors
/// See [`ModelLoadError`]; every error names the file and what to do.
pub fn load_directory(dir: &Path, options: &LoadOptions) -> Result<LoadedModel, ModelLoadError> {
    let config_path = dir.join("config.json");
    if !config_path.is_file() {
        return Err(no_config(dir));
    }
    let key = content_key(dir)?;
    let hf_config = read_object(&config_path)?;
    let architecture = Architecture::of(&hf_config, &config_path)?;
    let config = architecture.decoder_config(&hf_config, &config_path)?;
    let max_length = check_max_length(options.max_length, &config, &config_path)?;

    let generation_path = dir.join("generation_config.json");
    let generation_file = generation_file::read(&generation_path)?;
    let (token_ids, odd_ids) = config_token_ids(&hf_config);
    let generation = GenerationConfig::read(
        generation_file.map.as_ref().map(|map| (map, generation_path.as_path())),
        (&token_ids, &config_path),
    )?;

    let files = WeightFiles::open(dir)?;
    let (text, weights) = load_concurrently(
        || {
            let text_files = TextFiles::read(dir)?;
            let text_side = read_text_artifacts(dir, &text_files, config.vocab_size)?;
            Ok::<_, ModelLoadError>((text_files, text_side))
        },
        || read_decoder(&files, architecture, &config, options),
    );
    let (decoder, extra) = weights?;
    let (text_files, TextArtifacts { tokenizer, chat_template, warnings: of_text }) = text?;
    let mut warnings = architecture.notices(&hf_config, &config_path);
    warnings.extend(odd_ids);
    warnings.extend(extra);
    warnings.extend(of_text);
    warnings.extend(generation_file.warning);
    for id in &generation.eos_token_ids {
        if *id as usize >= config.vocab_size {
            warnings.push(format!(
                "`eos_token_id` {id} is outside the vocabulary of {} tokens, so it can never be generated",
                config.vocab_size
            ));
        }
    }
    let model = LoadedModel {
        decoder,
        architecture,
        hf_config,
        generation,
        tokenizer,
        chat_template,
        text_files,
        path: dir.to_owned(),
        adapters: Vec::new(),
        max_length,
        tensors: files.len(),
        content_key: key,
        warnings,
    };
    model.log_loaded();
    Ok(model)
}

/// A `config.json` without special tokens of negative ids, and a warning about them. transformers keeps such
/// ids, which never match: -1 is how files say "none".
fn config_token_ids(hf_config: &Map<String, Value>) -> (Map<String, Value>, Option<String>) {
    const EOS: &str = "eos_token_id";
    let is_token = |value: &Value| value.as_i64().is_none_or(|id| id >= 0);
    let mut ids = hf_config.clone();
    for key in ["bos_token_id", EOS, "pad_token_id"] {
        let kept = match hf_config.get(key) {
            Some(Value::Array(list)) => {
                Value::Array(list.iter().filter(|id| is_token(id)).cloned().collect())
            }
            Some(value) if is_token(value) => value.clone(),
            _ => {
                ids.remove(key);
                continue;
            }
        };
        ids.insert(key.to_owned(), kept);
    }
    let found = hf_config.get(EOS).filter(|found| ids.get(EOS) != Some(found));
    let warning = found.map(|found| {
        format!(
            "config.json has `{EOS}: {found}`: no token has an id below 0, so none of these ends a completion"
        )
    });
    (ids, warning)
}

/// Loads tokenizer and weights at the same time. A vocabulary of 150,000 tokens takes a fifth of a second on
/// one thread; until it is built, the other thread prepacks weights, for which the first tokens would wait.
fn load_concurrently<T: Send, E: Send>(
    text: impl FnOnce() -> T + Send,
    weights: impl FnOnce() -> Result<(Decoder, Vec<String>), E> + Send,
) -> (T, Result<(Decoder, Vec<String>), E>) {
    let text_is_built = AtomicBool::new(false);
    // A single thread builds the vocabulary first, and prepacks nothing.
    rayon::join(
        || {
            let text = text();
            text_is_built.store(true, Ordering::Relaxed);
            text
        },
        || {
            let read = weights()?;
            read.0.pack_while(|| {
                // The vocabulary's own tasks come first.
                rayon::yield_now();
                !text_is_built.load(Ordering::Relaxed)
            });
            Ok(read)
        },
    )
}

fn check_max_length(asked: MaxLength, config: &DecoderConfig, file: &Path) -> Result<usize, ModelLoadError> {
    let limit = config.max_position_embeddings;
    match asked {
        MaxLength::Model => Ok(limit),
        MaxLength::AtMost(length) => Ok(length.min(limit)),
        MaxLength::Exactly(length) if length <= limit => Ok(length),
        MaxLength::Exactly(length) => Err(ModelLoadError::incompatible(
            file,
            format!("`model.max_length` is {length}, but the model takes at most {limit} tokens"),
            format!("set `model.max_length` to {limit} or less"),
        )),
    }
}

fn no_config(dir: &Path) -> ModelLoadError {
    if dir.join("adapter_config.json").is_file() {
        return ModelLoadError::incompatible(
            dir,
            "this is a PEFT adapter, and a model was expected",
            "name the base model's directory here, and the adapter with `-a`",
        );
    }
    let names = std::fs::read_dir(dir).into_iter().flatten();
    let mut names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    if let Some(name) = names.find(|name| name.ends_with(".gguf")) {
        return name_the_file(dir, &name);
    }
    let mut checkpoints: Vec<(u64, String)> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            let number = name.strip_prefix("checkpoint-")?.parse().ok()?;
            entry.path().join("config.json").is_file().then_some((number, name))
        })
        .collect();
    checkpoints.sort();
    let help = match checkpoints.last() {
        Some((_, name)) => format!(
            "this looks like an unfinished training run: its last checkpoint is {}",
            dir.join(name).display()
        ),
        None => "point at a directory in Hugging Face layout, with config.json, model.safetensors and tokenizer.json"
            .to_owned(),
    };
    ModelLoadError::new(LoadErrorKind::NotFound, dir.display(), "the directory has no `config.json`", help)
}
