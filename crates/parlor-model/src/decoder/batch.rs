//! The ragged batch: token ids, their positions, and which rows form a sequence. It never holds a padded
//! token.
//!
//! Packing, prefill, decode and pairs that share a prompt all use this one type.

use std::ops::Range;

use super::adapter::AdapterId;

/// One sequence, or the continuation of one, within a [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Rows of the batch that hold its tokens.
    pub rows: Range<usize>,
    /// Position of its first row in its sequence.
    pub start: usize,
    /// What its rows may see before themselves.
    pub context: Context,
    /// The adapter that applies to its rows.
    pub adapter: AdapterChoice,
}

/// Which adapter applies to a [`Segment`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdapterChoice {
    /// The decoder's active adapter, if it has one.
    #[default]
    Active,
    /// None: the model alone.
    Base,
    /// The adapter of this index.
    Adapter(AdapterId),
}

/// What precedes a [`Segment`]'s own rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// Nothing.
    None,
    /// The tokens in this sequence of the cache, which the segment's own tokens join.
    Cache(usize),
    /// The rows of an earlier segment of the same batch (a prompt that several completions share).
    Parent(usize),
}

/// Token ids with their positions and segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// `[tokens]` ids.
    pub ids: Vec<u32>,
    /// `[tokens]` positions within each sequence.
    pub positions: Vec<u32>,
    /// Segments, covering the rows in order.
    pub segments: Vec<Segment>,
}

impl Batch {
    /// A batch of whole sequences, each from position 0.
    pub fn of_sequences<'a>(sequences: impl IntoIterator<Item = &'a [u32]>) -> Self {
        let mut batch = Self::default();
        for ids in sequences {
            batch.push(ids, 0, Context::None);
        }
        batch
    }

    /// Appends a segment whose first token stands at position `start`.
    pub fn push(&mut self, ids: &[u32], start: usize, context: Context) {
        let rows = self.ids.len()..self.ids.len() + ids.len();
        self.ids.extend_from_slice(ids);
        self.positions.extend((start..start + ids.len()).map(|position| position as u32));
        self.segments.push(Segment { rows, start, context, adapter: AdapterChoice::Active });
    }

    /// The same batch with this choice in all segments.
    pub fn with_adapter(mut self, choice: AdapterChoice) -> Self {
        for segment in &mut self.segments {
            segment.adapter = choice;
        }
        self
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}
