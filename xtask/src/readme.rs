//! The commands of README.md, run as a new user would: every fenced block marked `sh` whose line above is
//! `<!-- test -->`, in a scratch directory, with the released `parlor` first on the path.

use std::process::Command;

use anyhow::{Context, bail};

use crate::process::{root, target_dir};

/// The marked blocks of `text`.
fn blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "<!-- test -->" && lines.next().is_some_and(|fence| fence.trim() == "```sh") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| line.trim() != "```").collect();
            blocks.push(block.join("\n"));
        }
    }
    blocks
}

/// Runs them all in one shell session, stopping at the first failure.
pub(crate) fn run() -> anyhow::Result<()> {
    let text = std::fs::read_to_string(root().join("README.md")).context("README.md")?;
    let blocks = blocks(&text);
    if blocks.is_empty() {
        bail!("README.md has no block marked `<!-- test -->`: nothing was checked");
    }
    let scratch = target_dir().join("readme");
    if scratch.exists() {
        std::fs::remove_dir_all(&scratch)?;
    }
    std::fs::create_dir_all(&scratch)?;
    let path =
        format!("{}:{}", target_dir().join("release").display(), std::env::var("PATH").unwrap_or_default());
    let script = format!("set -eux\nPROJECT={}\n{}", root().display(), blocks.join("\n"));
    let status = Command::new("bash")
        .args(["-c", &script])
        .env("PATH", path)
        .current_dir(&scratch)
        .stdin(std::process::Stdio::null())
        .status()
        .context("cannot start bash")?;
    if !status.success() {
        bail!("a command of README.md ended with {status}");
    }
    Ok(())
}
