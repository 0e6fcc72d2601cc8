//! No two modules import each other, over any number of steps: neither files, nor the folders beside each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use crate::module_graph::{Arrows, ModulePath, arrows};
use crate::process::root;

/// Every circle of every crate, each described with the names that tie it.
pub(crate) fn find() -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut crates: Vec<_> = std::fs::read_dir(root().join("crates"))?
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .map(|e| e.path())
        .collect();
    crates.push(root().join("xtask"));
    crates.sort();
    for directory in crates {
        for file in ["src/lib.rs", "src/main.rs"].map(|file| directory.join(file)) {
            if file.is_file() {
                found.extend(of_crate(&file)?);
            }
        }
    }
    Ok(found)
}

/// Prints them.
pub(crate) fn run() -> anyhow::Result<()> {
    let found = find()?;
    for circle in &found {
        println!("{circle}");
    }
    anyhow::ensure!(found.is_empty(), "{} circles of modules", found.len());
    Ok(())
}

fn of_crate(file: &Path) -> anyhow::Result<Vec<String>> {
    let arrows = arrows(file)?;
    let shown = file.strip_prefix(root()).unwrap_or(file).display().to_string();
    let mut circles = Vec::new();
    let files = strongly_connected(&arrows);
    for circle in &files {
        circles.push(describe(&format!("{shown}: files"), circle, &arrows));
    }
    let folders: BTreeSet<ModulePath> =
        arrows.keys().flat_map(|(from, _)| (0..from.len()).map(|n| from[..n].to_vec())).collect();
    for folder in folders {
        let collapsed = collapse(&arrows, &folder);
        for circle in strongly_connected(&collapsed).iter().filter(|circle| !files.contains(circle)) {
            let what = format!("{shown}: rooms of `{}`", name(&folder));
            circles.push(describe(&what, circle, &collapsed));
        }
    }
    Ok(circles)
}

/// The arrows between the children of `folder`, each with all that is below it.
fn collapse(arrows: &Arrows, folder: &ModulePath) -> Arrows {
    let child = |path: &ModulePath| {
        (path.len() > folder.len() && path.starts_with(folder)).then(|| path[..=folder.len()].to_vec())
    };
    let mut collapsed = Arrows::new();
    for ((from, to), names) in arrows {
        if let (Some(from), Some(to)) = (child(from), child(to))
            && from != to
        {
            collapsed.entry((from, to)).or_default().extend(names.iter().cloned());
        }
    }
    collapsed
}

/// Groups of modules each of which reaches every other one.
fn strongly_connected(arrows: &Arrows) -> Vec<BTreeSet<ModulePath>> {
    let mut next: BTreeMap<&ModulePath, Vec<&ModulePath>> = BTreeMap::new();
    for (from, to) in arrows.keys() {
        next.entry(from).or_default().push(to);
    }
    let reached = |start: &ModulePath| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(at) = open.pop() {
            for to in next.get(at).into_iter().flatten() {
                if seen.insert((*to).clone()) {
                    open.push(to);
                }
            }
        }
        seen
    };
    let all: BTreeMap<&ModulePath, BTreeSet<ModulePath>> =
        next.keys().map(|from| (*from, reached(from))).collect();
    let mut groups: Vec<BTreeSet<ModulePath>> = Vec::new();
    for (from, reaches) in &all {
        if reaches.contains(*from) && !groups.iter().any(|group| group.contains(*from)) {
            let back = |to: &&ModulePath| all.get(*to).is_some_and(|reaches| reaches.contains(*from));
            groups.push(reaches.iter().filter(back).cloned().collect());
        }
    }
    groups
}

fn describe(what: &str, circle: &BTreeSet<ModulePath>, arrows: &Arrows) -> String {
    let mut text = format!("{what}: {} import each other", circle.len());
    for ((from, to), names) in arrows {
        if circle.contains(from) && circle.contains(to) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let _ = write!(text, "\n    {} -> {}: {}", name(from), name(to), names.join(", "));
        }
    }
    text
}

fn name(path: &ModulePath) -> String {
    if path.is_empty() { "crate".to_owned() } else { path.join("::") }
}
