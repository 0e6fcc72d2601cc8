//! Keys and values of the tokens seen so far, per sequence and block.
//!
//! Leaves out: paging.

use parlor_kernels::{BlockFormat, DType, Tensor, TensorError};

use super::batch::{Batch, Context};
use crate::config::DecoderConfig;

/// Number format of cached keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CacheDtype {
    /// Unrounded.
    #[default]
    Float32,
    /// Rounded to bfloat16: half the memory.
    Bfloat16,
    /// Quantized to `Q8_0`: a quarter of the memory. `num_key_value_heads * head_dim` must be a multiple of
    /// 32.
    Int8,
}

impl CacheDtype {
    fn dtype(self) -> DType {
        match self {
            Self::Float32 => DType::F32,
            Self::Bfloat16 => DType::Bf16,
            Self::Int8 => DType::Block(BlockFormat::Q8_0),
        }
    }
}

/// Keys and values of one sequence in one block, `[tokens, kv_heads * head_dim]` each. Keys are rotated
/// already.
#[derive(Clone, Debug)]
pub(crate) struct LayerKv {
    pub(crate) keys: Tensor,
    pub(crate) values: Tensor,
}

/// Keys and values of several sequences. A forward pass reads the sequences that its segments name, and
/// appends to them.
#[derive(Clone, Debug)]
pub struct KvCache {
    /// Elements of a token's keys: `kv_heads * head_dim`.
    width: usize,
    /// Tokens of each sequence.
    lengths: Vec<usize>,
    /// `[sequence][layer]`.
    layers: Vec<Vec<LayerKv>>,
}

impl KvCache {
    /// An empty cache of `sequences` sequences, in f32.
    pub fn new(config: &DecoderConfig, sequences: usize) -> Self {
        match Self::with_dtype(config, sequences, CacheDtype::Float32) {
            Ok(cache) => cache,
            // f32 rows may have any width.
            Err(error) => unreachable!("{error}"),
        }
    }

    /// An empty cache of `sequences` sequences in this number format.
    ///
    /// # Errors
    /// When the width of a token's keys does not fit the format.
    pub fn with_dtype(
        config: &DecoderConfig,
        sequences: usize,
        dtype: CacheDtype,
    ) -> Result<Self, TensorError> {
        let width = config.key_value_size();
        let rows = Tensor::empty_rows(width, dtype.dtype())?;
        let layer_kv = LayerKv { keys: rows.clone(), values: rows };
        Ok(Self {
            width,
            lengths: vec![0; sequences],
            layers: vec![vec![layer_kv; config.num_hidden_layers()]; sequences],
        })
    }

    /// Bytes that a token of one sequence takes.
    pub fn bytes_per_token(config: &DecoderConfig) -> u64 {
        (2 * config.num_hidden_layers() * config.key_value_size() * size_of::<f32>()) as u64
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

    /// Keeps the first `tokens` tokens of `sequence`.
    pub fn truncate(&mut self, sequence: usize, tokens: usize) {
        let Some(length) = self.lengths.get_mut(sequence) else { return };
        *length = (*length).min(tokens);
        for layer_kv in &mut self.layers[sequence] {
            layer_kv.keys.truncate(tokens);
            layer_kv.values.truncate(tokens);
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let layers = self.layers.iter().flatten();
        layers.map(|layer_kv| layer_kv.keys.owned_bytes() + layer_kv.values.owned_bytes()).sum()
    }

    pub(crate) fn layer_kv(&self, sequence: usize, layer: usize) -> &LayerKv {
        &self.layers[sequence][layer]
    }

    /// Appends the keys and values `[tokens, kv_heads * head_dim]` of the batch's cached segments to block
    /// `layer`.
    pub(crate) fn append_layer(
        &mut self,
        batch: &Batch,
        layer: usize,
        keys: &[f32],
        values: &[f32],
    ) -> Result<(), TensorError> {
        for segment in &batch.segments {
            if let Context::Cache(sequence) = segment.context {
                let range = segment.rows.start * self.width..segment.rows.end * self.width;
                let kv = &mut self.layers[sequence][layer];
                kv.keys.append(&keys[range.clone()])?;
                kv.values.append(&values[range])?;
            }
        }
        Ok(())
    }

    /// Counts the tokens of the batch's cached segments, once every layer has appended them.
    pub(crate) fn advance(&mut self, batch: &Batch) {
        for segment in &batch.segments {
            if let Context::Cache(sequence) = segment.context {
                self.lengths[sequence] += segment.rows.len();
            }
        }
    }
}
