//! One run in the store: creating, resuming, appending, ending.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Clock;
use crate::config::MlflowConfig;
use crate::error::TrackError;
use crate::metrics_file::{Missing, append_line};
use crate::mlflow::key::{MAX_EXPERIMENT, MAX_PARAM, MAX_TAG, cut, printable, sanitised_key};
use crate::mlflow::meta::{self, ExperimentMeta, META, RunMeta};
use crate::row::Row;
use crate::run_record::{RunInfo, RunStatus};
use crate::tracker::Tracker;
use crate::tracking_uri::{TrackingUri, file_uri};
use crate::whole_file;

const TRASH: &str = ".trash";
const METRICS: &str = "metrics";
const PARAMS: &str = "params";
const TAGS: &str = "tags";
const ARTIFACTS: &str = "artifacts";
/// Larger files are not copied: weights belong to the output directory.
const MAX_ARTIFACT_BYTES: u64 = 16 << 20;

/// Identifies a run of a store. `run.json` keeps this, so that a resumed run continues it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MlflowRun {
    /// The store's directory, absolute.
    pub directory: PathBuf,
    /// The experiment.
    pub experiment_id: String,
    /// The run.
    pub run_id: String,
}

/// A run in MLflow's file store.
#[derive(Debug)]
pub struct MlflowFileStore {
    run: MlflowRun,
    directory: PathBuf,
    meta: RunMeta,
    clock: Clock,
    /// The file that each key goes to.
    keys: BTreeMap<String, String>,
    taken: BTreeSet<String>,
}

impl MlflowFileStore {
    /// Creates a run, and its experiment if there is none of that name.
    ///
    /// # Errors
    /// When `tracking_uri` is not a directory, the experiment is deleted, or the store cannot be written.
    pub fn create(
        config: &MlflowConfig,
        run_id: &str,
        name: &str,
        info: &RunInfo,
        clock: Clock,
    ) -> Result<Self, TrackError> {
        check_run_id(run_id)?;
        let root = root(config)?;
        let now = clock.now().as_millisecond();
        let experiment_id = find_or_create_experiment(&root, &config.experiment_name, run_id, now)?;
        let directory = root.join(&experiment_id).join(run_id);
        for part in [METRICS, PARAMS, TAGS, ARTIFACTS] {
            let part = directory.join(part);
            fs::create_dir_all(&part).map_err(|source| TrackError::write(&part, source))?;
        }
        let meta = RunMeta {
            artifact_uri: file_uri(&directory.join(ARTIFACTS).to_string_lossy()),
            experiment_id: experiment_id.clone(),
            run_id: run_id.to_owned(),
            run_name: printable(name),
            start_time: now,
            end_time: None,
            user_id: info.user.clone().unwrap_or_else(|| "unknown".to_owned()),
            lifecycle_stage: "active".to_owned(),
        };
        let run = MlflowRun { directory: root, experiment_id, run_id: run_id.to_owned() };
        let mut store = Self::open(run, directory, meta, clock);
        store.write_tags(info)?;
        store.write_params(info)?;
        // Last, so that no reader sees an incomplete run.
        store.write_meta(RunStatus::Running)?;
        Ok(store)
    }

    /// Resumes a run after `step` steps: points of later steps are removed.
    ///
    /// # Errors
    /// When the run does not exist, was deleted, or cannot be written.
    pub fn resume(run: MlflowRun, info: &RunInfo, step: u64, clock: Clock) -> Result<Self, TrackError> {
        check_run_id(&run.run_id)?;
        check_run_id(&run.experiment_id)?;
        let directory = run.directory.join(&run.experiment_id).join(&run.run_id);
        let mut meta: RunMeta = meta::read(&directory)?;
        if meta.lifecycle_stage != "active" {
            let problem = "the run was deleted in MLflow; restore it to go on with it";
            return Err(TrackError::malformed(&directory.join(META), problem));
        }
        meta.end_time = None;
        let mut store = Self::open(run, directory, meta, clock);
        store.take_out_later_than(step)?;
        store.write_params(info)?;
        store.write_meta(RunStatus::Running)?;
        Ok(store)
    }

    fn open(run: MlflowRun, directory: PathBuf, meta: RunMeta, clock: Clock) -> Self {
        Self { run, directory, meta, clock, keys: BTreeMap::new(), taken: BTreeSet::new() }
    }

    /// Which run it is.
    pub fn run(&self) -> &MlflowRun {
        &self.run
    }

    fn write_meta(&self, status: RunStatus) -> Result<(), TrackError> {
        meta::write_run(&self.directory, &self.meta, status)
    }

    fn write_tags(&mut self, info: &RunInfo) -> Result<(), TrackError> {
        let mut tags = vec![
            ("mlflow.runName".to_owned(), self.meta.run_name.clone()),
            ("mlflow.user".to_owned(), self.meta.user_id.clone()),
            ("mlflow.source.type".to_owned(), "LOCAL".to_owned()),
            ("mlflow.source.name".to_owned(), info.command.clone().unwrap_or_else(|| "parlor".to_owned())),
        ];
        tags.extend(info.versions.iter().map(|(name, version)| (format!("version.{name}"), version.clone())));
        tags.extend(info.data_sha256.iter().map(|(path, hash)| {
            (format!("data_sha256/{}", path.trim_start_matches(['.', '/'])), hash.clone())
        }));
        tags.extend(info.template_sha256.iter().map(|hash| ("template_sha256".to_owned(), hash.clone())));
        tags.iter().try_for_each(|(key, value)| self.write_value(TAGS, key, value, MAX_TAG))
    }

    /// Writes parameters once: existing ones stay unchanged.
    fn write_params(&mut self, info: &RunInfo) -> Result<(), TrackError> {
        for (key, value) in &info.params {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) if number.is_f64() => python_float(number.as_f64().unwrap_or(f64::NAN)),
                other => other.to_string(),
            };
            if let Ok(old) = fs::read_to_string(self.path(PARAMS, key)?) {
                if old != cut(&text, MAX_PARAM) {
                    let now = cut(&text, 200);
                    tracing::warn!("MLflow keeps the first value of the parameter `{key}`; now it is {now}");
                }
                continue;
            }
            self.write_value(PARAMS, key, &text, MAX_PARAM)?;
        }
        Ok(())
    }

    fn write_value(&mut self, kind: &str, key: &str, value: &str, most: usize) -> Result<(), TrackError> {
        let path = self.path(kind, key)?;
        let short = cut(value, most);
        if short != value {
            tracing::warn!("MLflow takes {most} characters; the value of `{key}` in {kind} is cut");
        }
        // Written in place: before `meta.yaml` is there nobody reads them, and syncing hundreds of them would
        // be slow.
        fs::write(&path, short).map_err(|source| TrackError::write(&path, source))
    }

    /// The file of a key; creates its directories. Two keys never share a file.
    fn path(&mut self, kind: &str, key: &str) -> Result<PathBuf, TrackError> {
        let base = self.directory.join(kind);
        let known = format!("{kind}/{key}");
        if let Some(file) = self.keys.get(&known) {
            return Ok(base.join(file));
        }
        let clean = sanitised_key(key);
        let mut file = clean.clone();
        let mut copy = 1;
        while self.taken.contains(&format!("{kind}/{file}")) || blocked(&base, &file) {
            copy += 1;
            let most = crate::mlflow::key::MAX_KEY - 8;
            file = sanitised_key(&format!("{}-{copy}", cut_bytes(&clean.replace('/', "_"), most)));
        }
        if file != key {
            tracing::warn!("MLflow does not take the key `{key}` in {kind}; it is recorded as `{file}`");
        }
        let path = base.join(&file);
        if let Some(parent) = path.parent().filter(|parent| *parent != base) {
            // `base` itself is not created again: when it is gone, the run is gone.
            if base.is_dir() {
                fs::create_dir_all(parent).map_err(|source| TrackError::write(parent, source))?;
            }
        }
        self.taken.insert(format!("{kind}/{file}"));
        self.keys.insert(known, file);
        Ok(path)
    }

    fn take_out_later_than(&self, step: u64) -> Result<(), TrackError> {
        for path in files_under(&self.directory.join(METRICS))? {
            let text = fs::read_to_string(&path).map_err(|source| TrackError::read(&path, source))?;
            let keep = |line: &&str| line.ends_with('\n') && step_of(line).is_some_and(|at| at <= step);
            let kept: String = text.split_inclusive('\n').filter(keep).collect();
            if kept.is_empty() {
                // MLflow treats an empty file as corrupt.
                fs::remove_file(&path).map_err(|source| TrackError::write(&path, source))?;
            } else if kept != text {
                whole_file::write(&path, &self.directory, kept.as_bytes())?;
            }
        }
        Ok(())
    }
}

impl Tracker for MlflowFileStore {
    fn name(&self) -> &'static str {
        "mlflow"
    }

    fn log(&mut self, row: &Row) -> Result<(), TrackError> {
        let now = self.clock.now().as_millisecond();
        for (key, value) in row.metrics.iter().filter_map(|(key, value)| Some((key, value.number()?))) {
            let path = self.path(METRICS, key)?;
            let line = format!("{now} {} {}\n", python_float(value), row.step);
            append_line(&path, line.as_bytes(), Missing::IsMade)
                .map_err(|source| TrackError::write(&path, source))?;
        }
        Ok(())
    }

    fn artifact(&mut self, path: &Path) -> Result<(), TrackError> {
        let facts = fs::metadata(path).map_err(|source| TrackError::read(path, source))?;
        let Some(name) = path.file_name().filter(|_| facts.is_file()) else {
            return Err(TrackError::malformed(path, "only files are copied to MLflow"));
        };
        if facts.len() > MAX_ARTIFACT_BYTES {
            let limit = MAX_ARTIFACT_BYTES >> 20;
            let problem = format!("{} bytes; files over {limit} MiB are not copied to MLflow", facts.len());
            return Err(TrackError::malformed(path, problem));
        }
        let contents = fs::read(path).map_err(|source| TrackError::read(path, source))?;
        whole_file::write(&self.directory.join(ARTIFACTS).join(name), &self.directory, &contents)
    }

    fn finish(&mut self, status: RunStatus) -> Result<(), TrackError> {
        let now = self.clock.now().as_millisecond();
        self.meta.end_time = (status != RunStatus::Running).then_some(now);
        self.write_meta(status)
    }
}

/// The store's directory, with what MLflow expects in it.
fn root(config: &MlflowConfig) -> Result<PathBuf, TrackError> {
    let TrackingUri::Directory(path) = TrackingUri::parse(&config.tracking_uri) else {
        let problem = "not a directory; name one, such as ./mlruns".to_owned();
        return Err(TrackError::Setting { key: "monitoring.mlflow.tracking_uri", problem });
    };
    let root = std::path::absolute(&path).map_err(|source| TrackError::read(&path, source))?;
    let trash = root.join(TRASH);
    fs::create_dir_all(&trash).map_err(|source| TrackError::write(&trash, source))?;
    Ok(root)
}

fn find_or_create_experiment(root: &Path, name: &str, run_id: &str, now: i64) -> Result<String, TrackError> {
    let name = cut(printable(name).trim(), MAX_EXPERIMENT);
    // Two runs that start at once must not both create the experiment. Not every system can lock a directory.
    let lock = File::open(root).and_then(|directory| directory.lock().map(|()| directory));
    if !root.join("0").join(META).exists() {
        create_experiment(root, "0", "Default", now)?;
    }
    for (directory, deleted) in experiments(root)? {
        match meta::read::<ExperimentMeta>(&directory) {
            Ok(meta) if meta.name == name => {
                if deleted || meta.lifecycle_stage != "active" {
                    let problem = format!(
                        "the experiment `{name}` was deleted in MLflow; restore it (`mlflow experiments restore`), or choose another name"
                    );
                    return Err(TrackError::Setting { key: "monitoring.mlflow.experiment_name", problem });
                }
                let id = match meta.experiment_id {
                    Value::String(id) => id,
                    other => other.to_string(),
                };
                // MLflow skips a directory that is not named by its experiment's id.
                if directory.file_name().is_some_and(|name| *name == *id) {
                    return Ok(id);
                }
            }
            Ok(_) => {}
            Err(error) => tracing::debug!("passed over an experiment: {error}"),
        }
    }
    let mut number = experiment_number(run_id);
    while root.join(number.to_string()).exists() || root.join(TRASH).join(number.to_string()).exists() {
        number += 1;
    }
    let id = number.to_string();
    create_experiment(root, &id, &name, now)?;
    drop(lock);
    Ok(id)
}

/// 18 decimal digits, as MLflow's own, from the run's id.
fn experiment_number(run_id: &str) -> u64 {
    // FNV-1a
    let hash = run_id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    100_000_000_000_000_000 + hash % 899_999_999_999_999_000
}

fn create_experiment(root: &Path, id: &str, name: &str, now: i64) -> Result<(), TrackError> {
    let directory = root.join(id);
    fs::create_dir_all(&directory).map_err(|source| TrackError::write(&directory, source))?;
    meta::write_experiment(&directory, id, name, &file_uri(&directory.to_string_lossy()), now)
}

/// Directories with a `meta.yaml`, and whether they lie in the trash.
fn experiments(root: &Path) -> Result<Vec<(PathBuf, bool)>, TrackError> {
    let mut found = Vec::new();
    for (place, deleted) in [(root.to_owned(), false), (root.join(TRASH), true)] {
        let entries = fs::read_dir(&place).map_err(|source| TrackError::read(&place, source))?;
        found.extend(
            entries
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.join(META).is_file())
                .map(|path| (path, deleted)),
        );
    }
    found.sort();
    Ok(found)
}

fn files_under(directory: &Path) -> Result<Vec<PathBuf>, TrackError> {
    let mut files = Vec::new();
    let entries = fs::read_dir(directory).map_err(|source| TrackError::read(directory, source))?;
    for entry in entries {
        let path = entry.map_err(|source| TrackError::read(directory, source))?.path();
        if path.is_dir() {
            files.extend(files_under(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Whether no file can have this path: it is a directory, or a part of it is a file.
fn blocked(base: &Path, file: &str) -> bool {
    let path = base.join(file);
    path.is_dir() || path.ancestors().skip(1).take_while(|part| *part != base).any(|part| part.is_file())
}

fn step_of(line: &str) -> Option<u64> {
    let fields: Vec<&str> = line.trim_end().split(' ').collect();
    match fields[..] {
        [_, _, step] => step.parse().ok(),
        _ => None,
    }
}

/// As Python writes and reads a float.
fn python_float(value: f64) -> String {
    if value.is_nan() {
        "nan".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "inf".to_owned() } else { "-inf".to_owned() }
    } else {
        format!("{value:?}")
    }
}

fn cut_bytes(ascii: &str, most: usize) -> &str {
    ascii.get(..most).unwrap_or(ascii)
}

/// MLflow's rule for ids, which also keeps them from being paths.
fn check_run_id(id: &str) -> Result<(), TrackError> {
    let word = id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if word && id.len() <= 256 && id.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Ok(());
    }
    Err(TrackError::Setting { key: "run_id", problem: format!("{id:?} is not letters, digits, `_` and `-`") })
}
