//! Relative paths of a config file: resolved in the working directory, or, if nothing is there, in the
//! directory of the file.

use std::path::{Path, PathBuf};

use parlor::configuration::Layer;
use parlor::model::{LoadErrorKind, ModelLoadError};
use parlor::text::data_files;
use parlor::train::TrainError;
use parlor::{Config, ConfigManager};

use crate::failure::Failure;

/// A path of a config file that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    key: &'static str,
    /// As written, relative to the working directory.
    named: PathBuf,
    /// Relative to the directory of the file.
    beside: PathBuf,
}

/// Resolves the paths in `config` that exist beside their config file only; returns those that do not exist.
pub(crate) fn resolve(config: &mut Config, manager: &ConfigManager<Config>) -> Vec<Missing> {
    let mut missing = Vec::new();
    let mut look = |key: &'static str, named: &Path, is_there: fn(&Path) -> bool| -> Option<PathBuf> {
        let directory = directory_of(key, manager)?;
        if named.as_os_str().is_empty() || named.is_absolute() || is_there(named) {
            return None;
        }
        let beside = directory.join(named.strip_prefix(".").unwrap_or(named));
        if is_there(&beside) {
            return Some(beside);
        }
        missing.push(Missing { key, named: named.to_owned(), beside });
        None
    };
    let shown = |path: PathBuf| path.to_string_lossy().into_owned();
    let model = &mut config.model;
    let below_cache = model.cache_dir.as_ref().is_some_and(|cache| cache.join(&model.name).exists());
    if !below_cache && let Some(found) = look("model.name", Path::new(&model.name), Path::exists) {
        model.name = shown(found);
    }
    let training = &mut config.training;
    for (key, path) in [
        ("training.dpo.reference_model_path", &mut training.dpo.reference_model_path),
        ("training.from_scratch.tokenizer", &mut training.from_scratch.tokenizer),
        ("training.resume_from_checkpoint", &mut training.resume_from_checkpoint),
    ] {
        if let Some(found) = path.as_deref().and_then(|path| look(key, path, Path::exists)) {
            *path = Some(found);
        }
    }
    let has_data: fn(&Path) -> bool =
        |path| path.exists() || data_files(path).is_ok_and(|files| !files.is_empty());
    let data = &mut config.data;
    for (key, path) in [
        ("data.train_data_path", &mut data.train_data_path),
        ("data.eval_data_path", &mut data.eval_data_path),
        ("data.test_data_path", &mut data.test_data_path),
    ] {
        if let Some(found) = look(key, Path::new(path.as_str()), has_data) {
            *path = shown(found);
        }
    }
    for set in &mut data.datasets {
        if let Some(found) = look("data.datasets", Path::new(&set.path), has_data) {
            set.path = shown(found);
        }
    }
    missing
}

/// The directory of the config file that sets `key`, if it is not the working directory.
fn directory_of(key: &str, manager: &ConfigManager<Config>) -> Option<PathBuf> {
    let found = manager.explain(key).ok().filter(|found| found.layer == Layer::File)?;
    found.file?.parent().filter(|directory| !directory.as_os_str().is_empty()).map(Path::to_owned)
}

impl Missing {
    fn places(&self) -> String {
        format!(
            "neither {} in the working directory nor {} is there",
            self.named.display(),
            self.beside.display()
        )
    }
}

/// The error with both paths, when it is about a path of a config file.
pub(crate) fn of_model(missing: &[Missing], error: ModelLoadError) -> ModelLoadError {
    let of = |one: &&Missing| error.place == format!("`{}`", one.named.display());
    match missing.iter().find(of) {
        Some(one) => ModelLoadError {
            kind: LoadErrorKind::NotFound,
            what: format!("`{}`: there is no such model: {}", one.key, one.places()),
            help: match error.kind {
                LoadErrorKind::Network => format!(
                    "correct `{}`: a directory in Hugging Face layout or a .gguf file; a model of the Hub must be downloaded \
                     before",
                    one.key
                ),
                _ => error.help,
            },
            place: error.place,
        },
        None => error,
    }
}

/// The failure of a run or an evaluation, with the paths that were tried.
pub(crate) fn of_run(missing: &[Missing], error: TrainError) -> Failure {
    match error {
        TrainError::Model(source) => match source.downcast::<ModelLoadError>() {
            Ok(error) => of_model(missing, *error).into(),
            Err(other) => TrainError::Model(other).into(),
        },
        TrainError::Data { what, source } => {
            let text = source.to_string();
            let of = |one: &&Missing| text.contains(&*one.named.to_string_lossy());
            let source = match missing.iter().find(of) {
                Some(one) => format!("{text} (`{}`: {})", one.key, one.places()).into(),
                None => source,
            };
            TrainError::Data { what, source }.into()
        }
        other => other.into(),
    }
}
