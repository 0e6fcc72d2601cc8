//! Saves a model as a directory in Hugging Face layout, or its weights as one file.
//!
//! A target that exists gets the files one rename at a time (see [`atomic_dir::update`]), `config.json` last
//! and stale weight files removed after that. `config.json` has the keys of transformers 4 and of 5, which
//! silently misread each other's.

use std::collections::HashMap;
use std::path::Path;

use parlor_files::atomic_dir::{self, Update};
use parlor_kernels::{DType, Tensor};
use serde_json::{Map, Value, json};

use super::load::LoadedModel;
use crate::arch::Architecture;
use crate::config::GenerationConfig;
use crate::decoder::{Decoder, Role};
use crate::error::SaveError;
use crate::files::{
    INDEX_FILE, SINGLE_FILE, TensorToWrite, TextFiles, disk_shape, is_shard_name, specs_of, write_file,
    write_json, write_safetensors,
};

/// Size at which weights are split into shards, as in transformers: 5 GB.
pub const MAX_SHARD_BYTES: u64 = 5_000_000_000;

/// What to save.
#[derive(Clone, Copy, Debug)]
pub struct SaveModel<'a> {
    /// The network.
    pub decoder: &'a Decoder,
    /// The family to save it as.
    pub architecture: Architecture,
    /// The `config.json` it came from, whose other keys are kept; `None` for a new model.
    pub hf_config: Option<&'a Map<String, Value>>,
    /// Special tokens and sampling defaults.
    pub generation: &'a GenerationConfig,
    /// Tokenizer and template files.
    pub text_files: &'a TextFiles,
    /// Number format on disk; `None` keeps each tensor's.
    pub dtype: Option<DType>,
    /// Size at which weights are split: [`MAX_SHARD_BYTES`].
    pub max_shard_bytes: u64,
}

impl<'a> SaveModel<'a> {
    /// A loaded model as it is.
    pub fn of(model: &'a LoadedModel) -> Self {
        Self {
            decoder: &model.decoder,
            architecture: model.architecture,
            hf_config: Some(&model.hf_config),
            generation: &model.generation,
            text_files: &model.text_files,
            dtype: None,
            max_shard_bytes: MAX_SHARD_BYTES,
        }
    }
}

fn tensors_to_write<'a>(
    decoder: &'a Decoder,
    architecture: Architecture,
    dtype: Option<DType>,
) -> Result<Vec<TensorToWrite<'a>>, SaveError> {
    let by_role: HashMap<Role, usize> =
        decoder.model_parameters().iter().enumerate().map(|(index, p)| (p.spec.role, index)).collect();
    let parameter = |role: Role| by_role.get(&role).and_then(|&index| decoder.model_parameters().get(index));
    let usual = usual_dtype(decoder);
    architecture
        .checkpoint_tensors(decoder.config())
        .into_iter()
        .map(|disk| {
            let specs = specs_of(&disk.roles, |role| parameter(role).map(|p| &p.spec));
            let parts: Option<Vec<&Tensor>> =
                disk.roles.iter().map(|role| parameter(*role).map(|p| &p.tensor)).collect();
            let (Some(specs), Some(parts)) = (specs, parts) else {
                return Err(SaveError::Parameter(disk.name));
            };
            let shape = disk_shape(disk.layout, &specs);
            let dtype = dtype.unwrap_or_else(|| own_dtype(&parts, usual));
            Ok(TensorToWrite { name: disk.name, layout: disk.layout, parts, shape, dtype })
        })
        .collect()
}

/// The dtype of most of the decoder's numbers.
fn usual_dtype(decoder: &Decoder) -> DType {
    let count = |dtype: DType| -> usize {
        let tensors = decoder.model_parameters().iter().map(|parameter| &parameter.tensor);
        tensors.filter(|tensor| tensor.dtype().plain() == dtype).map(Tensor::len).sum()
    };
    [DType::F16, DType::Bf16, DType::F32].into_iter().max_by_key(|&dtype| count(dtype)).unwrap_or(DType::F32)
}

/// The dtype that a tensor has on disk when none is asked for: its own, but for vectors that the decoder
/// widened, which go back to the model's where that loses nothing.
fn own_dtype(parts: &[&Tensor], usual: DType) -> DType {
    let own = parts.first().map_or(DType::F32, |tensor| tensor.dtype().plain());
    if parts.iter().any(|tensor| tensor.dtype().plain() != own) {
        return DType::F32;
    }
    let vectors = parts.iter().all(|tensor| tensor.shape().len() == 1);
    let exact = |tensor: &&Tensor| tensor.to_dtype(usual).to_f32_vec() == tensor.to_f32_vec();
    if vectors && own == DType::F32 && parts.iter().all(exact) { usual } else { own }
}

/// Writes only the weights, as one float32 safetensors file at `path`, fsynced but not renamed: for a
/// checkpoint, which is atomic as a directory.
///
/// # Errors
/// [`SaveError::Write`].
pub fn save_weights(path: &Path, decoder: &Decoder, architecture: Architecture) -> Result<(), SaveError> {
    write_safetensors(path, &tensors_to_write(decoder, architecture, Some(DType::F32))?)
}

/// Writes a model that transformers, and Parlor, load from `dir`.
///
/// ```no_run
/// use std::path::Path;
///
/// use parlor_model::{LoadOptions, SaveModel, load_path, save_directory};
///
/// let model = load_path(Path::new("models/my-model.gguf"), &LoadOptions::default())?;
/// save_directory(Path::new("models/my-model"), &SaveModel::of(&model))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// See [`SaveError`]. On an error nothing is left behind.
pub fn save_directory(dir: &Path, model: &SaveModel<'_>) -> Result<(), SaveError> {
    let tensors = tensors_to_write(model.decoder, model.architecture, model.dtype)?;
    let config = hf_config(model, &tensors)?;
    let update = Update { directory: dir, last: "config.json", is_stale: &is_weight_file };
    atomic_dir::update(&update, &|staging| write_model(staging, model, &tensors, &config))
}

fn write_model(
    dir: &Path,
    model: &SaveModel<'_>,
    tensors: &[TensorToWrite<'_>],
    config: &Map<String, Value>,
) -> Result<(), SaveError> {
    for (name, bytes) in model.text_files.for_saving() {
        write_file(&dir.join(name), &bytes)?;
    }
    let generation = model.generation.to_json();
    if !generation.is_empty() {
        write_json(&dir.join("generation_config.json"), &Value::Object(generation))?;
    }
    let shards = shards(tensors, model.max_shard_bytes);
    if let [only] = shards[..] {
        write_safetensors(&dir.join(SINGLE_FILE), only)?;
    } else {
        let mut weight_map = Map::new();
        for (number, shard) in shards.iter().enumerate() {
            let name = format!("model-{:05}-of-{:05}.safetensors", number + 1, shards.len());
            for tensor in *shard {
                weight_map.insert(tensor.name.clone(), json!(name));
            }
            write_safetensors(&dir.join(name), shard)?;
        }
        let total: u64 = tensors.iter().map(TensorToWrite::bytes).sum();
        let parameters = model.decoder.parameter_count();
        let metadata = json!({ "total_size": total, "total_parameters": parameters });
        write_json(&dir.join(INDEX_FILE), &json!({ "metadata": metadata, "weight_map": weight_map }))?;
    }
    write_json(&dir.join("config.json"), &Value::Object(config.clone()))
}

/// Consecutive runs of tensors of at most `most` bytes each; a tensor that is larger has a shard to itself.
fn shards<'s, 'a>(tensors: &'s [TensorToWrite<'a>], most: u64) -> Vec<&'s [TensorToWrite<'a>]> {
    let mut shards = Vec::new();
    let (mut start, mut size) = (0, 0u64);
    for (index, tensor) in tensors.iter().enumerate() {
        if index > start && size + tensor.bytes() > most {
            shards.push(&tensors[start..index]);
            (start, size) = (index, 0);
        }
        size += tensor.bytes();
    }
    shards.push(&tensors[start..]);
    shards
}

/// Whether a file holds weights of a model, and so is stale after a save that did not write it.
fn is_weight_file(name: &str) -> bool {
    name == SINGLE_FILE || name == INDEX_FILE || is_shard_name(name)
}

/// `config.json` as it is written: the source's keys, brought up to date, or a new one.
fn hf_config(model: &SaveModel<'_>, tensors: &[TensorToWrite<'_>]) -> Result<Map<String, Value>, SaveError> {
    let shape = model.decoder.config();
    let architecture = model.architecture;
    let mut map = match model.hf_config {
        Some(source) => {
            let mut map = source.clone();
            architecture.refresh(shape, &mut map);
            map
        }
        None => architecture.hf_config(shape).map_err(|problems| {
            let family = architecture.model_type();
            SaveError::Shape { family, problems }
        })?,
    };
    let mut sizes: HashMap<DType, u64> = HashMap::new();
    for tensor in tensors {
        *sizes.entry(tensor.dtype).or_default() += tensor.bytes();
    }
    // Of several dtypes, the one of most bytes.
    let dtype = [DType::F32, DType::Bf16, DType::F16]
        .into_iter()
        .max_by_key(|dtype| sizes.get(dtype).copied().unwrap_or(0))
        .unwrap_or(DType::F32);
    map.insert("torch_dtype".to_owned(), json!(dtype.name()));
    map.insert("dtype".to_owned(), json!(dtype.name()));
    let generation = model.generation;
    for (key, value) in [
        ("bos_token_id", generation.bos_token_id.map(Value::from)),
        ("eos_token_id", generation.eos_value()),
        ("pad_token_id", generation.pad_token_id.map(Value::from)),
    ] {
        if let Some(value) = value
            && map.get(key).is_none_or(Value::is_null)
        {
            map.insert(key.to_owned(), value);
        }
    }
    Ok(map)
}
