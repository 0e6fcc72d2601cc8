//! Quantization of activations to 8 bits, block by block, by the rule of `Q8_0` with f32 scales.

use crate::cpu::simd::dispatch;
use crate::memory::prepacked::layout::{BLOCK, StaticLayout};

/// The scale and the sums of a block of 32 activation quants (ggml's `block_q8_1` has the same).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub(crate) struct Q8Block {
    /// Scale of the quants.
    pub(super) scale: f32,
    /// `-scale * sum of the quants`: what a unit of a weight's minimum adds to a product.
    pub(super) minus_scaled_sum: f32,
    /// Negative sum of the quants, and of either half of them.
    pub(super) minus_sum: i32,
    pub(super) minus_first: i32,
    pub(super) minus_second: i32,
}

impl Q8Block {
    #[inline(always)]
    pub(super) fn new(scale: f32, [first, second]: [i32; 2]) -> Self {
        let minus_sum = -(first + second);
        let minus_scaled_sum = scale * minus_sum as f32;
        Self { scale, minus_scaled_sum, minus_sum, minus_first: -first, minus_second: -second }
    }

    /// Negative sum of the quants of a sub-block.
    #[inline(always)]
    pub(super) fn minus_sum_of<L: StaticLayout>(&self, sub_block: usize) -> &i32 {
        match L::LAYOUT.sub_blocks() {
            1 => &self.minus_sum,
            _ if sub_block == 0 => &self.minus_first,
            _ => &self.minus_second,
        }
    }
}

/// Quantizes blocks of `x`.
///
/// # Safety
/// None: the signature is that of the other kernels.
pub(crate) unsafe fn quantize(x: &[f32], quants: &mut [[i8; BLOCK]], q8: &mut [Q8Block]) {
    dispatch(
        #[inline(always)]
        || {
            for ((x, quants), q8) in x.chunks_exact(BLOCK).zip(quants).zip(q8) {
                *q8 = quantize_block(x, quants);
            }
        },
    );
}

/// Quantizes one block to nearest. A value that is not finite makes the scale so, and every product with it.
#[inline(always)]
fn quantize_block(x: &[f32], quants: &mut [i8; BLOCK]) -> Q8Block {
    let (mut max, mut poison) = (0.0f32, 0.0f32);
    for &x in x {
        max = if x.abs() > max { x.abs() } else { max };
        // Zero for what is finite, else NaN.
        poison += x * 0.0;
    }
    let scale = max / 127.0 + poison;
    let inverse = if max > 0.0 { 127.0 / max } else { 0.0 };
    let mut sums = [0; 2];
    let halves = quants.chunks_exact_mut(BLOCK / 2).zip(x.chunks_exact(BLOCK / 2));
    for ((quants, x), sum) in halves.zip(&mut sums) {
        for (quant, &x) in quants.iter_mut().zip(x) {
            // 1.5 * 2^23 leaves no digits after the point: to nearest, ties to even.
            let rounded = (x * inverse + 12_582_912.0) - 12_582_912.0;
            *quant = rounded as i8;
            *sum += i32::from(*quant);
        }
    }
    Q8Block::new(scale, sums)
}
