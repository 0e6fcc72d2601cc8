//! The backward pass of the decoder, which mirrors `forward.rs`: from the gradients of log-probabilities to
//! those of every trained parameter, block by block, from the activations that the forward pass kept or that
//! are recomputed.

use parlor_kernels::cross_entropy::{self, BackwardInputs};
use parlor_kernels::embedding;

use super::batch::Batch;
use super::block;
use super::block_context::BlockContext;
use super::error::DecoderError;
use super::gradients::Gradients;
use super::lowest_trained::LowestTrained;
use super::network::Decoder;
use super::norm::{self, NormBackward};
use super::pass::Pass;
use super::workspace::{BlockActivations, BlockBackward, Workspace, resized, zeroed};

impl Decoder {
    /// Adds to `gradients` those of a loss whose derivative by the log-probability of row `t` is `d_logp[t]`,
    /// after [`Self::logprobs`] of the same batch. Consumes the activations in `workspace`.
    ///
    /// # Errors
    /// [`DecoderError::Batch`] when no forward pass of this batch precedes, or the gradients are another
    /// decoder's.
    pub fn backward(
        &self,
        d_logp: &[f32],
        batch: &Batch,
        workspace: &mut Workspace,
        gradients: &mut Gradients,
    ) -> Result<(), DecoderError> {
        self.backward_with(d_logp, batch, workspace, gradients, &mut |_, _| {})
    }

    /// [`Self::backward`] that calls `after` with each block, from the last to the first, once nothing more
    /// is added to the gradients of its parameters, those of adapters included. `after` may take them.
    ///
    /// # Errors
    /// Those of [`Self::backward`].
    pub fn backward_with(
        &self,
        d_logp: &[f32],
        batch: &Batch,
        workspace: &mut Workspace,
        gradients: &mut Gradients,
        after: &mut dyn FnMut(usize, &mut Gradients),
    ) -> Result<(), DecoderError> {
        let wrong = |message: &str| Err(DecoderError::Batch(message.to_owned()));
        let forward = workspace.completed.take().filter(|forward| forward.tokens == batch.len());
        let (Some(forward), true) = (forward, d_logp.len() == batch.len()) else {
            return wrong("a backward pass needs the forward pass of the same batch just before it");
        };
        if gradients.len() != self.parameters.len() {
            return wrong("the gradients belong to another decoder");
        }
        let pass = Pass::new(self, batch, forward.options.seed, workspace.arithmetic)?;
        self.head_backward(&pass, d_logp, workspace, gradients);

        let Workspace { angles, stream, blocks, scratch, group_inputs, recompute, .. } = workspace;
        let lowest = LowestTrained::of(self, gradients);
        let context = |layer| BlockContext { pass: &pass, batch, angles, layer, cache: None };
        let group = forward.options.checkpointing.group();
        let mut end = self.blocks.len();
        while end > lowest.block {
            let start = group.map_or(0, |group| (end - 1) / group * group);
            if let Some(group) = group {
                blocks.resize_with(blocks.len().max(end - start), BlockActivations::default);
                let input = &group_inputs[start / group];
                resized(recompute, input.len()).copy_from_slice(input);
                for layer in start..end {
                    block::forward(&context(layer), &mut blocks[layer - start], scratch, recompute);
                }
            }
            for layer in (start.max(lowest.block)..end).rev() {
                let needs_input = layer > lowest.block || lowest.input;
                let mut state = BlockBackward {
                    activations: &mut blocks[layer - start],
                    scratch,
                    d_stream: stream,
                    gradients,
                };
                block::backward(&context(layer), needs_input, &mut state);
                after(layer, gradients);
            }
            end = start;
        }

        let width = self.config.hidden_size;
        if let Some(gradient) = gradients.elements_mut(pass.resolve(self.embedding)) {
            embedding::backward(&batch.ids, width, stream, gradient);
        }
        let positions = self.positions.map(|positions| pass.resolve(positions));
        if let Some(gradient) = positions.and_then(|positions| gradients.elements_mut(positions)) {
            embedding::backward(&batch.positions, width, stream, gradient);
        }
        gradients.write_pending_zeros();
        Ok(())
    }

    /// From the gradients of log-probabilities to that of the residual stream after the last block, in
    /// `workspace.stream`.
    fn head_backward(
        &self,
        pass: &Pass<'_>,
        d_logp: &[f32],
        workspace: &mut Workspace,
        gradients: &mut Gradients,
    ) {
        let Workspace { stream, head, scratch, .. } = workspace;
        let width = self.config.hidden_size;
        let d_rows: Vec<f32> = head.rows.iter().map(|&row| d_logp[row]).collect();
        let rows =
            BackwardInputs { x: &head.normed, targets: &head.targets, lse: &head.lse, d_logp: &d_rows };
        let d_normed = resized(&mut scratch.d_normed, head.normed.len());
        let d_head = if head.rows.is_empty() { None } else { gradients.fill(pass.head()) };
        if d_head.is_none() && head.head_gradient.len() == d_normed.len() {
            cross_entropy::backward_frozen(&head.head_gradient, &d_rows, d_normed);
        } else {
            cross_entropy::backward(self.output_head(pass), rows, d_normed, d_head, &mut head.logits);
        }
        let d_x = zeroed(&mut scratch.d_attention, head.x.len());
        let values = NormBackward { x: &head.x, stats: &head.norm, dy: d_normed, dx: d_x };
        norm::backward(pass, self.final_norm, values, gradients);
        let d_stream = zeroed(stream, d_logp.len() * width);
        for (d_x, &row) in d_x.chunks_exact(width).zip(&head.rows) {
            d_stream[row * width..(row + 1) * width].copy_from_slice(d_x);
        }
    }
}
