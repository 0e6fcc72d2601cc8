//! One block, forward and backward: attention, then the MLP, each added to the residual stream.
//!
//! Source: `LlamaDecoderLayer` and `GPT2Block` in transformers.

use super::block_context::BlockContext;
use super::workspace::{BlockActivations, BlockBackward, Scratch};
use super::{attention, mlp};

/// Takes the stream before the block from `stream` into `activations`, and leaves the stream after the block
/// there.
pub(crate) fn forward(
    context: &BlockContext<'_>,
    activations: &mut BlockActivations,
    scratch: &mut Scratch,
    stream: &mut Vec<f32>,
) {
    // The stream's buffer becomes the kept one; its own is filled at the end.
    std::mem::swap(&mut activations.x, stream);
    let keeps_inputs = context.keeps_inputs();
    let mut inputs = std::mem::take(if keeps_inputs { &mut activations.inputs } else { &mut scratch.inputs });
    attention::forward(context, activations, &mut inputs);
    mlp::forward(context, activations, &mut inputs, scratch, stream);
    *(if keeps_inputs { &mut activations.inputs } else { &mut scratch.inputs }) = inputs;
}

/// Turns the gradient of the block's output, in `state.d_stream`, into that of its input, in place. Without
/// `needs_input`, what comes before the block's linear layers is left out.
pub(crate) fn backward(context: &BlockContext<'_>, needs_input: bool, state: &mut BlockBackward<'_>) {
    mlp::backward(context, state);
    attention::backward(context, needs_input, state);
}
