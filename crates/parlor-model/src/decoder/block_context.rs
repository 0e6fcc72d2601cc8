//! What a block needs besides its own input: its layers, the batch, and the pass that it is part of.

use parlor_kernels::attention::{self, Geometry, KeySource, Span};
use parlor_kernels::{Arithmetic, View, rope};

use super::batch::{Batch, Context, Segment};
use super::cache::KvCache;
use super::layers::BlockLayers;
use super::pass::Pass;
use crate::config::DecoderConfig;

/// One block within a pass.
#[derive(Clone, Copy)]
pub(crate) struct BlockContext<'a> {
    pub(crate) pass: &'a Pass<'a>,
    pub(crate) batch: &'a Batch,
    /// One per table of rotary frequencies.
    pub(crate) angles: &'a [rope::Angles],
    pub(crate) layer: usize,
    pub(crate) cache: Option<&'a KvCache>,
}

impl<'a> BlockContext<'a> {
    pub(crate) fn config(&self) -> &'a DecoderConfig {
        &self.pass.decoder.config
    }

    pub(crate) fn layers(&self) -> &'a BlockLayers {
        &self.pass.decoder.blocks[self.layer]
    }

    /// The angles of the block's rotary embedding, if it has one.
    pub(crate) fn rotation(&self) -> Option<&'a rope::Angles> {
        self.angles.get(self.layers().rope?)
    }

    /// Whether linear layers keep their inputs for the backward pass.
    pub(crate) fn keeps_inputs(&self) -> bool {
        self.pass.decoder.keeps_inputs(self.pass.arithmetic)
    }

    /// Precision of attention's products: bf16 where the weights are prepacked, because their inputs are
    /// rounded to bf16 or below.
    pub(crate) fn attention_arithmetic(&self) -> Arithmetic {
        let decoder = self.pass.decoder;
        let packed = decoder
            .blocks
            .first()
            .is_some_and(|block| matches!(decoder.parameters[block.q.weight].tensor.view(), View::Packed(_)));
        if packed { Arithmetic::Bf16 } else { self.pass.arithmetic }
    }

    pub(crate) fn geometry(&self) -> Geometry {
        let config = self.config();
        Geometry {
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            scale: 1.0 / (config.head_dim as f32).sqrt(),
            window: self.layers().window,
        }
    }

    /// The batch's segments as attention sees them: for each, the keys that its queries may see, in order of
    /// position.
    pub(crate) fn segments(&self) -> Vec<attention::Segment<'a>> {
        self.batch.segments.iter().map(|segment| self.segment(segment)).collect()
    }

    fn segment(&self, segment: &Segment) -> attention::Segment<'a> {
        let mut spans = Vec::with_capacity(2);
        let mut context = segment.context;
        // Ancestors are collected from the nearest outwards, and put in order of position below.
        while let Context::Parent(parent) = context {
            let parent = &self.batch.segments[parent];
            spans.push(Span { source: KeySource::Rows(parent.rows.clone()), position: parent.start });
            context = parent.context;
        }
        if let (Context::Cache(sequence), Some(cache)) = (context, self.cache) {
            let kv = cache.layer_kv(sequence, self.layer);
            let source = KeySource::Cache { keys: kv.keys.view(), values: kv.values.view() };
            spans.push(Span { source, position: 0 });
        }
        spans.reverse();
        spans.push(Span { source: KeySource::Rows(segment.rows.clone()), position: segment.start });
        attention::Segment { rows: segment.rows.clone(), position: segment.start, spans }
    }
}
