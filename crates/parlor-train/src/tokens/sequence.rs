//! A sequence of tokens with its weights, as an objective reads it: owned, or an entry of a mapped token
//! file. Either way it is a handle of a few bytes, so a large corpus is a list of handles.

use std::sync::Arc;

use parlor_text::{Example, RowSource};

use super::file::{TokenFile, targets};

/// One sequence to train on.
#[derive(Clone, Debug)]
pub enum Sequence {
    /// In memory.
    Owned(Arc<Example>),
    /// In a file.
    Mapped {
        /// The file.
        file: Arc<TokenFile>,
        /// Index of the sequence in it.
        index: u32,
    },
}

impl From<Example> for Sequence {
    fn from(example: Example) -> Self {
        Self::Owned(Arc::new(example))
    }
}

impl Sequence {
    /// All sequences of a file, in order.
    pub fn all_of(file: TokenFile) -> Vec<Self> {
        let count = file.len() as u32;
        let file = Arc::new(file);
        (0..count).map(|index| Self::Mapped { file: Arc::clone(&file), index }).collect()
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        match self {
            Self::Owned(example) => example.ids.len(),
            Self::Mapped { file, index } => file.tokens(*index),
        }
    }

    /// Number of tokens that are predicted.
    pub fn targets(&self) -> usize {
        match self {
            Self::Owned(example) => targets(&example.weights),
            Self::Mapped { file, index } => file.targets(*index),
        }
    }

    /// Token ids, `[tokens]`.
    pub fn ids(&self) -> &[u32] {
        match self {
            Self::Owned(example) => &example.ids,
            Self::Mapped { file, index } => file.ids(*index),
        }
    }

    /// Weight of predicting each token from those before it, `[tokens]`.
    pub fn weights(&self) -> Vec<f32> {
        match self {
            Self::Owned(example) => example.weights.clone(),
            Self::Mapped { file, index } => file.weights(*index),
        }
    }

    /// The row that the sequence was made from.
    pub fn source(&self) -> RowSource {
        match self {
            Self::Owned(example) => example.source.clone(),
            Self::Mapped { file, index } => file.source(*index),
        }
    }
}
