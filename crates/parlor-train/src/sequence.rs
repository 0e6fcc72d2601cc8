//! A sequence of tokens with its weights, as an objective sees it: in memory of its own, or a place in a mapped file of
//! tokens. A handle of some bytes either way, so that a corpus is as many handles and not its tokens.

use std::sync::Arc;

use parlor_text::{Example, RowSource};

use crate::token_file::TokenFile;

/// One sequence to train on.
#[derive(Clone, Debug)]
pub enum Sequence {
    /// In memory.
    Owned(Arc<Example>),
    /// In a file.
    Mapped {
        /// The file.
        file: Arc<TokenFile>,
        /// Its number there.
        index: u32,
    },
}

impl From<Example> for Sequence {
    fn from(example: Example) -> Self {
        Self::Owned(Arc::new(example))
    }
}

impl Sequence {
    /// Its number of tokens.
    pub fn tokens(&self) -> usize {
        match self {
            Self::Owned(example) => example.ids.len(),
            Self::Mapped { file, index } => file.tokens(*index),
        }
    }

    /// How many of its tokens are predicted.
    pub fn targets(&self) -> usize {
        match self {
            Self::Owned(example) => targets(&example.weights),
            Self::Mapped { file, index } => file.targets(*index),
        }
    }

    /// `[tokens]`.
    pub fn ids(&self) -> &[u32] {
        match self {
            Self::Owned(example) => &example.ids,
            Self::Mapped { file, index } => file.ids(*index),
        }
    }

    /// `[tokens]`: weight of predicting each from those before it.
    pub fn weights(&self) -> Vec<f32> {
        match self {
            Self::Owned(example) => example.weights.clone(),
            Self::Mapped { file, index } => file.weights(*index),
        }
    }

    /// The row it was made from.
    pub fn source(&self) -> RowSource {
        match self {
            Self::Owned(example) => example.source.clone(),
            Self::Mapped { file, index } => file.source(*index),
        }
    }
}

/// Targets of a sequence with these weights: its first token follows nothing.
pub(crate) fn targets(weights: &[f32]) -> usize {
    weights.iter().skip(1).filter(|&&weight| weight != 0.0).count()
}

/// The bytes that identify a sequence.
pub(crate) fn identifying(ids: &[u32], weights: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + 8 * ids.len());
    bytes.extend((ids.len() as u64).to_le_bytes());
    for (id, weight) in ids.iter().zip(weights) {
        bytes.extend(id.to_le_bytes());
        bytes.extend(weight.to_bits().to_le_bytes());
    }
    bytes
}
