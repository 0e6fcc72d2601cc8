//! The one forward pass, for training and serving: ids to the residual stream, and from chosen rows of it to
//! log-probabilities or logits.
//!
//! Source: `LlamaModel.forward`, `Qwen3Attention` and `GPT2Model.forward` in transformers, whose order of
//! operations it follows.

use parlor_kernels::attention::{self, Geometry, KeyValues, Source, Span};
use parlor_kernels::{
    Arithmetic, DType, Values, ValuesMut, View, Write, activation, cross_entropy, embedding, linear, noise,
    norm as rms, rope,
};

use crate::batch::{Batch, Context};
use crate::cache::KvCache;
use crate::decoder::{Block, Decoder, DecoderError};
use crate::decoder_config::{Activation, Mlp, Norm};
use crate::footprint::PassSize;
use crate::linear::forward_all;
use crate::norm;
use crate::pass::Pass;
use crate::saved::{BlockSaved, NormSaved, Ready, Saved, Scratch, room};
use crate::targets::Targets;

/// Whether a backward pass will follow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// Every block's activations are kept.
    All,
    /// One block's buffers serve all; no backward follows.
    One,
    /// The same, and the residual stream before every so many blocks.
    Inputs(usize),
}

impl Decoder {
    /// Log-probability of `targets.ids[t]` at each row `t` with a weight; 0 at the others. Fills `saved` for
    /// [`Self::backward`].
    ///
    /// # Errors
    /// [`DecoderError::Batch`] when the batch or the targets do not fit this decoder.
    pub fn logprobs(
        &self,
        batch: &Batch,
        targets: &Targets,
        saved: &mut Saved,
    ) -> Result<Vec<f32>, DecoderError> {
        let pass = Pass::new(self, batch, saved.seed, saved.arithmetic)?;
        let checkpointing = saved.checkpointing;
        let keep = checkpointing.group().map_or(Keep::All, Keep::Inputs);
        let logp = self.target_logprobs(&pass, batch, targets, saved, keep)?;
        saved.ready = Some(Ready { tokens: batch.len(), checkpointing });
        Ok(logp)
    }

    /// As [`Self::logprobs`], in the memory of one block: no backward can follow.
    ///
    /// # Errors
    /// [`DecoderError::Batch`] when the batch or the targets do not fit this decoder.
    pub fn evaluate(
        &self,
        batch: &Batch,
        targets: &Targets,
        saved: &mut Saved,
    ) -> Result<Vec<f32>, DecoderError> {
        let pass = Pass::new(self, batch, None, saved.arithmetic)?;
        self.target_logprobs(&pass, batch, targets, saved, Keep::One)
    }

    /// Logits of the given rows of the batch, `[rows.len(), vocab]`. Segments with [`Context::Cache`] see that
    /// sequence of `cache` and are appended to it.
    ///
    /// # Errors
    /// [`DecoderError::Batch`] when the batch, the rows or the cache do not fit this decoder.
    pub fn logits(
        &self,
        batch: &Batch,
        rows: &[usize],
        cache: Option<&mut KvCache>,
        saved: &mut Saved,
    ) -> Result<Vec<f32>, DecoderError> {
        if let Some(row) = rows.iter().find(|&&row| row >= batch.len()) {
            return Err(DecoderError::Batch(format!(
                "logits of row {row} are asked for, but the batch has {} tokens",
                batch.len()
            )));
        }
        let pass = Pass::new(self, batch, None, saved.arithmetic)?;
        self.run(&pass, batch, cache, saved, Keep::One)?;
        self.select_rows(&pass, rows.iter().copied(), saved);
        let mut logits = vec![0.0; rows.len() * self.config.vocab_size];
        let shape = linear::Shape {
            rows: rows.len(),
            inputs: self.config.hidden_size,
            outputs: self.config.vocab_size,
            arithmetic: saved.arithmetic,
        };
        linear::forward(
            &saved.head.normed,
            self.weight(pass.head()),
            None,
            &mut logits,
            Write::Replace,
            shape,
        );
        Ok(logits)
    }

    fn target_logprobs(
        &self,
        pass: &Pass<'_>,
        batch: &Batch,
        targets: &Targets,
        saved: &mut Saved,
        keep: Keep,
    ) -> Result<Vec<f32>, DecoderError> {
        if targets.ids.len() != batch.len() || targets.weights.len() != batch.len() {
            return Err(DecoderError::Batch(format!(
                "{} targets and {} weights are given for {} tokens",
                targets.ids.len(),
                targets.weights.len(),
                batch.len()
            )));
        }
        check_ids(&targets.ids, self.config.vocab_size, "target")?;
        let rows = targets.weights.iter().filter(|&&weight| weight != 0.0).count();
        let backward = (keep != Keep::One).then_some(saved.checkpointing);
        saved.reserve(&self.config, PassSize { tokens: batch.len(), rows }, backward)?;
        self.run(pass, batch, None, saved, keep)?;
        self.select_rows(pass, (0..batch.len()).filter(|&row| targets.weights[row] != 0.0), saved);
        let head = &mut saved.head;
        head.targets.clear();
        head.targets.extend(head.rows.iter().map(|&row| targets.ids[row]));
        let mut chosen = vec![0.0; head.rows.len()];
        let lse = room(&mut head.lse, chosen.len());
        let rows = (&head.normed[..], &head.targets[..]);
        let slope = match keep != Keep::One && !self.is_trained(pass.head()) {
            true => Some(room(&mut head.slope, head.normed.len())),
            false => {
                head.slope.clear();
                None
            }
        };
        cross_entropy::forward(self.output_head(pass), rows, (&mut chosen, lse), &mut head.logits, slope);
        let mut logp = vec![0.0; batch.len()];
        for (&row, value) in head.rows.iter().zip(chosen) {
            logp[row] = value;
        }
        Ok(logp)
    }

    /// Gathers rows of the residual stream and normalises them for the head.
    fn select_rows(&self, pass: &Pass<'_>, rows: impl Iterator<Item = usize>, saved: &mut Saved) {
        let (width, head) = (self.config.hidden_size, &mut saved.head);
        head.rows.clear();
        head.rows.extend(rows);
        head.x.clear();
        for &row in &head.rows {
            head.x.extend_from_slice(&saved.stream[row * width..(row + 1) * width]);
        }
        let normed = room(&mut head.normed, head.x.len());
        norm::forward(pass, self.final_norm, &head.x, normed.into(), &mut head.norm);
    }

    pub(crate) fn output_head(&self, pass: &Pass<'_>) -> cross_entropy::Head<'_> {
        cross_entropy::Head {
            weight: self.weight(pass.head()),
            vocab: self.config.vocab_size,
            hidden: self.config.hidden_size,
            arithmetic: pass.arithmetic,
        }
    }

    /// All blocks over the batch; leaves the residual stream in `saved.stream`.
    fn run(
        &self,
        pass: &Pass<'_>,
        batch: &Batch,
        mut cache: Option<&mut KvCache>,
        saved: &mut Saved,
        keep: Keep,
    ) -> Result<(), DecoderError> {
        saved.ready = None;
        self.check(batch, cache.as_deref())?;
        let Saved { angles, stream, blocks, scratch, inputs, neftune_noise_alpha, .. } = saved;
        let width = self.config.hidden_size;
        embedding::forward(
            pass.weight(self.embedding),
            &batch.ids,
            width,
            room(stream, batch.len() * width),
            Write::Replace,
        );
        if let Some(positions) = self.positions {
            embedding::forward(pass.weight(positions), &batch.positions, width, stream, Write::Accumulate);
        }
        if let Some(seed) = pass.seed.filter(|_| *neftune_noise_alpha > 0.0) {
            for segment in &batch.segments {
                let parent =
                    if let Context::Parent(of) = segment.context { batch.segments[of].rows.len() } else { 0 };
                let elements = (parent + segment.rows.len()) * width;
                let rows = segment.rows.start * width..segment.rows.end * width;
                let magnitude = *neftune_noise_alpha / (elements as f32).sqrt();
                noise::add_uniform(
                    &mut stream[rows.clone()],
                    magnitude,
                    seed.wrapping_add(rows.start as u64),
                );
            }
        }
        angles.fill(&batch.positions, &self.inv_freq);
        let kept = if keep == Keep::All { self.blocks.len() } else { 1 };
        blocks.resize_with(kept.max(blocks.len()), BlockSaved::default);
        for (layer, block) in self.blocks.iter().enumerate() {
            let kept = &mut blocks[if keep == Keep::All { layer } else { 0 }];
            if let Keep::Inputs(group) = keep
                && layer.is_multiple_of(group)
            {
                inputs.resize_with(inputs.len().max(layer / group + 1), Vec::new);
                room(&mut inputs[layer / group], stream.len()).copy_from_slice(stream);
            }
            let context = BlockContext { pass, batch, angles, layer, cache: cache.as_deref() };
            self.block(block, &context, kept, scratch, stream);
            if let Some(cache) = cache.as_deref_mut() {
                let width = self.config.key_value_size();
                for segment in &batch.segments {
                    if let Context::Cache(sequence) = segment.context {
                        let own = segment.rows.start * width..segment.rows.end * width;
                        cache
                            .append((sequence, layer), &kept.k[own.clone()], &kept.v[own])
                            .map_err(|error| DecoderError::Batch(error.to_string()))?;
                    }
                }
            }
        }
        if let Some(cache) = cache {
            for segment in &batch.segments {
                if let Context::Cache(sequence) = segment.context {
                    cache.advance(sequence, segment.rows.len());
                }
            }
        }
        Ok(())
    }

    /// One block: takes the stream before it from `stream` and keeps it, and leaves the stream after it there.
    pub(crate) fn block(
        &self,
        block: &Block,
        context: &BlockContext<'_>,
        saved: &mut BlockSaved,
        scratch: &mut Scratch,
        stream: &mut Vec<f32>,
    ) {
        // The stream's buffer becomes the kept one; its own is filled anew at the end.
        std::mem::swap(&mut saved.x, stream);
        let (pass, config) = (context.pass, &self.config);
        let rows = context.batch.len();
        let (query_size, kv_size) = (config.query_size(), config.key_value_size());
        let normed = scratch.normed.room(pass.arithmetic, saved.x.len());
        norm::forward(pass, block.input_norm, &saved.x, normed, &mut saved.input_norm);
        let layers = &mut [
            (block.q, room(&mut saved.q, rows * query_size), Write::Replace),
            (block.k, room(&mut saved.k, rows * kv_size), Write::Replace),
            (block.v, room(&mut saved.v, rows * kv_size), Write::Replace),
        ];
        forward_all(pass, scratch.normed.view(), layers);
        if let (Some(q_norm), Some(k_norm)) = (block.q_norm, block.k_norm) {
            self.head_norm(pass, q_norm, &mut saved.q, &mut saved.raw_q, &mut saved.q_norm);
            self.head_norm(pass, k_norm, &mut saved.k, &mut saved.raw_k, &mut saved.k_norm);
        }
        rope::apply(&mut saved.q, config.num_attention_heads, context.angles, rope::Turn::Forward);
        rope::apply(&mut saved.k, config.num_key_value_heads, context.angles, rope::Turn::Forward);
        let kv = KeyValues { keys: &saved.k, values: &saved.v };
        attention::forward(
            (&self.geometry(context.layer), self.attention_arithmetic(pass)),
            &saved.q,
            kv,
            &segments(context.batch, context.cache, context.layer),
            room(&mut saved.attention, rows * query_size),
            room(&mut saved.lse, rows * config.num_attention_heads),
        );
        let middle = room(&mut saved.middle, saved.x.len());
        middle.copy_from_slice(&saved.x);
        block.o.forward(pass, View::F32(&saved.attention), middle, Write::Accumulate);
        let normed = scratch.normed.room(pass.arithmetic, saved.middle.len());
        norm::forward(pass, block.mlp_norm, &saved.middle, normed, &mut saved.mlp_norm);
        self.mlp_inputs(block, pass, rows, saved, scratch);
        self.mlp_product(pass, saved, &mut scratch.inner);
        room(stream, saved.middle.len()).copy_from_slice(&saved.middle);
        block.down.forward(pass, scratch.inner.view(), stream, Write::Accumulate);
    }

    /// Gate and up, from the normalised stream.
    fn mlp_inputs(
        &self,
        block: &Block,
        pass: &Pass<'_>,
        rows: usize,
        saved: &mut BlockSaved,
        scratch: &mut Scratch,
    ) {
        let len = rows * self.config.intermediate_size;
        let (up, gate) = (saved.up.room(pass.arithmetic, len), block.gate.map(|_| len).unwrap_or(0));
        let gate = saved.gate.room(pass.arithmetic, gate);
        let (up, gate) = match (up, gate) {
            (ValuesMut::F32(up), ValuesMut::F32(gate)) => (up, gate),
            _ => (room(&mut scratch.raw_up, len), room(&mut scratch.raw_gate, len)),
        };
        let mut layers = vec![(block.up, up, Write::Replace)];
        if let Some(linear) = block.gate {
            layers.push((linear, gate, Write::Replace));
        }
        forward_all(pass, scratch.normed.view(), &mut layers);
        if pass.arithmetic == Arithmetic::Bf16 {
            saved.up.round(&scratch.raw_up);
            if block.gate.is_some() {
                saved.gate.round(&scratch.raw_gate);
            }
        }
    }

    /// `act(gate) * up`, or `act(up)`, into `out`.
    pub(crate) fn mlp_product(&self, pass: &Pass<'_>, saved: &BlockSaved, out: &mut Values) {
        let out = out.room(pass.arithmetic, saved.up.len());
        match self.config.mlp {
            Mlp::Gated(kind) => {
                activation::gated_forward(kernel(kind), saved.gate.view(), saved.up.view(), out);
            }
            Mlp::Plain(kind) => activation::forward(kernel(kind), saved.up.view(), out),
        }
    }

    /// Normalises every head of `x` in place, keeping the input in `raw`.
    fn head_norm(
        &self,
        pass: &Pass<'_>,
        weight: usize,
        x: &mut Vec<f32>,
        raw: &mut Vec<f32>,
        saved: &mut NormSaved,
    ) {
        std::mem::swap(x, raw);
        let (weight, Norm::Rms { eps } | Norm::Layer { eps }) = (pass.vector(weight), self.config.norm);
        let heads = raw.len() / weight.len();
        rms::rms_forward(raw, weight, eps, room(x, raw.len()), room(&mut saved.inverse_rms, heads));
    }

    /// Precision of attention's products: bf16 where the weights' are.
    pub(crate) fn attention_arithmetic(&self, pass: &Pass<'_>) -> Arithmetic {
        let packed = self.blocks.first().is_some_and(|block| {
            let weight = &self.parameters[block.q.weight].tensor;
            weight.dtype() == DType::Bf16 && matches!(weight.view(), View::Packed(_))
        });
        if packed { Arithmetic::Bf16 } else { pass.arithmetic }
    }

    pub(crate) fn geometry(&self, layer: usize) -> Geometry {
        Geometry {
            heads: self.config.num_attention_heads,
            kv_heads: self.config.num_key_value_heads,
            head_dim: self.config.head_dim,
            scale: 1.0 / (self.config.head_dim as f32).sqrt(),
            window: self.config.windows[layer],
        }
    }

    fn check(&self, batch: &Batch, cache: Option<&KvCache>) -> Result<(), DecoderError> {
        let wrong = |message: String| Err(DecoderError::Batch(message));
        check_ids(&batch.ids, self.config.vocab_size, "token")?;
        if batch.positions.len() != batch.len() {
            return wrong(format!("{} positions for {} tokens", batch.positions.len(), batch.len()));
        }
        let mut next = 0;
        for (index, segment) in batch.segments.iter().enumerate() {
            if segment.rows.start != next || segment.rows.end <= next || segment.rows.end > batch.len() {
                return wrong(format!("segment {index} covers rows {:?}, expected {next}..", segment.rows));
            }
            next = segment.rows.end;
            let before = match segment.context {
                Context::None => Some(0),
                Context::Cache(sequence) => {
                    cache.filter(|cache| sequence < cache.sequences()).map(|cache| cache.len(sequence))
                }
                Context::Parent(parent) => {
                    batch.segments[..index].get(parent).map(|parent| parent.start + parent.rows.len())
                }
            };
            if before != Some(segment.start) {
                return wrong(format!(
                    "segment {index} starts at position {}, but {before:?} tokens precede it",
                    segment.start
                ));
            }
            let end = segment.start + segment.rows.len();
            if self.positions.is_some() && end > self.config.max_position_embeddings {
                return wrong(format!(
                    "a sequence of {end} tokens exceeds the model's {} learned positions; use at most that many",
                    self.config.max_position_embeddings
                ));
            }
        }
        if next != batch.len() {
            return wrong(format!("segments cover {next} of {} tokens", batch.len()));
        }
        Ok(())
    }
}

/// What a block needs besides its own input.
pub(crate) struct BlockContext<'a> {
    pub(crate) pass: &'a Pass<'a>,
    pub(crate) batch: &'a Batch,
    pub(crate) angles: &'a rope::Angles,
    pub(crate) layer: usize,
    pub(crate) cache: Option<&'a KvCache>,
}

/// The batch's segments as attention sees them.
pub(crate) fn segments<'a>(
    batch: &Batch,
    cache: Option<&'a KvCache>,
    layer: usize,
) -> Vec<attention::Segment<'a>> {
    let segment = |segment: &crate::batch::Segment| {
        let mut spans = Vec::with_capacity(2);
        let mut context = segment.context;
        // Ancestors are collected from the nearest outwards, and put in order of position below.
        while let Context::Parent(parent) = context {
            let parent = &batch.segments[parent];
            spans.push(Span { source: Source::Rows(parent.rows.clone()), position: parent.start });
            context = parent.context;
        }
        if let (Context::Cache(sequence), Some(cache)) = (context, cache) {
            let slab = cache.slab(sequence, layer);
            let source = Source::Cache { keys: slab.keys.view(), values: slab.values.view() };
            spans.push(Span { source, position: 0 });
        }
        spans.reverse();
        spans.push(Span { source: Source::Rows(segment.rows.clone()), position: segment.start });
        attention::Segment { rows: segment.rows.clone(), position: segment.start, spans }
    };
    batch.segments.iter().map(segment).collect()
}

pub(crate) fn kernel(activation: Activation) -> activation::Activation {
    match activation {
        Activation::Silu => activation::Activation::Silu,
        Activation::GeluTanh => activation::Activation::GeluTanh,
    }
}

fn check_ids(ids: &[u32], vocab: usize, what: &str) -> Result<(), DecoderError> {
    match ids.iter().position(|&id| id as usize >= vocab) {
        Some(row) => Err(DecoderError::Batch(format!(
            "{what} id {} at row {row} is outside the model's vocabulary of {vocab}",
            ids[row]
        ))),
        None => Ok(()),
    }
}
