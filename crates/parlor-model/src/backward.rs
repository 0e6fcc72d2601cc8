//! The backward pass, beside the forward it mirrors: each block's gradients from its kept activations.

use parlor_kernels::attention::{self, KeyValues};
use parlor_kernels::cross_entropy::{self, BackwardInputs};
use parlor_kernels::{View, Write, activation, embedding, norm as rms, rope};

use crate::batch::Batch;
use crate::block::{BlockContext, kernel, segments};
use crate::checkpointing::Lowest;
use crate::decoder::{Block, Decoder, DecoderError};
use crate::decoder_config::Mlp;
use crate::gradients::Gradients;
use crate::linear::{backward_all, need_input};
use crate::norm;
use crate::pass::Pass;
use crate::saved::{BlockSaved, NormSaved, Saved, Scratch, room, zeroed};
use crate::targets::Targets;

impl Decoder {
    /// Adds to `gradients` those of a loss whose derivative by the log-probability of row `t` is `d_logp[t]`,
    /// after [`Self::logprobs`] of the same batch and targets. Consumes the activations in `saved`.
    ///
    /// # Errors
    /// [`DecoderError::Batch`] when no forward pass of this batch precedes, or the weights are not f32.
    pub fn backward(
        &self,
        d_logp: &[f32],
        batch: &Batch,
        targets: &Targets,
        saved: &mut Saved,
        gradients: &mut Gradients,
    ) -> Result<(), DecoderError> {
        self.backward_with((batch, targets), d_logp, saved, gradients, &mut |_, _| {})
    }

    /// As [`Self::backward`], and calls `after` with each block, from the last to the first, once nothing more is added to
    /// the gradients of its parameters, those of adapters included: they may be taken then.
    ///
    /// # Errors
    /// As [`Self::backward`].
    pub fn backward_with(
        &self,
        (batch, targets): (&Batch, &Targets),
        d_logp: &[f32],
        saved: &mut Saved,
        gradients: &mut Gradients,
        after: &mut dyn FnMut(usize, &mut Gradients),
    ) -> Result<(), DecoderError> {
        let wrong = |message: &str| Err(DecoderError::Batch(message.to_owned()));
        let before = saved.ready.take().filter(|ready| ready.tokens == batch.len());
        let (Some(before), true) = (before, d_logp.len() == batch.len()) else {
            return wrong("a backward pass needs the forward pass of the same batch just before it");
        };
        if gradients.len() != self.parameters.len() || targets.ids.len() != batch.len() {
            return wrong("the gradients or the targets belong to another decoder or batch");
        }
        let pass = Pass::new(self, batch, saved.seed, saved.arithmetic)?;
        let Saved { angles, stream, blocks, head, scratch, inputs, again, .. } = saved;
        let width = self.config.hidden_size;

        let d_rows: Vec<f32> = head.rows.iter().map(|&row| d_logp[row]).collect();
        let rows =
            BackwardInputs { x: &head.normed, targets: &head.targets, lse: &head.lse, d_logp: &d_rows };
        let d_normed = room(&mut scratch.d_normed, head.normed.len());
        let d_head = if head.rows.is_empty() { None } else { gradients.fill(pass.head()) };
        if d_head.is_none() && head.slope.len() == d_normed.len() {
            cross_entropy::backward_frozen(&head.slope, &d_rows, d_normed);
        } else {
            cross_entropy::backward(self.output_head(&pass), rows, d_normed, d_head, &mut head.logits);
        }
        let d_x = zeroed(&mut scratch.d_attention, head.x.len());
        norm::backward(&pass, self.final_norm, (&head.x, &head.norm), d_normed, d_x, gradients);
        let d_stream = zeroed(stream, batch.len() * width);
        for (d_x, &row) in d_x.chunks_exact(width).zip(&head.rows) {
            d_stream[row * width..(row + 1) * width].copy_from_slice(d_x);
        }

        let lowest = Lowest::of(self, gradients);
        let context = |layer| BlockContext { pass: &pass, batch, angles, layer, cache: None };
        let mut end = self.blocks.len();
        while end > lowest.block {
            let start = before.checkpointing.group().map_or(0, |group| (end - 1) / group * group);
            if let Some(group) = before.checkpointing.group() {
                blocks.resize_with(blocks.len().max(end - start), BlockSaved::default);
                room(again, inputs[start / group].len()).copy_from_slice(&inputs[start / group]);
                for layer in start..end {
                    self.block(
                        &self.blocks[layer],
                        &context(layer),
                        &mut blocks[layer - start],
                        scratch,
                        again,
                    );
                }
            }
            for layer in (start.max(lowest.block)..end).rev() {
                let input = layer > lowest.block || lowest.input;
                let (context, kept) = (context(layer), &mut blocks[layer - start]);
                self.block_backward((&context, input), kept, scratch, (d_stream, gradients));
                after(layer, gradients);
            }
            end = start;
        }

        if let Some(gradient) = gradients.elements_mut(pass.resolve(self.embedding)) {
            embedding::backward(&batch.ids, width, d_stream, gradient);
        }
        if let Some(gradient) =
            self.positions.and_then(|positions| gradients.elements_mut(pass.resolve(positions)))
        {
            embedding::backward(&batch.positions, width, d_stream, gradient);
        }
        gradients.settle_all();
        Ok(())
    }

    /// Turns the gradient of a block's output in `d` into that of its input, in place; without `input`, what comes before
    /// the block's linear layers is left out.
    fn block_backward(
        &self,
        (context, input): (&BlockContext<'_>, bool),
        saved: &mut BlockSaved,
        scratch: &mut Scratch,
        (d, gradients): (&mut [f32], &mut Gradients),
    ) {
        let (pass, block) = (context.pass, &self.blocks[context.layer]);
        self.mlp_backward(pass, block, saved, scratch, (d, gradients));
        let rows = context.batch.len();
        let (query_size, kv_size) = (self.config.query_size(), self.config.key_value_size());

        let d_attention = room(&mut scratch.d_attention, rows * query_size);
        block.o.backward(
            pass,
            View::F32(&saved.attention),
            View::F32(d),
            Some((d_attention, Write::Replace)),
            gradients,
        );
        let (dq, dk, dv) = (
            room(&mut scratch.dq, rows * query_size),
            zeroed(&mut scratch.dk, rows * kv_size),
            zeroed(&mut scratch.dv, rows * kv_size),
        );
        attention::backward(
            (&self.geometry(context.layer), self.attention_arithmetic(pass)),
            attention::Saved {
                q: &saved.q,
                kv: KeyValues { keys: &saved.k, values: &saved.v },
                out: &saved.attention,
                lse: &saved.lse,
            },
            &segments(context.batch, None, context.layer),
            d_attention,
            attention::Gradients { dq, dk, dv },
        );
        rope::apply(dq, self.config.num_attention_heads, context.angles, rope::Direction::Backward);
        rope::apply(dk, self.config.num_key_value_heads, context.angles, rope::Direction::Backward);
        if let (Some(q_norm), Some(k_norm)) = (block.q_norm, block.k_norm) {
            let raw = &mut scratch.d_raw;
            let kept = (&saved.raw_q[..], &saved.q_norm);
            self.head_norm_backward(pass, q_norm, kept, &mut scratch.dq, raw, gradients);
            let kept = (&saved.raw_k[..], &saved.k_norm);
            self.head_norm_backward(pass, k_norm, kept, &mut scratch.dk, raw, gradients);
        }

        let kept = self.keeps_inputs(pass.arithmetic);
        let mut inputs = std::mem::take(if kept { &mut saved.inputs } else { &mut scratch.inputs });
        if !kept && need_input(pass, &[block.q, block.k, block.v], gradients) {
            self.attention_input(pass, block, (&saved.x, &mut saved.input_norm), &mut inputs);
        }
        let d_normed = room(&mut scratch.d_normed, saved.x.len());
        let layers = [
            (block.q, View::F32(&scratch.dq)),
            (block.k, View::F32(&scratch.dk)),
            (block.v, View::F32(&scratch.dv)),
        ];
        let dx = input.then_some((&mut *d_normed, Write::Replace));
        backward_all(pass, inputs.attention.view(), &layers, dx, gradients);
        if input {
            norm::backward(pass, block.input_norm, (&saved.x, &saved.input_norm), d_normed, d, gradients);
        }
        *(if kept { &mut saved.inputs } else { &mut scratch.inputs }) = inputs;
    }

    /// The second half of a block: from the gradient of its output to that of the stream's middle, in place.
    fn mlp_backward(
        &self,
        pass: &Pass<'_>,
        block: &Block,
        saved: &mut BlockSaved,
        scratch: &mut Scratch,
        (d, gradients): (&mut [f32], &mut Gradients),
    ) {
        let kept = self.keeps_inputs(pass.arithmetic);
        let mut inputs = std::mem::take(if kept { &mut saved.inputs } else { &mut scratch.inputs });
        if !kept && need_input(pass, &[block.down], gradients) {
            self.mlp_product(pass, (&saved.gate, &saved.up), &mut inputs.down);
        }
        let d_inner = room(&mut scratch.d_raw, saved.up.len());
        let dx = Some((&mut *d_inner, Write::Replace));
        block.down.backward(pass, inputs.down.view(), View::F32(d), dx, gradients);
        match self.config.mlp {
            Mlp::Gated(kind) => {
                let (gate, up) = (saved.gate.view_mut(), saved.up.view_mut());
                activation::gated_backward(kernel(kind), gate, up, d_inner);
            }
            Mlp::Plain(kind) => activation::backward(kernel(kind), saved.up.view_mut(), d_inner),
        }
        let d_normed = room(&mut scratch.d_normed, saved.middle.len());
        let up = (block.up, saved.up.view());
        let layers = block.gate.map(|gate| [up, (gate, saved.gate.view())]);
        let layers = layers.as_ref().map_or(std::slice::from_ref(&up), |both| &both[..]);
        let linears: Vec<_> = layers.iter().map(|(linear, _)| *linear).collect();
        if !kept && need_input(pass, &linears, gradients) {
            self.mlp_input(pass, block, (&saved.middle, &mut saved.mlp_norm), &mut inputs);
        }
        let dx = Some((&mut *d_normed, Write::Replace));
        backward_all(pass, inputs.mlp.view(), layers, dx, gradients);
        norm::backward(pass, block.mlp_norm, (&saved.middle, &saved.mlp_norm), d_normed, d, gradients);
        *(if kept { &mut saved.inputs } else { &mut scratch.inputs }) = inputs;
    }

    /// Turns the gradient `d` of normalised heads into that of the raw ones, in place.
    fn head_norm_backward(
        &self,
        pass: &Pass<'_>,
        weight: usize,
        (raw, saved): (&[f32], &NormSaved),
        d: &mut Vec<f32>,
        d_raw: &mut Vec<f32>,
        gradients: &mut Gradients,
    ) {
        let out = zeroed(d_raw, d.len());
        let d_weight = gradients.get_mut(pass.resolve(weight));
        rms::rms_backward(raw, pass.vector(weight), &saved.inverse_rms, d, out, d_weight);
        std::mem::swap(d, d_raw);
    }
}
