//! `adapter_config.json` and `adapter_model.safetensors`, as PEFT writes and reads them (0.21, INTEROP 4).
//!
//! Every tensor is accounted for, or it is an error. Leaves out: pickled `adapter_model.bin`.

use std::path::Path;

use parlor_kernels::DType;
use serde_json::Value;

use super::{AdapterConfig, AdapterId, AdapterPlan};
use crate::arch::Architecture;
use crate::decoder::Decoder;
use crate::error::{LoadErrorKind, ModelLoadError};
use crate::layout::{disk_shape, split};
use crate::load::read_object;
use crate::parameter::ParameterSpec;
use crate::safetensors_writer::{Outgoing, write_safetensors};
use crate::save::SaveError;
use crate::staged::{write_file, write_json, write_staged};
use crate::text_files::TextFiles;
use crate::weight_files::{TensorEntry, WeightFiles};

/// The file that says what an adapter is.
pub(crate) const ADAPTER_CONFIG: &str = "adapter_config.json";
/// The file that holds its numbers.
pub(crate) const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";
/// What stands before every tensor's name.
const PREFIX: &str = "base_model.model.";

/// An adapter that was loaded.
#[derive(Clone, Debug)]
pub struct AdapterInfo {
    /// Its number in the decoder.
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
    let config = read_adapter_config(dir)?;
    let other_base = match config.base_model_name_or_path.as_deref().filter(|base| !base.is_empty()) {
        Some(base) => format!(
            "the adapter was made for `{base}`; if this {architecture} model is another one, name that one with `-m`"
        ),
        None => format!(
            "if this {architecture} model is not the one that the adapter was made for, name that one with `-m`"
        ),
    };
    let mut plan = AdapterPlan::new(decoder, architecture, config).map_err(|error| ModelLoadError {
        place: dir.join(ADAPTER_CONFIG).display().to_string(),
        help: format!("correct `{ADAPTER_CONFIG}`; {other_base}"),
        ..error
    })?;
    let path = dir.join(ADAPTER_WEIGHTS);
    if !path.is_file() {
        return Err(ModelLoadError::new(
            LoadErrorKind::NotFound,
            dir.display(),
            format!("the directory has no `{ADAPTER_WEIGHTS}`"),
            "save the adapter with `safe_serialization=True`; pickled `adapter_model.bin` files are not read",
        ));
    }
    let files = WeightFiles::of_file(&path)?;
    let values = read_values(&plan, &files, &other_base, &path)?;
    let warnings = std::mem::take(&mut plan.warnings);
    let id = decoder.attach(plan, values)?;
    Ok(AdapterInfo { id, warnings })
}

fn read_values(
    plan: &AdapterPlan,
    files: &WeightFiles,
    other_base: &str,
    path: &Path,
) -> Result<Vec<Vec<f32>>, ModelLoadError> {
    let mut values: Vec<Vec<f32>> = Vec::with_capacity(plan.specs().len());
    let mut missing = Vec::new();
    for tensor in plan.tensors() {
        let name = format!("{PREFIX}{}", tensor.name);
        let Some(entry) = files.get(&name) else {
            missing.push(name);
            continue;
        };
        let specs: Vec<&ParameterSpec> = plan.specs()[tensor.parameters.clone()].iter().collect();
        let shape = disk_shape(tensor.layout, &specs);
        if let Some(error) = resized(&name, entry, &shape).filter(|_| tensor.is_own()) {
            return Err(error);
        }
        if entry.shape() != shape {
            return Err(ModelLoadError::new(
                LoadErrorKind::Incompatible,
                entry.place(&name),
                format!(
                    "beside this model the tensor would be {shape:?}, but its shape is {:?}",
                    entry.shape()
                ),
                other_base,
            ));
        }
        let parts = split(&entry.tensor(&name, &shape)?, tensor.layout, &specs, DType::F32, false)
            .map_err(|error| ModelLoadError::corrupt(path, error.to_string(), "copy the file again"))?;
        values.extend(parts.iter().map(parlor_kernels::Tensor::to_f32_vec));
    }
    let shown = |names: &[String]| {
        let first: Vec<String> = names.iter().take(4).map(|name| format!("`{name}`")).collect();
        let more = names.len().saturating_sub(first.len());
        format!("{}{}", first.join(", "), if more > 0 { format!(" and {more} more") } else { String::new() })
    };
    if !missing.is_empty() {
        let what = format!(
            "tensors that `{ADAPTER_CONFIG}` asks for beside this model are missing ({} of {}): {}",
            missing.len(),
            plan.tensors().len(),
            shown(&missing)
        );
        return Err(ModelLoadError::new(LoadErrorKind::Incompatible, path.display(), what, other_base));
    }
    let known =
        |name: &str| plan.tensors().iter().any(|tensor| name.strip_prefix(PREFIX) == Some(&tensor.name));
    let unused: Vec<String> =
        files.iter().map(|(name, _)| name.to_owned()).filter(|name| !known(name)).collect();
    let vocabulary = |name: &str| {
        let module = name.trim_end_matches(".weight").rsplit('.').next().unwrap_or_default();
        ["embed_tokens", "wte", "lm_head"].contains(&module)
    };
    if let Some((name, entry)) = files.iter().find(|(name, _)| !known(name) && vocabulary(name)) {
        return Err(ModelLoadError::new(
            LoadErrorKind::Incompatible,
            entry.place(name),
            format!(
                "the adapter brings the model's embedding or head along ({:?}), as PEFT saves them when the vocabulary was \
                 resized",
                entry.shape()
            ),
            "work the adapter into its model in Python (`model.resize_token_embeddings(ROWS)`, \
             `PeftModel.from_pretrained(model, DIR).merge_and_unload().save_pretrained(NEW_DIR)`) and name NEW_DIR; or, if \
             nothing was added to the vocabulary, save the adapter with `save_embedding_layers=False`",
        ));
    }
    if !unused.is_empty() {
        let what =
            format!("tensors that have no place beside this model ({}): {}", unused.len(), shown(&unused));
        return Err(ModelLoadError::new(LoadErrorKind::Incompatible, path.display(), what, other_base));
    }
    Ok(values)
}

/// The error for an embedding or head whose number of rows is another than the model's, which PEFT loads only into a model
/// that was resized before.
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
    let outgoing: Vec<Outgoing<'_>> = adapter
        .tensors
        .iter()
        .map(|tensor| {
            let inside = &parameters[tensor.parameters.clone()];
            let specs: Vec<&ParameterSpec> = inside.iter().map(|parameter| &parameter.spec).collect();
            Outgoing {
                name: format!("{PREFIX}{}", tensor.name),
                layout: tensor.layout,
                parts: inside.iter().map(|parameter| &parameter.tensor).collect(),
                shape: disk_shape(tensor.layout, &specs),
                dtype: DType::F32,
            }
        })
        .collect();
    let config = Value::Object(adapter.config.to_json());
    write_staged(dir, ADAPTER_CONFIG, &|_| false, &|staging| {
        for (name, bytes) in text_files.for_saving() {
            write_file(&staging.join(name), &bytes)?;
        }
        write_safetensors(&staging.join(ADAPTER_WEIGHTS), &outgoing)?;
        write_json(&staging.join(ADAPTER_CONFIG), &config)
    })
}
