//! Keys and values of the tokens seen so far, per sequence and block.
//!
//! Leaves out: paging and narrow dtypes, which come with the scheduler that needs them.

use crate::decoder_config::DecoderConfig;

/// Keys and values of one sequence in one block, `[tokens, kv_heads * head_dim]` each, rotated already.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slab {
    pub(crate) keys: Vec<f32>,
    pub(crate) values: Vec<f32>,
}

/// The cache of several sequences. A forward pass reads the sequences its segments name and appends to them.
#[derive(Clone, Debug)]
pub struct KvCache {
    width: usize,
    lengths: Vec<usize>,
    /// `[sequence][layer]`.
    slabs: Vec<Vec<Slab>>,
}

impl KvCache {
    /// Room for `sequences` sequences, empty.
    pub fn new(config: &DecoderConfig, sequences: usize) -> Self {
        Self {
            width: config.key_value_size(),
            lengths: vec![0; sequences],
            slabs: vec![vec![Slab::default(); config.num_hidden_layers]; sequences],
        }
    }

    /// Bytes that a token of one sequence takes.
    pub fn bytes_per_token(config: &DecoderConfig) -> u64 {
        (2 * config.num_hidden_layers * config.key_value_size() * size_of::<f32>()) as u64
    }

    /// Number of sequences.
    pub fn sequences(&self) -> usize {
        self.lengths.len()
    }

    /// Tokens held for `sequence`; zero for one that does not exist.
    pub fn len(&self, sequence: usize) -> usize {
        self.lengths.get(sequence).copied().unwrap_or(0)
    }

    /// Whether no sequence holds a token.
    pub fn is_empty(&self) -> bool {
        self.lengths.iter().all(|&length| length == 0)
    }

    /// Forgets the tokens of `sequence` from the `tokens`-th on.
    pub fn truncate(&mut self, sequence: usize, tokens: usize) {
        let Some(length) = self.lengths.get_mut(sequence) else { return };
        *length = (*length).min(tokens);
        for slab in &mut self.slabs[sequence] {
            slab.keys.truncate(tokens * self.width);
            slab.values.truncate(tokens * self.width);
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let slabs = self.slabs.iter().flatten();
        slabs.map(|slab| (slab.keys.capacity() + slab.values.capacity()) * size_of::<f32>()).sum()
    }

    pub(crate) fn slab(&self, sequence: usize, layer: usize) -> &Slab {
        &self.slabs[sequence][layer]
    }

    pub(crate) fn append(&mut self, sequence: usize, layer: usize, keys: &[f32], values: &[f32]) {
        let slab = &mut self.slabs[sequence][layer];
        slab.keys.extend_from_slice(keys);
        slab.values.extend_from_slice(values);
    }

    /// Counts `tokens` new tokens, once every layer has appended them.
    pub(crate) fn advance(&mut self, sequence: usize, tokens: usize) {
        self.lengths[sequence] += tokens;
    }
}
