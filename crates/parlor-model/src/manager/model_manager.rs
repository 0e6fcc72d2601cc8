//! [`ModelManager`]: resolves, loads once, shares, measures and unloads a model. No arithmetic.
//!
//! Loaded models are shared by all managers of the process: the cache is keyed by the directory's content and
//! the load options, and holds a model only as long as someone uses it.
//! Leaves out: optimisation, export, quantization and distribution, which come with their features.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use serde::Serialize;

use super::model_config::{ModelConfig, OutOfMemoryPolicy};
use crate::checkpoint::LoadedModel;
use crate::checkpoint::locate_model;
use crate::config::{Device, LoadOptions, MaxLength, TorchDtype};
use crate::decoder::TrainableParameters;
use crate::error::{LoadErrorKind, ModelLoadError};
use crate::files::{ContentKey, content_key};
use crate::lora::{load_with_adapters, locate_with_adapters};
use crate::memory::resident_bytes;

/// Measurements of one named operation.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct OperationMetrics {
    /// How often it ran.
    pub calls: u64,
    /// Seconds in all calls together.
    pub seconds: f64,
    /// Resident memory before the last call, in MB (10^6 bytes); none where the system does not say.
    pub memory_before_mb: Option<f64>,
    /// Resident memory after it.
    pub memory_after_mb: Option<f64>,
}

/// What a manager has measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PerformanceMetrics {
    /// Seconds of the last load; none before the first, and for a model from the cache the time of finding it.
    pub loading_time: Option<f64>,
    /// Resident memory before the last load, in MB.
    pub memory_before_mb: Option<f64>,
    /// Resident memory after it, in MB. Mapped weights count as they are first used.
    pub memory_after_mb: Option<f64>,
    /// Loads that found the model in the cache.
    pub cache_hits: u64,
    /// Every operation measured with [`ModelManager::performance_monitor`].
    pub operations: BTreeMap<String, OperationMetrics>,
}

/// The GPUs that this build can use: none, until GPU support joins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GpuInfo {
    /// Number of them.
    pub count: usize,
    /// Total memory of each, in bytes.
    pub memory_bytes: Vec<u64>,
}

/// Content of the base and of each adapter, and how they were loaded.
type CacheKey = (Vec<ContentKey>, LoadOptions);

static CACHE: LazyLock<Mutex<HashMap<CacheKey, Weak<LoadedModel>>>> = LazyLock::new(Mutex::default);

/// Locks even after a panic: every write is a single insertion, so the data stay consistent.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Owns the life cycle of the model that a [`ModelConfig`] names. Managers share loaded models.
///
/// ```no_run
/// use parlor_model::{ModelConfig, ModelManager};
///
/// let config = ModelConfig { name: "models/my-model".to_owned(), ..ModelConfig::default() };
/// let manager = ModelManager::new(config);
/// let model = manager.load_model()?;
/// println!("{} parameters", model.decoder.parameter_count());
/// # Ok::<(), parlor_model::ModelLoadError>(())
/// ```
#[derive(Debug)]
pub struct ModelManager {
    config: ModelConfig,
    options: LoadOptions,
    adapters: Vec<PathBuf>,
    loaded: Mutex<Option<Arc<LoadedModel>>>,
    metrics: Mutex<PerformanceMetrics>,
}

impl ModelManager {
    /// A manager for the model of `config`, which it does not load yet. `max_length` must not be over the
    /// model's limit.
    pub fn new(config: ModelConfig) -> Self {
        let options = config.load_options(MaxLength::Exactly(config.max_length));
        Self::with_options(config, options)
    }

    /// A manager with explicit load options, which override `torch_dtype` and `max_length` of `config`: to
    /// train, or to let `max_length` follow the model ([`MaxLength::AtMost`]).
    pub fn with_options(config: ModelConfig, options: LoadOptions) -> Self {
        Self { config, options, adapters: Vec::new(), loaded: Mutex::default(), metrics: Mutex::default() }
    }

    /// Attaches adapters, which are directories in PEFT's layout; the first becomes the active one.
    pub fn with_adapters(self, adapters: Vec<PathBuf>) -> Self {
        Self { adapters, ..self }
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The device that the model runs on.
    ///
    /// # Errors
    /// `Device`, when a GPU is asked for.
    pub fn device(&self) -> Result<Device, ModelLoadError> {
        self.config.device.resolve()
    }

    /// The model: loaded at the first call, and again when the directory's content has changed since.
    ///
    /// # Errors
    /// See [`ModelLoadError`].
    pub fn load_model(&self) -> Result<Arc<LoadedModel>, ModelLoadError> {
        let (start, before) = (Instant::now(), resident_mb());
        self.device()?;
        if let Some(revision) = &self.config.revision {
            return Err(ModelLoadError::new(
                LoadErrorKind::Network,
                "`model.revision`",
                format!("revision `{revision}` was asked for, but this version does not use the Hub"),
                "download that revision to a directory, name the directory, and remove `model.revision`",
            ));
        }
        let cache_dir = self.config.cache_dir.as_deref();
        let dir = locate_model(&self.config.name, cache_dir)?;
        let (dir, adapters) = locate_with_adapters(&dir, &self.adapters, cache_dir)?;
        // Held while loading, so that a second caller waits for the first one's model.
        let mut loaded = locked(&self.loaded);
        let (model, hit) = self.load_cached(&dir, &adapters)?;
        if !hit {
            self.check_model_type(&model);
        }
        *loaded = Some(Arc::clone(&model));
        let mut metrics = locked(&self.metrics);
        metrics.loading_time = Some(start.elapsed().as_secs_f64());
        metrics.memory_before_mb = before;
        metrics.memory_after_mb = resident_mb();
        metrics.cache_hits += u64::from(hit);
        Ok(model)
    }

    fn load_cached(
        &self,
        dir: &Path,
        adapters: &[PathBuf],
    ) -> Result<(Arc<LoadedModel>, bool), ModelLoadError> {
        // Without a config.json loading fails, with a better message than a key could.
        let contents = match dir.is_file() || dir.join("config.json").is_file() {
            true => {
                let directories = std::iter::once(dir).chain(adapters.iter().map(PathBuf::as_path));
                Some(directories.map(content_key).collect::<Result<Vec<_>, _>>()?)
            }
            false => None,
        };
        if let Some(contents) = &contents
            && let Some(model) = locked(&CACHE).get(&(contents.clone(), self.options)).and_then(Weak::upgrade)
        {
            return Ok((model, true));
        }
        let (model, options) = match load_with_adapters(dir, adapters, &self.options) {
            Err(error) => self.load_smaller(dir, adapters, error)?,
            Ok(model) => (model, self.options),
        };
        let model = Arc::new(model);
        let mut cache = locked(&CACHE);
        cache.retain(|_, model| model.strong_count() > 0);
        if let Some(contents) = contents {
            cache.insert((contents, options), Arc::downgrade(&model));
        }
        Ok((model, false))
    }

    /// After `error`: in bfloat16, where memory was short and the configuration allows it.
    fn load_smaller(
        &self,
        dir: &Path,
        adapters: &[PathBuf],
        error: ModelLoadError,
    ) -> Result<(LoadedModel, LoadOptions), ModelLoadError> {
        let allowed = self.config.on_out_of_memory == OutOfMemoryPolicy::SmallerDtype;
        if error.kind != LoadErrorKind::OutOfMemory || !allowed || self.options.dtype != TorchDtype::Float32 {
            return Err(error);
        }
        let options = LoadOptions { dtype: TorchDtype::Bfloat16, ..self.options };
        let mut model = load_with_adapters(dir, adapters, &options)?;
        let warning = format!("loaded in bfloat16 instead of float32: {}", error.what);
        tracing::warn!(model = %dir.display(), "{warning}");
        model.warnings.push(warning);
        Ok((model, options))
    }

    fn check_model_type(&self, model: &LoadedModel) {
        if let Some(warning) = self.model_type_warning(model) {
            tracing::warn!(model = %model.path.display(), "{warning}");
        }
    }

    /// A warning when `model.model_type` differs from the checkpoint's family, which is the one that is used.
    pub fn model_type_warning(&self, model: &LoadedModel) -> Option<String> {
        let asked = &self.config.model_type;
        let found = model.architecture;
        (!found.answers_to(asked)).then(|| {
            format!(
                "`model.model_type` is `{asked}`, but the checkpoint is a {found} model and is loaded as one; set \
                 `model_type: {found}` or `auto`"
            )
        })
    }

    /// The model, if it is loaded.
    pub fn loaded(&self) -> Option<Arc<LoadedModel>> {
        locked(&self.loaded).clone()
    }

    /// Drops the model; its memory is freed once nothing else uses it. Returns whether one was loaded.
    pub fn unload(&self) -> bool {
        locked(&self.loaded).take().is_some()
    }

    /// Whether the model is loaded and has an adapter.
    pub fn is_peft_model(&self) -> bool {
        self.loaded().is_some_and(|model| !model.decoder.adapters().is_empty())
    }

    /// How many parameters training would change; loads the model. Those of the adapter, or all without one.
    ///
    /// # Errors
    /// See [`Self::load_model`].
    pub fn get_trainable_parameters(&self) -> Result<TrainableParameters, ModelLoadError> {
        let model = match self.loaded() {
            Some(model) => model,
            None => self.load_model()?,
        };
        Ok(model.decoder.trainable_parameters())
    }

    /// The GPUs that this build can use.
    pub fn get_gpu_info(&self) -> GpuInfo {
        GpuInfo::default()
    }

    /// Runs `operation` and adds its time and memory to the metrics under `name`.
    pub fn performance_monitor<T>(&self, name: &str, operation: impl FnOnce() -> T) -> T {
        let (start, before) = (Instant::now(), resident_mb());
        let result = operation();
        let seconds = start.elapsed().as_secs_f64();
        let mut metrics = locked(&self.metrics);
        let entry = metrics.operations.entry(name.to_owned()).or_default();
        entry.calls += 1;
        entry.seconds += seconds;
        entry.memory_before_mb = before;
        entry.memory_after_mb = resident_mb();
        result
    }

    /// What was measured so far.
    pub fn get_performance_metrics(&self) -> PerformanceMetrics {
        locked(&self.metrics).clone()
    }
}

fn resident_mb() -> Option<f64> {
    resident_bytes().map(|bytes| bytes as f64 / 1e6)
}
