//! Where the loop has its training examples from: all of them are there, or they come as they are needed.

use crate::error::TrainError;

/// Gives the next examples, so many of them.
pub type Next<'a, E> = dyn FnMut(usize) -> Result<Vec<E>, TrainError> + 'a;

/// Training examples.
pub enum ExampleSource<'a, E> {
    /// All of them.
    InMemory(&'a [E]),
    /// As they are needed.
    Stream {
        /// How many the run takes.
        examples: usize,
        /// Where they come from.
        next: Box<Next<'a, E>>,
    },
}

impl<E> ExampleSource<'_, E> {
    /// Number of examples: of an epoch, or of a run that has none.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::InMemory(examples) => examples.len(),
            Self::Stream { examples, .. } => *examples,
        }
    }
}
