//! Tokens of earlier runs: `tokens/train.tokens` and `tokens/eval.tokens` in the output directory, each with
//! the hashes of its inputs. Another tokenizer, template, text or setting, or a damaged file, causes
//! tokenization anew, with a warning.

use std::path::{Path, PathBuf};

use parlor_text::{ChatTemplate, DataConfig, EncodeOptions, EncodeReport, data_files};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::reader::RowStatistics;
use crate::artifacts::TextArtifacts;
use crate::config::TrainingType;
use crate::hash::hex;
use crate::tokens::TokenFile;
use parlor_files::atomic_dir;
use parlor_files::atomic_file::TEMPORARY_PREFIX;

/// Name of the directory.
const TOKENS: &str = "tokens";

/// Incremented when the same rows of the same files become other tokens than before.
const ROWS: u32 = 3;

/// What rows are a function of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RowsKey {
    /// Hash of the files: names, sizes, contents.
    files: String,
    /// Settings of `data:` that rows depend on.
    settings: String,
}

impl RowsKey {
    /// The key of the rows that `data` names. None when a file cannot be read: reading its rows reports why.
    pub(crate) fn of(data: &DataConfig) -> Option<Self> {
        let sets = data.training_sets();
        let mut files = Vec::new();
        for set in &sets {
            files.extend(data_files(Path::new(&set.path)).ok()?);
        }
        let hashes: Option<Vec<String>> = files.par_iter().map(|file| file_sha256(file).ok()).collect();
        let mut hasher = Sha256::new();
        for (file, sha256) in files.iter().zip(hashes?) {
            hasher.update(format!("{}\0{sha256}\0", file.display()));
        }
        let settings = json!({
            "datasets": sets,
            "data_types": data.data_types,
            "on_bad_row": data.on_bad_row,
            "val_size": data.val_size,
            "seed": data.seed,
            "stopping_strategy": data.stopping_strategy,
        });
        Some(Self { files: hex(&hasher.finalize()), settings: settings.to_string() })
    }
}

fn file_sha256(path: &Path) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    let mut file = std::fs::File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match std::io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// What tokens are a function of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokensKey {
    /// Version of the program, which may tokenize differently from an older one.
    program: String,
    rows: RowsKey,
    tokenizer: String,
    template: Option<String>,
    settings: String,
}

impl TokensKey {
    pub(crate) fn new(
        rows: RowsKey,
        text: &TextArtifacts,
        training_type: TrainingType,
        options: &EncodeOptions,
    ) -> Self {
        let settings = json!({
            "from_scratch": training_type == TrainingType::FromScratch,
            "max_length": options.max_length,
            "train_on": options.train_on,
            "on_long_row": options.on_long_row,
            "chat_template_kwargs": text.template.as_ref().map(ChatTemplate::kwargs),
            "template_date": text.template_date(),
        });
        Self {
            program: format!("{} rows {ROWS}", env!("CARGO_PKG_VERSION")),
            rows,
            tokenizer: text.tokenizer.content_hash().to_owned(),
            template: text.template.as_ref().map(|template| template.content_hash()),
            settings: settings.to_string(),
        }
    }

    /// What differs from `other`, in words; empty when nothing does.
    fn differences(&self, other: &Self) -> String {
        let differs = [
            (self.tokenizer != other.tokenizer, "another tokenizer"),
            (self.template != other.template, "another chat template"),
            (self.rows.files != other.rows.files, "other files"),
            (self.rows.settings != other.rows.settings, "other settings of `data:`"),
            (self.settings != other.settings, "another length or other rules of what is trained"),
            (self.program != other.program, "another version of this program"),
        ];
        let differs: Vec<&str> = differs.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect();
        differs.join(", ")
    }
}

/// The writer's header of a cached token file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CacheHeader {
    pub(crate) key: TokensKey,
    #[serde(rename = "survey")]
    pub(crate) statistics: RowStatistics,
    pub(crate) report: EncodeReport,
}

/// Whether files may be header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    ReadWrite,
    Read,
}

/// The cache entry of one split, with the tokens found there.
#[derive(Debug)]
pub(crate) struct CacheEntry {
    pub(crate) path: PathBuf,
    access: Access,
    rows: Option<RowsKey>,
    found: Option<(TokenFile, CacheHeader)>,
    /// Why the file that is there cannot be used.
    damage: Option<String>,
}

impl CacheEntry {
    /// Opens the entry `name` under `output` for the rows that `data` names.
    pub(crate) fn open(output: &Path, name: &str, access: Access, data: &DataConfig) -> Self {
        let directory = output.join(TOKENS);
        if access == Access::ReadWrite {
            remove_unfinished(&directory, name);
        }
        let path = directory.join(format!("{name}.tokens"));
        let opened = TokenFile::open(&path).and_then(|file| match file {
            Some(file) => {
                let header = file.writer().map_err(|error| error.to_string())?;
                Ok(Some((file, header)))
            }
            None => Ok(None),
        });
        let (found, damage) = match opened {
            Ok(found) => (found, None),
            Err(why) => (None, Some(why)),
        };
        // Hashing the data files is needed only to compare or to write.
        let needed = found.is_some() || access == Access::ReadWrite;
        let rows = if needed { RowsKey::of(data) } else { None };
        Self { path, access, rows, found, damage }
    }

    /// An entry that holds nothing and keeps nothing.
    pub(crate) fn none() -> Self {
        Self { path: PathBuf::new(), access: Access::Read, rows: None, found: None, damage: None }
    }

    /// Statistics of the rows, when the rows are the same.
    pub(crate) fn statistics(&self) -> Option<RowStatistics> {
        let (_, header) = self.found.as_ref()?;
        (Some(&header.key.rows) == self.rows.as_ref()).then(|| header.statistics.clone())
    }

    /// The key of these rows' tokens under `text`; none when there is nothing to compare or write.
    pub(crate) fn key(
        &self,
        text: &TextArtifacts,
        training_type: TrainingType,
        options: &EncodeOptions,
    ) -> Option<TokensKey> {
        Some(TokensKey::new(self.rows.clone()?, text, training_type, options))
    }

    /// Whether tokens are written here.
    pub(crate) fn is_writable(&self) -> bool {
        self.access == Access::ReadWrite
    }

    /// The cached tokens, when they were made from the same inputs.
    pub(crate) fn load(
        &mut self,
        key: &TokensKey,
        warnings: &mut Vec<String>,
    ) -> Option<(TokenFile, CacheHeader)> {
        let mut told = |why: String| {
            if self.access == Access::ReadWrite {
                warnings.push(format!("{}: {why}; the text is tokenised anew", self.path.display()));
            }
        };
        if let Some(why) = self.damage.take() {
            told(why);
        }
        let (file, header) = self.found.take()?;
        let differences = key.differences(&header.key);
        if differences.is_empty() {
            return Some((file, header));
        }
        told(format!("these tokens were made with {differences}"));
        None
    }
}

/// Removes the temporary files that a killed run left.
fn remove_unfinished(directory: &Path, name: &str) {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries {
        if entry.file_name().to_string_lossy().starts_with(&format!("{TEMPORARY_PREFIX}{name}.tokens")) {
            atomic_dir::remove(&entry.path());
        }
    }
}
