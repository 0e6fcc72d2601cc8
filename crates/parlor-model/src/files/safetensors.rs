//! The weight files of a model directory: one `model.safetensors`, or shards with an index.
//!
//! Headers are parsed by the `safetensors` crate, files are mapped, and nothing is trusted: an index must name
//! exactly the tensors of its shards, and exactly the shards that are there.
//! Source: the safetensors README, and `model.safetensors.index.json` as transformers writes it.
//! Leaves out: pickled `.bin`/`.pt` weights, which are refused with advice; GGUF, which is in `gguf/`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use parlor_kernels::{DType, MappedFile};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, SafeTensorError};
use serde_json::Value;

use super::lfs;
use super::weight_files::{Container, DOWNLOAD_AGAIN, StoredDtype, TensorEntry, WeightFiles};
use crate::error::{LoadErrorKind, ModelLoadError};

/// The only weight file of a model that is not sharded.
pub(crate) const SINGLE_FILE: &str = "model.safetensors";
/// The list of shards of a model that is.
pub(crate) const INDEX_FILE: &str = "model.safetensors.index.json";

impl WeightFiles {
    /// Opens the weights in `dir`. Where both a single file and an index are there the single file wins, as in
    /// transformers.
    ///
    /// # Errors
    /// `NotFound` when there are none; `Corrupt` when a file is damaged or index and shards disagree;
    /// `Incompatible` when there are only formats that Parlor does not read.
    pub fn open(dir: &Path) -> Result<Self, ModelLoadError> {
        let single = dir.join(SINGLE_FILE);
        let index = dir.join(INDEX_FILE);
        if single.exists() {
            Self::open_file(&single)
        } else if index.exists() {
            Self::open_sharded(dir, &index)
        } else {
            Err(no_weights(dir))
        }
    }

    /// Opens one safetensors file.
    ///
    /// # Errors
    /// `NotFound` or `Corrupt`.
    pub fn open_file(path: &Path) -> Result<Self, ModelLoadError> {
        let mut files = Self::default();
        files.add(path)?;
        Ok(files)
    }

    fn open_sharded(dir: &Path, index_path: &Path) -> Result<Self, ModelLoadError> {
        let listed = read_index(index_path)?;
        let shards: BTreeSet<&String> = listed.values().collect();
        for shard in &shards {
            if !dir.join(shard).exists() {
                return Err(ModelLoadError::new(
                    LoadErrorKind::NotFound,
                    index_path.display(),
                    format!("the index names the shard `{shard}`, which is not in the directory"),
                    format!("copy or download `{shard}` into {}", dir.display()),
                ));
            }
        }
        for name in shard_files(dir)? {
            if !shards.contains(&name) {
                return Err(ModelLoadError::corrupt(
                    index_path,
                    format!("the shard `{name}` is in the directory, but missing from the index"),
                    "download the index again; if the shard is left over from another model, delete it",
                ));
            }
        }
        let mut files = Self::default();
        for shard in shards {
            files.add(&dir.join(shard))?;
        }
        for (name, shard) in &listed {
            let held = files.get(name);
            if held.is_none_or(|entry| entry.path() != dir.join(shard)) {
                return Err(ModelLoadError::new(
                    LoadErrorKind::Corrupt,
                    index_path.display(),
                    format!("the index says that `{shard}` holds the tensor `{name}`, but it does not"),
                    "index and shards are of different downloads; get all of them again",
                ));
            }
        }
        if let Some((name, entry)) = files.iter().find(|(name, _)| !listed.contains_key(*name)) {
            return Err(ModelLoadError::new(
                LoadErrorKind::Corrupt,
                entry.place(name),
                format!("this tensor is missing from the index {}", index_path.display()),
                "index and shards are of different downloads; get all of them again",
            ));
        }
        Ok(files)
    }

    fn add(&mut self, path: &Path) -> Result<(), ModelLoadError> {
        if path.is_dir() {
            return Err(ModelLoadError::corrupt(
                path,
                "this is a directory, not a weight file",
                DOWNLOAD_AGAIN,
            ));
        }
        let file = Arc::new(MappedFile::open(path).map_err(|error| ModelLoadError::reading(path, &error))?);
        let length = file.bytes().len();
        if length == 0 {
            return Err(ModelLoadError::corrupt(path, "the file is empty", DOWNLOAD_AGAIN));
        }
        lfs::refuse(path, file.bytes())?;
        let (header, metadata) = SafeTensors::read_metadata(file.bytes())
            .map_err(|error| ModelLoadError::corrupt(path, damage(&error, file.bytes()), DOWNLOAD_AGAIN))?;
        let data = 8 + header;
        for (name, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            let bytes = data + start..data + end;
            let dtype = stored_dtype(info.dtype);
            let entry = TensorEntry::new(&file, bytes, info.shape.clone(), dtype, Container::Safetensors);
            self.insert(&name, entry)?;
        }
        self.add_file(path);
        Ok(())
    }
}

fn stored_dtype(dtype: Dtype) -> StoredDtype {
    match dtype {
        Dtype::F32 => StoredDtype::Weight(DType::F32),
        Dtype::BF16 => StoredDtype::Weight(DType::Bf16),
        Dtype::F16 => StoredDtype::Weight(DType::F16),
        other => StoredDtype::Other(format!("{other:?}")),
    }
}

/// What a parse error means for someone who has the file in hand.
fn damage(error: &SafeTensorError, bytes: &[u8]) -> String {
    let length = bytes.len();
    let declared = bytes.get(..8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
    match (error, declared) {
        (SafeTensorError::HeaderTooSmall, _) => {
            format!("the file is truncated: it has {length} bytes, and the header's length alone takes 8")
        }
        (SafeTensorError::InvalidHeaderLength | SafeTensorError::HeaderTooLarge, Some(declared)) => format!(
            "the file is truncated or is not safetensors: its header claims {declared} bytes, and the file has \
             {length}"
        ),
        (SafeTensorError::MetadataIncompleteBuffer, _) => {
            format!("the file is truncated or damaged: its {length} bytes are not what its header describes")
        }
        _ => format!("the header is damaged: {error}"),
    }
}

/// `weight_map`: tensor name to shard file name.
fn read_index(path: &Path) -> Result<BTreeMap<String, String>, ModelLoadError> {
    const RESTORE: &str = "restore the index from the model's original files";
    let text = std::fs::read(path).map_err(|error| ModelLoadError::reading(path, &error))?;
    lfs::refuse(path, &text)?;
    let index: Value = serde_json::from_slice(&text).map_err(|error| {
        ModelLoadError::corrupt(path, format!("this is not valid JSON: {error}"), RESTORE)
    })?;
    let Some(map) = index.get("weight_map").and_then(Value::as_object) else {
        return Err(ModelLoadError::corrupt(
            path,
            "the key `weight_map` is missing or is not an object",
            RESTORE,
        ));
    };
    let mut listed = BTreeMap::new();
    for (tensor, shard) in map {
        let Some(shard) = shard.as_str() else {
            let what = format!("`weight_map.{tensor}` should be a file name, but is {shard}");
            return Err(ModelLoadError::corrupt(path, what, RESTORE));
        };
        // A shard is in the directory of its index; anything else could reach out of it.
        let inside = shard.trim_start_matches("./");
        if Path::new(inside).file_name().is_none_or(|name| name != inside) {
            let what = format!("`weight_map.{tensor}` should be a file name, but is the path `{shard}`");
            return Err(ModelLoadError::corrupt(path, what, RESTORE));
        }
        listed.insert(tensor.clone(), inside.to_owned());
    }
    if listed.is_empty() {
        return Err(ModelLoadError::corrupt(path, "`weight_map` names no tensor", RESTORE));
    }
    Ok(listed)
}

/// Whether `name` is `model-00001-of-00002.safetensors`, say.
pub(crate) fn is_shard_name(name: &str) -> bool {
    let middle = name.strip_prefix("model-").and_then(|rest| rest.strip_suffix(".safetensors"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    middle.and_then(|text| text.split_once("-of-")).is_some_and(|(n, of)| digits(n) && digits(of))
}

/// The shards in `dir`.
pub(crate) fn shard_files(dir: &Path) -> Result<Vec<String>, ModelLoadError> {
    let entries = std::fs::read_dir(dir).map_err(|error| ModelLoadError::reading(dir, &error))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| is_shard_name(name))
        .collect();
    names.sort();
    Ok(names)
}

fn no_weights(dir: &Path) -> ModelLoadError {
    let names: Vec<String> = std::fs::read_dir(dir)
        .map(|entries| entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
        .unwrap_or_default();
    let having = |suffix: &str| names.iter().find(|name| name.ends_with(suffix));
    if let Some(shard) = names.iter().filter(|name| is_shard_name(name)).min() {
        return ModelLoadError::new(
            LoadErrorKind::NotFound,
            dir.display(),
            format!("there are shards such as `{shard}`, but no `{INDEX_FILE}`"),
            format!("copy or download `{INDEX_FILE}` as well"),
        );
    }
    if let Some(name) = having(".gguf") {
        return name_the_file(dir, name);
    }
    let foreign = [".bin", ".pt", ".pth", ".msgpack", ".h5"].iter().find_map(|suffix| having(suffix));
    match foreign {
        Some(name) => ModelLoadError::incompatible(
            &dir.join(name),
            "this version reads safetensors weights only",
            "convert the model: in Python, `AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW_DIR)`",
        ),
        None => ModelLoadError::new(
            LoadErrorKind::NotFound,
            dir.display(),
            format!("there are no weights: neither `{SINGLE_FILE}` nor `{INDEX_FILE}`"),
            "point at a directory in Hugging Face layout, with config.json and model.safetensors",
        ),
    }
}

/// What to say of a directory whose weights are a GGUF file.
pub(crate) fn name_the_file(dir: &Path, name: &str) -> ModelLoadError {
    ModelLoadError::new(
        LoadErrorKind::NotFound,
        dir.display(),
        format!("there are no safetensors weights here, but a GGUF file, `{name}`"),
        format!("name the file itself: `-m {}`", dir.join(name).display()),
    )
}
