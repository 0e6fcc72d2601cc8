//! `adapter_config.json` and `adapter_model.safetensors`, as PEFT writes and reads them (0.21, INTEROP 4).
//!
//! Every tensor is accounted for, or it is an error. Leaves out: pickled `adapter_model.bin`.

use std::path::{Path, PathBuf};

use parlor_files::atomic_dir::{self, Update};
use parlor_kernels::DType;
use serde_json::Value;

use super::modules::{ends_with, modules};
use super::plan::AdapterPlan;
use crate::arch::Architecture;
use crate::config::{AdapterConfig, Head, WeightStorage};
use crate::decoder::{AdapterId, AdapterTensor, Decoder, ParameterSpec};
use crate::error::{LoadErrorKind, ModelLoadError, SaveError};
use crate::files::{
    TensorEntry, TensorToWrite, TextFiles, WeightFiles, disk_shape, read_object, split, write_safetensors,
};
use crate::files::{write_file, write_json};

/// The file that says what an adapter is.
pub(crate) const ADAPTER_CONFIG: &str = "adapter_config.json";
/// The file that holds its values.
pub(crate) const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";
/// The prefix of every tensor's name.
const PREFIX: &str = "base_model.model.";

/// An adapter that was loaded.
#[derive(Clone, Debug)]
pub struct AdapterInfo {
    /// Its index in the decoder.
    pub id: AdapterId,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Whether `dir` holds an adapter and no model.
pub(crate) fn is_adapter(dir: &Path) -> bool {
    dir.join(ADAPTER_CONFIG).is_file() && !dir.join("config.json").is_file()
}

/// Reads the configuration of the adapter in `dir`.
///
/// # Errors
/// `NotFound` without the file, `Incompatible` for what this build does not have.
pub fn read_adapter_config(dir: &Path) -> Result<AdapterConfig, ModelLoadError> {
    let path = dir.join(ADAPTER_CONFIG);
    if !path.is_file() {
        return Err(ModelLoadError::new(
            LoadErrorKind::NotFound,
            dir.display(),
            format!("the directory has no `{ADAPTER_CONFIG}`, so it holds no adapter"),
            "name a directory in PEFT's layout, with adapter_config.json and adapter_model.safetensors",
        ));
    }
    AdapterConfig::from_json(&read_object(&path)?).map_err(|what| {
        ModelLoadError::incompatible(&path, what, "use a LoRA, rsLoRA or DoRA adapter of the usual form")
    })
}

/// Attaches the adapter in `dir` to `decoder`.
///
/// # Errors
/// [`ModelLoadError`]: the file and the tensor, what was expected and what was found.
pub fn load_adapter(
    decoder: &mut Decoder,
    architecture: Architecture,
    dir: &Path,
) -> Result<AdapterInfo, ModelLoadError> {
    let mut config = read_adapter_config(dir)?;
    let other_base = match config.base_model_name_or_path.as_deref().filter(|base| !base.is_empty()) {
        Some(base) => format!(
            "the adapter was made for `{base}`; if this {architecture} model is another one, name that one with `-m`"
        ),
        None => format!(
            "if this {architecture} model is not the one that the adapter was made for, name that one with `-m`"
        ),
    };
    let path = dir.join(ADAPTER_WEIGHTS);
    if !path.is_file() {
        return Err(ModelLoadError::new(
            LoadErrorKind::NotFound,
            dir.display(),
            format!("the directory has no `{ADAPTER_WEIGHTS}`"),
            "save the adapter with `safe_serialization=True`; pickled `adapter_model.bin` files are not read",
        ));
    }
    let files = WeightFiles::open_file(&path)?;
    let vocabulary_modules = unnamed_vocabulary_modules(&files, &config, decoder.config().head);
    let tied = decoder.config().head == Head::Tied && !vocabulary_modules.is_empty();
    let vocabulary = if tied { VocabularyModules::Tied } else { VocabularyModules::Separate };
    let own = modules(architecture, decoder.config());
    let is_there = |name: &String| own.iter().any(|module| ends_with(&module.path, name));
    config.modules_to_save.extend(vocabulary_modules.into_iter().filter(is_there));
    let mut plan = AdapterPlan::new(decoder, architecture, config).map_err(|error| ModelLoadError {
        place: dir.join(ADAPTER_CONFIG).display().to_string(),
        help: format!("correct `{ADAPTER_CONFIG}`; {other_base}"),
        ..error
    })?;
    let source = AdapterSource { files, vocabulary, path, other_base };
    let values = source.read_values(&plan)?;
    let warnings = std::mem::take(&mut plan.warnings);
    let id = decoder.attach(plan, values)?;
    Ok(AdapterInfo { id, warnings })
}

/// The file that an adapter's values are read from.
struct AdapterSource {
    files: WeightFiles,
    vocabulary: VocabularyModules,
    path: PathBuf,
    /// What to do when the file does not fit the model.
    other_base: String,
}

impl AdapterSource {
    /// The values of each planned parameter; every tensor of the file is accounted for.
    fn read_values(&self, plan: &AdapterPlan) -> Result<Vec<Vec<f32>>, ModelLoadError> {
        let Self { files, vocabulary, path, other_base } = self;
        let mut values: Vec<Vec<f32>> = Vec::with_capacity(plan.specs().len());
        let mut missing = Vec::new();
        for tensor in plan.tensors() {
            let name = format!("{PREFIX}{}", tensor.name);
            let tied = || {
                vocabulary_module(&name).filter(|_| *vocabulary == VocabularyModules::Tied)?;
                files.iter().find(|(other, _)| vocabulary_module(other).is_some()).map(|(_, entry)| entry)
            };
            let Some(entry) = files.get(&name).or_else(tied) else {
                missing.push(name);
                continue;
            };
            let specs: Vec<&ParameterSpec> = plan.specs()[tensor.parameters.clone()].iter().collect();
            let shape = disk_shape(tensor.layout, &specs);
            if let Some(error) = resized(&name, entry, &shape).filter(|_| tensor.is_replacement()) {
                return Err(error);
            }
            if entry.shape() != shape {
                return Err(ModelLoadError::new(
                    LoadErrorKind::Incompatible,
                    entry.place(&name),
                    format!(
                        "for this model the tensor must be {shape:?}, but its shape is {:?}",
                        entry.shape()
                    ),
                    other_base,
                ));
            }
            let parts =
                split(&entry.tensor(&name, &shape)?, tensor.layout, &specs, DType::F32, WeightStorage::Owned)
                    .map_err(|error| {
                        ModelLoadError::corrupt(path, error.to_string(), "copy the file again")
                    })?;
            values.extend(parts.iter().map(parlor_kernels::Tensor::to_f32_vec));
        }
        let shown = |names: &[String]| {
            let first: Vec<String> = names.iter().take(4).map(|name| format!("`{name}`")).collect();
            let more = names.len().saturating_sub(first.len());
            format!(
                "{}{}",
                first.join(", "),
                if more > 0 { format!(" and {more} more") } else { String::new() }
            )
        };
        if !missing.is_empty() {
            let what = format!(
                "tensors that `{ADAPTER_CONFIG}` asks for are missing for this model ({} of {}): {}",
                missing.len(),
                plan.tensors().len(),
                shown(&missing)
            );
            return Err(ModelLoadError::new(LoadErrorKind::Incompatible, path.display(), what, other_base));
        }
        let known = |name: &str| {
            let own = name.strip_prefix(PREFIX).unwrap_or(name);
            plan.tensors().iter().any(|tensor| own == tensor.name || is_copy_of(own, tensor, name, files))
        };
        let unused: Vec<String> =
            files.iter().map(|(name, _)| name.to_owned()).filter(|name| !known(name)).collect();
        if !unused.is_empty() {
            let what = format!(
                "tensors that an adapter of this model does not have ({}): {}",
                unused.len(),
                shown(&unused)
            );
            return Err(ModelLoadError::new(LoadErrorKind::Incompatible, path.display(), what, other_base));
        }
        Ok(values)
    }
}

/// Whether embedding and head are tied, so that a file that holds one of them holds both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum VocabularyModules {
    Separate,
    Tied,
}

/// The embedding or the head that this name of a tensor means.
fn vocabulary_module(name: &str) -> Option<&'static str> {
    let path = name.strip_prefix(PREFIX)?.strip_suffix(".weight")?;
    ["embed_tokens", "wte", "lm_head"].into_iter().find(|module| ends_with(path, module))
}

/// Modules that PEFT saves when the vocabulary was resized, without naming them in `modules_to_save`. PEFT
/// replaces the model's modules by them, so they belong to the adapter. In a tied model either stands for
/// both.
fn unnamed_vocabulary_modules(files: &WeightFiles, config: &AdapterConfig, head: Head) -> Vec<String> {
    let named = |module: &str| config.modules_to_save.iter().any(|name| module.ends_with(name.as_str()));
    let mut found: Vec<&str> = files
        .iter()
        .filter_map(|(name, _)| vocabulary_module(name))
        .filter(|module| !named(module))
        .collect();
    if head == Head::Tied && !found.is_empty() {
        found = ["embed_tokens", "wte", "lm_head"].into_iter().filter(|module| !named(module)).collect();
    }
    found.into_iter().map(str::to_owned).collect()
}

/// Whether `own` is a second copy of a replacement, or a copy of the model's tensor: PEFT saves these too
/// when the vocabulary was resized.
fn is_copy_of(own: &str, tensor: &AdapterTensor, name: &str, files: &WeightFiles) -> bool {
    let without = |part: &str| own.replacen(part, ".", 1) == tensor.name;
    let bytes = |name: &str| files.get(name).map(TensorEntry::bytes);
    tensor.is_replacement()
        && (without(".original_module.")
            || (without(".modules_to_save.") && bytes(name) == bytes(&format!("{PREFIX}{}", tensor.name))))
}

/// The error for an embedding or head whose number of rows is another than the model's, which PEFT loads only
/// into a model that was resized before.
fn resized(name: &str, entry: &TensorEntry, shape: &[usize]) -> Option<ModelLoadError> {
    let (&[rows, width], &[own_rows, own_width]) = (entry.shape(), shape) else { return None };
    (rows != own_rows && width == own_width).then(|| {
        ModelLoadError::new(
            LoadErrorKind::Incompatible,
            entry.place(name),
            format!(
                "the adapter was trained with a vocabulary of {rows} rows, and this model has {own_rows}: it belongs to a model \
                 that was resized"
            ),
            format!(
                "resize the model as the adapter's was, and name the result with `-m`: in Python, \
                 `model.resize_token_embeddings({rows})`, `model.save_pretrained(DIR)`"
            ),
        )
    })
}

/// Writes adapter `id` of `decoder` into `dir`, with the tokenizer and the template that it was trained with.
///
/// # Errors
/// [`SaveError`]; nothing is left behind then.
pub fn save_adapter(
    dir: &Path,
    decoder: &Decoder,
    id: AdapterId,
    text_files: &TextFiles,
) -> Result<(), SaveError> {
    let Some(adapter) = decoder.adapters().get(id) else {
        return Err(SaveError::Parameter(format!("adapter {id}")));
    };
    let parameters = &decoder.parameters()[adapter.parameters.clone()];
    let tensors_to_write: Vec<TensorToWrite<'_>> = adapter
        .tensors
        .iter()
        .map(|tensor| {
            let inside = &parameters[tensor.parameters.clone()];
            let specs: Vec<&ParameterSpec> = inside.iter().map(|parameter| &parameter.spec).collect();
            TensorToWrite {
                name: format!("{PREFIX}{}", tensor.name),
                layout: tensor.layout,
                parts: inside.iter().map(|parameter| &parameter.tensor).collect(),
                shape: disk_shape(tensor.layout, &specs),
                dtype: DType::F32,
            }
        })
        .collect();
    let config = Value::Object(adapter.config.to_json());
    let update = Update { directory: dir, last: ADAPTER_CONFIG, is_stale: &|_| false };
    atomic_dir::update(&update, &|staging| {
        for (name, bytes) in text_files.for_saving() {
            write_file(&staging.join(name), &bytes)?;
        }
        write_safetensors(&staging.join(ADAPTER_WEIGHTS), &tensors_to_write)?;
        write_json(&staging.join(ADAPTER_CONFIG), &config)
    })
}
