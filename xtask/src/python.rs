//! Python environments with pinned packages, git-ignored and made when they are needed.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::process::{root, run};

/// The Python of the environment `name`, made from the pinned requirements in `file` when they have changed.
pub(crate) fn environment(name: &str, file: &str) -> anyhow::Result<PathBuf> {
    let (directory, requirements) = (root().join(name), root().join("xtask/readers").join(file));
    let wanted = std::fs::read_to_string(&requirements).context("requirements")?;
    let (stamp, python) = (directory.join("requirements.stamp"), directory.join("bin/python"));
    if std::fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(python);
    }
    let shown = |path: &Path| path.display().to_string();
    run("python3", &["-m", "venv", "--clear", &shown(&directory)])?;
    let requirements = shown(&requirements);
    run(
        &shown(&python),
        &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", &requirements],
    )?;
    std::fs::write(stamp, wanted)?;
    Ok(python)
}
