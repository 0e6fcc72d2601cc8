//! The tensors of a model by name, in safetensors files or in one GGUF file.
//!
//! The loader sees both containers alike: a range of a mapped file, a shape, a dtype.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parlor_kernels::{DType, MappedFile, Tensor};

use crate::error::{LoadErrorKind, ModelLoadError};

pub(crate) const DOWNLOAD_AGAIN: &str =
    "copy or download the file again, and compare its size with the original's";

/// The kind of file that holds the tensors, which decides their names and what describes the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Container {
    /// Files in Hugging Face layout, described by config.json.
    #[default]
    Safetensors,
    /// One file with metadata of its own.
    Gguf,
}

impl Container {
    /// Where the tensors' shapes are described.
    pub(crate) fn description(self) -> &'static str {
        match self {
            Container::Safetensors => "config.json",
            Container::Gguf => "the file's metadata",
        }
    }

    /// What to do when description and weights contradict each other.
    pub(crate) fn advice(self) -> &'static str {
        match self {
            Container::Safetensors => {
                "config.json and the weights are of different models; get all files again"
            }
            Container::Gguf => {
                "the file is damaged, or was converted by a program with an error; get another one"
            }
        }
    }
}

/// The dtype of a stored tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoredDtype {
    /// One that Parlor reads.
    Weight(DType),
    /// One that Parlor does not read, by name.
    Other(String),
}

/// One tensor within a file.
#[derive(Clone, Debug)]
pub struct TensorEntry {
    file: Arc<MappedFile>,
    bytes: Range<usize>,
    shape: Vec<usize>,
    dtype: StoredDtype,
    container: Container,
}

impl TensorEntry {
    pub(crate) fn new(
        file: &Arc<MappedFile>,
        bytes: Range<usize>,
        shape: Vec<usize>,
        dtype: StoredDtype,
        container: Container,
    ) -> Self {
        Self { file: Arc::clone(file), bytes, shape, dtype, container }
    }

    /// Its dimensions, slowest first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The file that holds it.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Its name for error messages: file and tensor.
    pub(crate) fn place(&self, name: &str) -> String {
        format!("{}: tensor `{name}`", self.path().display())
    }

    /// Its dtype, if Parlor reads it.
    pub fn weight_dtype(&self) -> Option<DType> {
        match self.dtype {
            StoredDtype::Weight(dtype) => Some(dtype),
            StoredDtype::Other(_) => None,
        }
    }

    /// Its bytes in the file.
    pub fn bytes(&self) -> &[u8] {
        self.file.bytes().get(self.bytes.clone()).unwrap_or_default()
    }

    /// The mapped tensor, after checking dtype and shape.
    ///
    /// # Errors
    /// `Incompatible` for a dtype that is not read; `Corrupt` for another shape.
    pub fn tensor(&self, name: &str, expected: &[usize]) -> Result<Tensor, ModelLoadError> {
        let dtype = match &self.dtype {
            StoredDtype::Weight(dtype) => *dtype,
            StoredDtype::Other(other) => {
                return Err(ModelLoadError::new(
                    LoadErrorKind::Incompatible,
                    self.place(name),
                    format!("weights of dtype {other} are not supported"),
                    match self.container {
                        Container::Safetensors => {
                            "this version loads F32, BF16 and F16; use the unquantized checkpoint"
                        }
                        Container::Gguf => {
                            "this version loads F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K; \
                             get a file of one of these types"
                        }
                    },
                ));
            }
        };
        if self.shape != expected {
            return Err(ModelLoadError::new(
                LoadErrorKind::Corrupt,
                self.place(name),
                format!(
                    "{} makes this tensor {expected:?}, but its shape is {:?}",
                    self.container.description(),
                    self.shape
                ),
                match self.container {
                    Container::Safetensors => {
                        "config.json and the weights are of different models; copy or download both again"
                    }
                    Container::Gguf => self.container.advice(),
                },
            ));
        }
        Tensor::mapped(&self.file, self.bytes.clone(), &self.shape, dtype).map_err(|error| {
            ModelLoadError::new(LoadErrorKind::Corrupt, self.place(name), error.to_string(), DOWNLOAD_AGAIN)
        })
    }
}

/// All tensors of a model, by name.
#[derive(Clone, Debug, Default)]
pub struct WeightFiles {
    tensors: BTreeMap<String, TensorEntry>,
    files: Vec<PathBuf>,
    container: Container,
}

impl WeightFiles {
    /// No tensors yet, of one file.
    pub(crate) fn of_container(container: Container, file: &Path) -> Self {
        Self { container, files: vec![file.to_owned()], ..Self::default() }
    }

    /// Adds a tensor.
    ///
    /// # Errors
    /// `Corrupt` for a name that is taken.
    pub(crate) fn insert(&mut self, name: &str, entry: TensorEntry) -> Result<(), ModelLoadError> {
        if let Some(first) = self.tensors.get(name) {
            let (what, help) = match self.container {
                Container::Safetensors => (
                    format!("this tensor is also in {}", first.path().display()),
                    "the shards are of different downloads; get all of them again",
                ),
                Container::Gguf => ("this tensor is there a second time".to_owned(), DOWNLOAD_AGAIN),
            };
            return Err(ModelLoadError::new(LoadErrorKind::Corrupt, entry.place(name), what, help));
        }
        self.tensors.insert(name.to_owned(), entry);
        Ok(())
    }

    /// Records a file that was opened.
    pub(crate) fn add_file(&mut self, path: &Path) {
        self.files.push(path.to_owned());
    }

    /// The kind of file that holds them.
    pub(crate) fn container(&self) -> Container {
        self.container
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&TensorEntry> {
        self.tensors.get(name)
    }

    /// All tensors, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &TensorEntry)> {
        self.tensors.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The files, in the order in which they were opened.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }
}
