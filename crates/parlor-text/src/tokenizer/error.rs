//! Why a tokenizer could not be loaded, used or saved.

use std::path::PathBuf;

/// Why a tokenizer could not be loaded, used or saved.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// No file of a known kind.
    #[error(
        "{}: no tokenizer here; expected tokenizer.json, or vocab.json with merges.txt{hint}",
        .directory.display()
    )]
    NotFound {
        /// Where it was looked for.
        directory: PathBuf,
        /// What was found instead, as the end of the sentence.
        hint: &'static str,
    },
    /// A file that cannot be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file whose content is wrong.
    #[error("{}: not a usable tokenizer file: {why}", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        why: String,
    },
    /// A token that the model has no vector for.
    #[error(
        "the token {token:?} has the id {id}, and the model's embedding has {rows} rows: leave the token out of the text, or \
         use a model that has it"
    )]
    NoRow {
        /// The token.
        token: String,
        /// Its id.
        id: u32,
        /// Rows of the embedding.
        rows: usize,
    },
    /// Text that could not be encoded, or ids that could not be decoded.
    #[error("the tokenizer failed: {0}")]
    Use(String),
}

/// An error of the `tokenizers` crate.
pub(super) fn failed(error: impl std::fmt::Display) -> TokenizerError {
    TokenizerError::Use(error.to_string())
}
