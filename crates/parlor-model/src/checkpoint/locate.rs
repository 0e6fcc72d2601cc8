//! Resolves a model's name to a directory or a GGUF file.
//!
//! Leaves out: the hub. A hub name is recognised, and the error says what to do until hub names join.

use std::path::{Path, PathBuf};

use crate::error::{LoadErrorKind, ModelLoadError};
use crate::files::is_gguf;

/// The directory or GGUF file of this name: a path, or a path below `cache_dir`.
///
/// # Errors
/// `NotFound` for a mistyped path, with similar names in the same directory; `Network` for a hub name;
/// `Incompatible` for a file of a format that is not read.
pub fn locate_model(name: &str, cache_dir: Option<&Path>) -> Result<PathBuf, ModelLoadError> {
    let path = PathBuf::from(name);
    if name.trim().is_empty() {
        return Err(ModelLoadError::new(
            LoadErrorKind::NotFound,
            "`model.name`",
            "no model is named",
            "set `model.name`, or pass `-m DIR`, to a directory in Hugging Face layout or a .gguf file",
        ));
    }
    let is_model = |path: &Path| path.is_dir() || is_gguf(path);
    if is_model(&path) {
        return Ok(path);
    }
    if let Some(below) = cache_dir.map(|dir| dir.join(name)).filter(|below| is_model(below)) {
        return Ok(below);
    }
    if path.is_file() {
        return Err(ModelLoadError::incompatible(
            &path,
            "this is a file, and no GGUF file; this version loads those and directories in Hugging Face layout",
            "point at the directory that holds config.json, model.safetensors and tokenizer.json",
        ));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let near = nearest(parent, &path);
    let looks_like_hub = is_hub_name(name);
    let suggestion = |directories: &[String]| match directories {
        [] => String::new(),
        list => format!("did you mean {}? ", list.join(" or ")),
    };
    if !looks_like_hub || !near.is_empty() {
        let help = match looks_like_hub {
            true => format!(
                "{}(Hub names cannot be downloaded in this version: download the model first.)",
                suggestion(&near)
            ),
            false => {
                format!("{}Point at a directory in Hugging Face layout or a .gguf file", suggestion(&near))
            }
        };
        return Err(ModelLoadError::new(
            LoadErrorKind::NotFound,
            format!("`{name}`"),
            "there is no such model directory",
            help,
        ));
    }
    Err(ModelLoadError::new(
        LoadErrorKind::Network,
        format!("`{name}`"),
        "this is not a directory here, and models cannot be downloaded from the Hub in this version",
        format!(
            "check the name; download the model elsewhere (`hf download {name} --local-dir DIR`) and point at DIR: \
             `model.name: DIR` or `-m DIR`"
        ),
    ))
}

/// Whether `name` could be a repository on the hub: `org/name` or `name`, of its allowed characters.
fn is_hub_name(name: &str) -> bool {
    let word = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let mut parts = name.split('/');
    let ok = parts.by_ref().take(2).all(word);
    ok && parts.next().is_none()
}

/// Up to three models in `parent` whose names resemble `path`'s last part, quoted.
fn nearest(parent: &Path, path: &Path) -> Vec<String> {
    let Some(wanted) = path.file_name().map(|name| name.to_string_lossy().to_lowercase()) else {
        return Vec::new();
    };
    let Ok(entries) = std::fs::read_dir(parent) else { return Vec::new() };
    let mut found: Vec<(f64, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?.path();
            let name = entry.file_name()?.to_string_lossy().to_lowercase();
            let likeness = strsim::jaro_winkler(&name, &wanted);
            (likeness > 0.85 && (entry.is_dir() || is_gguf(&entry))).then_some((likeness, entry))
        })
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let shown = |path: PathBuf| path.strip_prefix(".").map(Path::to_owned).unwrap_or(path);
    found.into_iter().take(3).map(|(_, path)| format!("`{}`", shown(path).display())).collect()
}
