//! Loads a model with adapters: a base directory, and PEFT directories that are attached to it.
//!
//! The directory of an adapter names its base, so it can stand for both. Its tokenizer and chat template are
//! those that the adapter was trained with, and take precedence over the base's.

use std::path::{Path, PathBuf};

use super::files::{is_adapter, load_adapter, read_adapter_config};
use crate::checkpoint::{LoadedModel, load_path, locate_model, read_text_artifacts};
use crate::config::LoadOptions;
use crate::error::{LoadErrorKind, ModelLoadError};
use crate::files::{TextFiles, is_gguf};

/// The base model's directory, and the adapters that `dir` and `adapters` name together.
///
/// # Errors
/// `NotFound` when `dir` is an adapter whose base is not here, or one of `adapters` is none.
pub fn locate_with_adapters(
    dir: &Path,
    adapters: &[PathBuf],
    cache_dir: Option<&Path>,
) -> Result<(PathBuf, Vec<PathBuf>), ModelLoadError> {
    for adapter in adapters {
        read_adapter_config(adapter)?;
    }
    if !is_adapter(dir) {
        return Ok((dir.to_owned(), adapters.to_vec()));
    }
    let config = read_adapter_config(dir)?;
    let help = |name: &str| {
        format!("name it: `-m BASE -a {}`, where BASE is the directory of {name}", dir.display())
    };
    let Some(base) = config.base_model_name_or_path.filter(|base| !base.is_empty()) else {
        return Err(ModelLoadError::new(
            LoadErrorKind::NotFound,
            dir.display(),
            "this is an adapter, and its configuration does not name the model that it belongs to",
            help("that model"),
        ));
    };
    let found = locate_model(&base, cache_dir).or_else(|error| {
        // A relative path may be relative to the adapter's directory.
        let relative = dir.join(&base);
        match Path::new(&base).is_relative() && (relative.is_dir() || is_gguf(&relative)) {
            true => Ok(relative),
            false => Err(ModelLoadError {
                what: format!(
                    "this is an adapter of `{base}`, and that model is not found: there is neither {base} nor {}",
                    relative.display()
                ),
                place: dir.display().to_string(),
                help: help(&format!("`{base}`")),
                ..error
            }),
        }
    })?;
    if is_adapter(&found) {
        return Err(ModelLoadError::incompatible(
            dir,
            format!("this is an adapter of `{base}`, which is an adapter itself"),
            "merge that one into its model first: `parlor merge`",
        ));
    }
    let all = std::iter::once(dir.to_owned()).chain(adapters.iter().cloned()).collect();
    Ok((found, all))
}

/// A warning for an adapter whose configuration names another model than the base's directory. Directories of
/// a Hub cache are named after a commit, which cannot be compared.
fn another_base(named: &str, base: &Path) -> Option<String> {
    let name = Path::new(named).file_name()?;
    let whole = base.canonicalize().unwrap_or_else(|_| base.to_owned());
    let own = whole.file_name()?;
    let is_commit = own.len() == 40 && own.as_encoded_bytes().iter().all(u8::is_ascii_hexdigit);
    (name != own && !is_commit).then(|| {
        format!(
            "this adapter was made for `{named}`, and the model is {}: if that is another model, the output is meaningless",
            base.display()
        )
    })
}

/// Loads the model in `base` and attaches `adapters`, the first of which is active.
///
/// ```no_run
/// use std::path::Path;
///
/// use parlor_model::{LoadOptions, load_with_adapters, locate_with_adapters};
///
/// // An adapter's directory names its base.
/// let (base, adapters) = locate_with_adapters(Path::new("runs/my-adapter"), &[], None)?;
/// let model = load_with_adapters(&base, &adapters, &LoadOptions::default())?;
/// assert_eq!(model.decoder.adapters().len(), 1);
/// # Ok::<(), parlor_model::ModelLoadError>(())
/// ```
///
/// # Errors
/// See [`ModelLoadError`].
pub fn load_with_adapters(
    base: &Path,
    adapters: &[PathBuf],
    options: &LoadOptions,
) -> Result<LoadedModel, ModelLoadError> {
    let mut model = load_path(base, options)?;
    for dir in adapters {
        let info = load_adapter(&mut model.decoder, model.architecture, dir)?;
        let config = model.decoder.adapters().get(info.id).map(|adapter| &adapter.config);
        let named = config.and_then(|config| another_base(config.base_model_name_or_path.as_deref()?, base));
        for warning in info.warnings.into_iter().chain(named) {
            tracing::warn!(adapter = %dir.display(), "{warning}");
            model.warnings.push(warning);
        }
    }
    if !adapters.is_empty() {
        model.decoder.train_adapter(0);
    }
    if let [only] = adapters {
        let files = TextFiles::read(only)?;
        let text = read_text_artifacts(only, &files, model.decoder.config().vocab_size)?;
        if text.tokenizer.is_some() {
            for warning in text.warnings {
                tracing::warn!(adapter = %only.display(), "{warning}");
                model.warnings.push(warning);
            }
            model.tokenizer = text.tokenizer;
            model.chat_template = text.chat_template;
            model.text_files = files;
        }
    }
    model.adapters = adapters.to_vec();
    Ok(model)
}
