//! The configuration in force: loading, sharing, updating, saving and reloading it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parlor_files::atomic_file;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::configuration::Configuration;
use crate::emit::{self, SaveMode};
use crate::explain::{self, Explanation};
use crate::generate::json_schema;
use crate::layers::{self, Loaded, Read, Sources};
use crate::node::Node;
use crate::problem::{ConfigError, Problem};
use crate::rules::{Rules, SeedKeys};
use crate::schema::Schema;

/// Timings and counts of loads, updates and reloads.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ConfigMetrics {
    /// Duration of the last complete load: reading, merging, validating.
    pub load_time: Duration,
    /// Duration of the last validation, within a load or by [`ConfigManager::validate`].
    pub validation_time: Duration,
    /// Accepted updates at run time.
    pub updates: u64,
    /// Rejected updates at run time.
    pub rejected_updates: u64,
    /// Accepted reloads of changed files.
    pub reloads: u64,
    /// Rejected reloads of changed files.
    pub rejected_reloads: u64,
}

impl ConfigMetrics {
    /// Share of updates and reloads that were rejected; 0 when there was none.
    pub fn error_rate(&self) -> f64 {
        let refused = self.rejected_updates + self.rejected_reloads;
        let all = refused + self.updates + self.reloads;
        if all == 0 { 0.0 } else { refused as f64 / all as f64 }
    }
}

/// Why a configuration could not be saved.
#[derive(Debug, thiserror::Error)]
#[error("{}: the configuration could not be written: {source}", .path.display())]
pub struct SaveError {
    path: PathBuf,
    source: std::io::Error,
}

struct State<C> {
    value: Arc<C>,
    tree: Node,
    /// The layers below the updates, so that an update does not depend on what is being written to the files.
    read: Arc<Read>,
}

struct Shared<C> {
    sources: Sources,
    rules: Rules<C>,
    schema: Value,
    defaults: Value,
    state: ArcSwap<State<C>>,
    /// Also serialises changes: the holder of the lock computes the next state from the present one.
    updates: Mutex<Vec<(String, Value)>>,
    subscribers: Mutex<Vec<Sender<Arc<C>>>>,
    metrics: Mutex<ConfigMetrics>,
}

/// Holds a configuration of type `C`. Clones share it. Readers never wait: [`ConfigManager::get`] returns the
/// value in force.
///
/// ```
/// use parlor_config::{ConfigManager, Rules, SaveMode, Sources};
/// use schemars::JsonSchema;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
/// #[serde(default, deny_unknown_fields)]
/// struct Settings {
///     /// Rows per step.
///     #[schemars(range(min = 1, max = 1024))]
///     batch_size: usize,
/// }
///
/// impl Default for Settings {
///     fn default() -> Self {
///         Self { batch_size: 8 }
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// let file = directory.path().join("config.yaml");
/// std::fs::write(&file, "batch_size: 16\n")?;
/// let sources = Sources { files: vec![file.clone()], ..Sources::default() };
/// let manager = ConfigManager::<Settings>::load(sources, Rules::default())?;
/// assert_eq!(manager.get().batch_size, 16);
/// assert!(manager.validate().is_empty());
///
/// // An invalid update is an error that lists every problem, and changes nothing.
/// let error = manager.update("batch_size", 0).unwrap_err();
/// assert_eq!(error.problems.len(), 1);
/// manager.update("batch_size", 32)?;
/// manager.save(&directory.path().join("saved.yaml"), SaveMode::All)?;
///
/// // Hot reload: a changed file is validated first. Updates at run time stay in force.
/// let watching = manager.watch(|result| assert!(result.is_ok()))?;
/// std::fs::write(&file, "batch_size: 64\n")?;
/// manager.reload()?;
/// assert_eq!(manager.get().batch_size, 32);
/// # drop(watching);
/// # Ok(())
/// # }
/// ```
pub struct ConfigManager<C> {
    shared: Arc<Shared<C>>,
}

impl<C> Clone for ConfigManager<C> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

/// The configuration in force, without its secrets.
impl<C: Configuration> fmt::Debug for ConfigManager<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = self.files();
        f.debug_struct("ConfigManager")
            .field("files", &files)
            .field("changed", &self.shown(SaveMode::Changed))
            .finish_non_exhaustive()
    }
}

/// Locks a mutex even after a panic of its holder: every change is one assignment, so the value is consistent.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<C: Configuration> ConfigManager<C> {
    /// Loads and validates a configuration.
    ///
    /// # Errors
    /// Every problem of every layer at once.
    pub fn load(sources: Sources, rules: Rules<C>) -> Result<Self, ConfigError> {
        let start = Instant::now();
        let schema = json_schema(&rules);
        let read = Arc::new(layers::read::<C>(&sources, &schema));
        let loaded = layers::assemble(&read, &[], &rules, &schema);
        let Loaded { value, tree, validation } = loaded.map_err(|problems| ConfigError { problems })?;
        let shared = Shared {
            sources,
            rules,
            schema,
            defaults: layers::defaults::<C>(),
            state: ArcSwap::from_pointee(State { value: Arc::new(value), tree, read }),
            updates: Mutex::default(),
            subscribers: Mutex::default(),
            metrics: Mutex::new(ConfigMetrics {
                load_time: start.elapsed(),
                validation_time: validation,
                ..ConfigMetrics::default()
            }),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The value in force.
    pub fn get(&self) -> Arc<C> {
        Arc::clone(&self.shared.state.load().value)
    }

    /// Validates the configuration in force, with the program's own validators; empty when it is valid.
    pub fn validate(&self) -> Vec<Problem> {
        let start = Instant::now();
        let state = self.shared.state.load();
        let problems = layers::check(&*state.value, &state.tree, &self.shared.rules);
        lock(&self.shared.metrics).validation_time = start.elapsed();
        problems
    }

    /// The value of a key as written, a section as an object; `***` for a secret.
    ///
    /// # Errors
    /// An unknown key, with the nearest known one.
    pub fn value(&self, key: &str) -> Result<Value, Box<Problem>> {
        let state = self.shared.state.load();
        let mut value = match state.tree.find(key) {
            Some(node) => node.to_json(),
            None => {
                let schema = Schema::root(&self.shared.schema);
                let known = schema.find(key).is_some_and(|found| !found.is_free());
                if !known {
                    return Err(Box::new(explain::unknown(key, schema)));
                }
                Value::Null
            }
        };
        explain::hide(&mut value, key, &self.shared.rules);
        Ok(value)
    }

    /// The configuration as written, or what differs from the defaults. Secrets are `***`.
    pub fn shown(&self, mode: SaveMode) -> Value {
        let mut value = self.shared.state.load().tree.to_json();
        explain::hide(&mut value, "", &self.shared.rules);
        match mode {
            SaveMode::All => value,
            SaveMode::Changed => {
                changed(&value, &self.shared.defaults).unwrap_or_else(|| Value::Object(Map::new()))
            }
        }
    }

    /// Everything about one key.
    ///
    /// # Errors
    /// An unknown key, with the nearest known one.
    pub fn explain(&self, key: &str) -> Result<Explanation, Box<Problem>> {
        let state = self.shared.state.load();
        let schema = Schema::root(&self.shared.schema);
        explain::explain(key, &state.tree, &self.shared.defaults, schema, &self.shared.rules)
    }

    /// Every key that has a value.
    pub fn keys(&self) -> Vec<String> {
        Schema::root(&self.shared.schema).leaves("").into_iter().map(|(path, _)| path).collect()
    }

    /// The text that [`Self::save`] writes.
    pub fn to_yaml(&self, mode: SaveMode) -> String {
        let state = self.shared.state.load();
        let defaults = (mode == SaveMode::Changed).then_some(&self.shared.defaults);
        emit::tree(&state.tree, defaults, &|path| self.shared.rules.is_secret(path))
    }

    /// Writes the configuration. A reader of the file sees the old one or the new one, never a part.
    ///
    /// # Errors
    /// [`SaveError`] with the path.
    pub fn save(&self, path: &Path, mode: SaveMode) -> Result<(), SaveError> {
        atomic_file::replace(path, atomic_file::directory_of(path), self.to_yaml(mode).as_bytes())
            .map_err(|source| SaveError { path: path.to_owned(), source })
    }

    /// Sets one key for the rest of the run. The whole configuration is validated first; a rejected update
    /// changes nothing. A text is parsed as by `--set`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn update(&self, key: &str, value: impl Into<Value>) -> Result<(), ConfigError> {
        let mut updates = lock(&self.shared.updates);
        let mut next = updates.clone();
        next.retain(|(known, _)| known != key);
        next.push((key.to_owned(), value.into()));
        let read = Arc::clone(&self.shared.state.load().read);
        let result = self.swap(read, &next, Instant::now());
        let mut metrics = lock(&self.shared.metrics);
        match result {
            Ok(()) => {
                *updates = next;
                metrics.updates += 1;
                Ok(())
            }
            Err(error) => {
                metrics.rejected_updates += 1;
                Err(error)
            }
        }
    }

    /// Reads all layers again and keeps the updates at run time. An invalid configuration changes nothing.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn reload(&self) -> Result<(), ConfigError> {
        self.reload_files().0
    }

    /// [`Self::reload`], and every file that was read or looked for.
    pub(crate) fn reload_files(&self) -> (Result<(), ConfigError>, Vec<PathBuf>) {
        let start = Instant::now();
        let updates = lock(&self.shared.updates);
        let read = Arc::new(layers::read::<C>(&self.shared.sources, &self.shared.schema));
        let files = read.files.clone();
        let result = self.swap(read, &updates, start);
        let mut metrics = lock(&self.shared.metrics);
        match &result {
            Ok(()) => metrics.reloads += 1,
            Err(_) => metrics.rejected_reloads += 1,
        }
        (result, files)
    }

    /// The `.env` file, when there is one.
    pub(crate) fn dotenv(&self) -> Option<&Path> {
        self.shared.sources.dotenv.as_deref()
    }

    fn swap(&self, read: Arc<Read>, updates: &[(String, Value)], start: Instant) -> Result<(), ConfigError> {
        let Shared { rules, schema, .. } = &*self.shared;
        let loaded = layers::assemble(&read, updates, rules, schema);
        let Loaded { value, tree, validation } = loaded.map_err(|problems| ConfigError { problems })?;
        let value = Arc::new(value);
        self.shared.state.store(Arc::new(State { value: Arc::clone(&value), tree, read }));
        let mut metrics = lock(&self.shared.metrics);
        (metrics.load_time, metrics.validation_time) = (start.elapsed(), validation);
        drop(metrics);
        // Drops subscribers that are gone.
        lock(&self.shared.subscribers).retain(|subscriber| subscriber.send(Arc::clone(&value)).is_ok());
        Ok(())
    }

    /// A channel that receives each new value, from an update or a reload. A channel rather than a callback,
    /// so that the receiver decides when and on which thread it reacts.
    pub fn subscribe(&self) -> Receiver<Arc<C>> {
        let (sender, receiver) = channel();
        lock(&self.shared.subscribers).push(sender);
        receiver
    }

    /// Timings and counts of loads, updates and reloads.
    pub fn metrics(&self) -> ConfigMetrics {
        lock(&self.shared.metrics).clone()
    }

    /// Every file that was read, extended files included.
    pub fn files(&self) -> Vec<PathBuf> {
        self.shared.state.load().read.files.clone()
    }
}

impl<C: Configuration + SeedKeys> ConfigManager<C> {
    /// Sets the model's name.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub fn update_model_name(&self, name: &str) -> Result<(), ConfigError> {
        self.update(C::MODEL_NAME, name)
    }

    /// Sets the training type.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub fn update_training_type(&self, training_type: &str) -> Result<(), ConfigError> {
        self.update(C::TRAINING_TYPE, training_type)
    }

    /// Sets the batch size.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub fn update_batch_size(&self, batch_size: usize) -> Result<(), ConfigError> {
        self.update(C::BATCH_SIZE, batch_size)
    }
}

/// The parts of `value` that differ from `default`.
fn changed(value: &Value, default: &Value) -> Option<Value> {
    match (value, default) {
        (Value::Object(map), Value::Object(defaults)) => {
            let entries = map.iter().filter_map(|(name, value)| {
                let default = defaults.get(name).unwrap_or(&Value::Null);
                Some((name.clone(), changed(value, default)?))
            });
            let entries: Map<String, Value> = entries.collect();
            (!entries.is_empty()).then_some(Value::Object(entries))
        }
        _ => (!emit::same(value, default)).then(|| value.clone()),
    }
}
