//! The laws of the house (ARCHITECTURE.md), as checks over manifests and sources.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::circles;
use crate::lexer::{self, Line, has_word};
use crate::process::root;
use crate::words;

/// Who may import whom, within the workspace.
const IMPORTS: &[(&str, &[&str])] = &[
    ("parlor-files", &[]),
    ("parlor-config", &["parlor-files"]),
    ("parlor-kernels", &[]),
    ("parlor-text", &["parlor-config"]),
    ("parlor-model", &["parlor-kernels", "parlor-text", "parlor-config", "parlor-files"]),
    ("parlor-track", &["parlor-config", "parlor-files"]),
    ("parlor-train", &["parlor-model", "parlor-text", "parlor-track", "parlor-kernels", "parlor-files"]),
    ("parlor-engine", &["parlor-model", "parlor-text"]),
    ("parlor-export", &["parlor-model", "parlor-text"]),
    ("parlor-serve", &["parlor-engine", "parlor-model", "parlor-text", "parlor-track", "parlor-config"]),
];

/// Outside crates that only some may use.
const RESERVED: &[(&str, &[&str])] = &[
    ("tokio", &["parlor-serve", "parlor-track", "parlor"]),
    ("axum", &["parlor-serve", "parlor-track", "parlor"]),
    ("clap", &["parlor"]),
    ("miette", &["parlor"]),
    ("anyhow", &["parlor"]),
    ("prost", &["parlor-export", "parlor-track"]),
    ("gemm", &["parlor-kernels"]),
    ("pulp", &["parlor-kernels"]),
    ("memmap2", &["parlor-kernels"]),
];

/// Code that a library must not hold.
const NOT_IN_LIBRARIES: &[(&str, &str)] = &[
    ("println!", "a library returns values and emits tracing events; it does not print"),
    ("eprintln!", "a library returns values and emits tracing events; it does not print"),
    ("print!", "a library returns values and emits tracing events; it does not print"),
    ("eprint!", "a library returns values and emits tracing events; it does not print"),
    ("process::exit", "a library returns errors; it does not exit"),
    ("env::var", "a library is given its settings; it does not read the environment"),
    ("env::vars", "a library is given its settings; it does not read the environment"),
];

/// Signs of unfinished or silenced work.
const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "#[ignore", "allow(dead_code", "assert!(true"];

/// Instruction sets, named in `parlor-kernels` only.
const INSTRUCTION_SETS: &[&str] =
    &["avx", "avx2", "avx512", "avx512f", "sse2", "sse4", "neon", "vnni", "amx", "x86_64", "aarch64"];

/// Vendors of models, named in `arch/` only.
const VENDORS: &[&str] = &["qwen", "llama", "mistral", "gpt2", "gpt_2"];

/// Places where a vendor's name is data that a user sees, not a decision: (end of the path, text of the line).
const VENDOR_DATA: &[(&str, &str)] = &[
    // Classes of tokenizers as files name them, and words of a template.
    ("parlor-text/src/tokenizer/classes.rs", "name: \""),
    ("parlor-text/src/tokenizer/classes.rs", "model_types: &["),
    ("parlor-text/src/template/families.rs", "You are Qwen, created by Alibaba Cloud."),
];

/// Pages whose words are held to the list; the history in results/ keeps those of its time.
const PAGES: &[&str] =
    &["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "RESULTS.md", "docs/CONFIG.md", "docs/DATA.md"];

/// Tables, which may be longer than a file should be.
const TABLES: &[&str] = &[];
const LONGEST: usize = 600;

/// Checks every law; the error lists every breach.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut breaches = Vec::new();
    let mut files = 0;
    for manifest in manifests()? {
        let directory = manifest.parent().unwrap_or(Path::new(".")).to_owned();
        let name = check_manifest(&manifest, &mut breaches)?;
        for source in rust_files(&directory)? {
            files += 1;
            check_source(&name, &source, &mut breaches)?;
        }
    }
    for page in PAGES {
        let text = std::fs::read_to_string(root().join(page)).with_context(|| page.to_owned())?;
        words::in_page(page, &text, &mut breaches);
    }
    breaches.extend(circles::find()?);
    if !breaches.is_empty() {
        bail!("{} breaches of the laws of the house:\n{}", breaches.len(), breaches.join("\n"));
    }
    eprintln!("laws of the house: {files} files hold to them");
    Ok(())
}

fn manifests() -> anyhow::Result<Vec<PathBuf>> {
    let mut manifests = vec![root().join("xtask/Cargo.toml")];
    for entry in std::fs::read_dir(root().join("crates"))? {
        manifests.push(entry?.path().join("Cargo.toml"));
    }
    manifests.sort();
    Ok(manifests)
}

fn rust_files(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn check_manifest(path: &Path, breaches: &mut Vec<String>) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let manifest: toml::Table = text.parse().with_context(|| path.display().to_string())?;
    let shown = shown(path);
    let name = manifest["package"]["name"].as_str().unwrap_or_default().to_owned();
    let mut dependencies: Vec<&String> = Vec::new();
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        dependencies
            .extend(manifest.get(section).and_then(|s| s.as_table()).into_iter().flat_map(|s| s.keys()));
    }
    if let Some((_, allowed)) = IMPORTS.iter().find(|(crate_name, _)| *crate_name == name) {
        for dependency in &dependencies {
            if dependency.starts_with("parlor") && !allowed.contains(&dependency.as_str()) {
                breaches.push(format!("{shown}: `{name}` must not import `{dependency}`"));
            }
        }
    } else if !["parlor", "xtask"].contains(&name.as_str()) {
        breaches.push(format!("{shown}: `{name}` has no place in the import table of xtask/src/tidy.rs"));
    }
    for (reserved, users) in RESERVED {
        let used = dependencies.iter().any(|dependency| dependency == reserved);
        if used && name != "xtask" && !users.contains(&name.as_str()) {
            breaches.push(format!("{shown}: `{reserved}` is for {} only", users.join(", ")));
        }
    }
    if manifest.get("lints").is_none() {
        breaches.push(format!("{shown}: `[lints] workspace = true` is missing"));
    }
    Ok(name)
}

fn check_source(package: &str, path: &Path, breaches: &mut Vec<String>) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let (shown, lines) = (shown(path), lexer::lines(&text));
    let sources: Vec<&str> = text.split('\n').collect();
    let mut breach = |line: usize, what: String| breaches.push(format!("{shown}:{}: {what}", line + 1));
    let in_library = shown.contains("/src/") && !["parlor", "xtask"].contains(&package);
    let is_root = shown.ends_with("/src/lib.rs") || shown.ends_with("/src/main.rs");

    if !text.starts_with("//!") {
        breach(0, "a file opens with `//!`: what it is, its source, what it leaves out".to_owned());
    }
    if text.lines().count() > LONGEST && !TABLES.iter().any(|table| shown.ends_with(table)) {
        breach(0, format!("over {LONGEST} lines: make the rooms"));
    }
    if ["utils.rs", "common.rs", "misc.rs", "helpers.rs"]
        .iter()
        .any(|name| shown.ends_with(&format!("/{name}")))
    {
        breach(0, "a file is named after its one concept".to_owned());
    }
    if is_root && package != "parlor-kernels" && !text.contains("#![forbid(unsafe_code)]") {
        breach(0, "`#![forbid(unsafe_code)]` is missing".to_owned());
    }
    if !shown.ends_with("xtask/src/words.rs") {
        words::in_source(&shown, &lines, breaches);
    }
    let mut breach = |line: usize, what: String| breaches.push(format!("{shown}:{}: {what}", line + 1));
    for (number, line) in lines.iter().enumerate() {
        if has_word(&line.code, "unsafe") {
            if package != "parlor-kernels" {
                breach(number, "`unsafe` lives in parlor-kernels only".to_owned());
            } else if !explained(&lines, number) && !line.code.contains("unsafe fn") {
                breach(number, "an `unsafe` without its `SAFETY:` line".to_owned());
            }
        }
        let this_checker = package == "xtask";
        for sign in UNFINISHED.iter().filter(|sign| line.code.contains(**sign) && !this_checker) {
            breach(number, format!("`{sign}`: finish it, or take it out"));
        }
        if package != "parlor-kernels" && !this_checker {
            let words = format!("{} {}", line.code, line.strings).to_lowercase();
            for set in INSTRUCTION_SETS.iter().filter(|set| has_word(&words, set)) {
                breach(number, format!("`{set}`: instruction sets are named in parlor-kernels only"));
            }
        }
        if in_library {
            for (sign, why) in NOT_IN_LIBRARIES.iter().filter(|(sign, _)| calls(&line.code, sign)) {
                breach(number, format!("`{sign}`: {why}"));
            }
            if !shown.contains("/arch/") && !shown.ends_with("/src/arch.rs") {
                let data = VENDOR_DATA
                    .iter()
                    .any(|(file, data)| shown.ends_with(file) && sources[number].contains(data));
                let lower = format!("{} {}", line.code, line.strings).to_lowercase();
                for vendor in VENDORS.iter().filter(|vendor| !data && lower.contains(**vendor)) {
                    breach(number, format!("`{vendor}`: vendors are known in arch/ only"));
                }
            }
        }
    }
    Ok(())
}

/// Whether `code` uses `sign` other than as the end of a longer word.
fn calls(code: &str, sign: &str) -> bool {
    code.match_indices(sign)
        .any(|(at, _)| !code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_'))
}

/// Whether a comment with `SAFETY:` (or a `# Safety` section) stands on the line or just above it.
fn explained(lines: &[Line], number: usize) -> bool {
    let from = number.saturating_sub(6);
    lines[from..=number]
        .iter()
        .any(|line| line.comment.contains("SAFETY:") || line.comment.contains("# Safety"))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}
