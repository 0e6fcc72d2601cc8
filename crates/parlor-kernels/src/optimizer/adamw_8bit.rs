//! AdamW whose moments take a byte each: quantized in blocks of 256, each with its largest magnitude (Dettmers et al.,
//! 2022).
//!
//! Source: `bitsandbytes.optim.AdamW8bit`. The update is made from the new moments before they are stored. Weight decay
//! comes before the update, as in PyTorch (bitsandbytes' GPU kernels apply it after).

use crate::threads::Parts as _;

use super::dynamic_map::{BLOCK, DynamicMap, Sign};
use super::{AdamW, CHUNK};
use crate::simd::dispatch;

/// The moments of a parameter, for [`adamw_8bit`].
pub struct Moments8bit<'a> {
    /// First moment: codes of the signed map, one per element.
    pub first: &'a mut [u8],
    /// Second moment: codes of the unsigned map.
    pub second: &'a mut [u8],
    /// Largest magnitude of each block of the first.
    pub first_max: &'a mut [f32],
    /// That of the second.
    pub second_max: &'a mut [f32],
}

/// One AdamW step over 8-bit moments. `scale` multiplies the gradient first. Moments are zero where their blocks'
/// magnitude is.
pub fn adamw_8bit(
    parameter: &mut [f32],
    gradient: &[f32],
    moments: Moments8bit<'_>,
    scale: f32,
    hyper: &AdamW,
) {
    let (n, blocks) = (parameter.len(), parameter.len().div_ceil(BLOCK));
    let Moments8bit { first, second, first_max, second_max } = moments;
    assert!(
        gradient.len() == n && first.len() == n && second.len() == n,
        "lengths of parameter, gradient and moments"
    );
    assert!(first_max.len() == blocks && second_max.len() == blocks, "a magnitude per block of {BLOCK}");
    let AdamW { lr, beta1, beta2, eps, weight_decay, step } = *hyper;
    let step_size = (lr / (1.0 - beta1.powf(step as f64))) as f32;
    let root_correction = (1.0 - beta2.powf(step as f64)).sqrt() as f32;
    let (keep, eps) = ((1.0 - lr * weight_decay) as f32, eps as f32);
    let (b1, a1) = (beta1 as f32, (1.0 - beta1) as f32);
    let (b2, a2) = (beta2 as f32, (1.0 - beta2) as f32);
    let (signed, unsigned) = (DynamicMap::of(Sign::Signed), DynamicMap::of(Sign::Unsigned));
    let per_chunk = CHUNK / BLOCK;
    parameter
        .chunks_mut(CHUNK)
        .zip(gradient.chunks(CHUNK))
        .zip(first.chunks_mut(CHUNK).zip(first_max.chunks_mut(per_chunk)))
        .zip(second.chunks_mut(CHUNK).zip(second_max.chunks_mut(per_chunk)))
        .share(|(((p, g), (first, first_max)), (second, second_max))| {
            dispatch(
                #[inline(always)]
                || {
                    let (mut m, mut v) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
                    let parts = p.chunks_mut(BLOCK).zip(g.chunks(BLOCK));
                    let first = first.chunks_mut(BLOCK).zip(first_max);
                    let second = second.chunks_mut(BLOCK).zip(second_max);
                    for (((p, g), (first, first_max)), (second, second_max)) in parts.zip(first).zip(second) {
                        let (m, v) = (&mut m[..p.len()], &mut v[..p.len()]);
                        signed.widen(first, *first_max, m);
                        unsigned.widen(second, *second_max, v);
                        for (((p, g), m), v) in p.iter_mut().zip(g).zip(&mut *m).zip(&mut *v) {
                            let g = g * scale;
                            *m = *m * b1 + g * a1;
                            *v = *v * b2 + g * g * a2;
                            let denominator = v.sqrt() / root_correction + eps;
                            *p = *p * keep - step_size * (*m / denominator);
                        }
                        *first_max = signed.quantize(m, first);
                        *second_max = unsigned.quantize(v, second);
                    }
                },
            );
        });
}
