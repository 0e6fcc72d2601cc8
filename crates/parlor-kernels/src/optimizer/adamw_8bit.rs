//! AdamW with 8-bit moments (Dettmers et al., 2022), quantized in blocks of 256, each with its largest magnitude.
//!
//! Source: `bitsandbytes.optim.AdamW8bit`. The update uses the new moments before they are quantized. Weight decay comes
//! before the update, as in PyTorch (bitsandbytes' GPU kernels apply it after).

use super::adamw::AdamW;
use super::parameter::{CHUNK, Parameter};
use crate::cpu::simd::dispatch;
use crate::parallel::ParallelExt as _;
use crate::quant::{DYNAMIC_MAP_BLOCK, DynamicMap, Sign};

/// The moments of a parameter, for [`adamw_8bit`].
pub struct Moments8bit<'a> {
    /// First moment: quants of the signed map, one per element.
    pub first: &'a mut [u8],
    /// Second moment: quants of the unsigned map.
    pub second: &'a mut [u8],
    /// Largest magnitude of each block of the first moment.
    pub first_max: &'a mut [f32],
    /// Largest magnitude of each block of the second moment.
    pub second_max: &'a mut [f32],
}

/// One AdamW step over 8-bit moments. `scale` multiplies the gradient first. The moments of a block whose largest
/// magnitude is 0 are 0, whatever their quants.
pub fn adamw_8bit(parameter: Parameter<'_>, moments: Moments8bit<'_>, scale: f32, hyper: &AdamW) {
    let n = parameter.checked_len();
    let blocks = n.div_ceil(DYNAMIC_MAP_BLOCK);
    let Moments8bit { first, second, first_max, second_max } = moments;
    assert!(first.len() == n && second.len() == n, "lengths of parameter and moments");
    assert!(
        first_max.len() == blocks && second_max.len() == blocks,
        "a magnitude per block of {DYNAMIC_MAP_BLOCK}"
    );
    let AdamW { lr, beta1, beta2, eps, weight_decay, step } = *hyper;
    // The bias correction of the second moment, moved into the rate and `eps`, saves a division per element.
    let root_correction = (1.0 - beta2.powf(step as f64)).sqrt();
    let step_size = (lr * root_correction / (1.0 - beta1.powf(step as f64))) as f32;
    let (keep, eps) = ((1.0 - lr * weight_decay) as f32, (eps * root_correction) as f32);
    let (b1, a1) = (beta1 as f32, (1.0 - beta1) as f32);
    let (b2, a2) = (beta2 as f32, (1.0 - beta2) as f32);
    let (signed, unsigned) = (DynamicMap::of(Sign::Signed), DynamicMap::of(Sign::Unsigned));
    let per_chunk = CHUNK / DYNAMIC_MAP_BLOCK;
    parameter
        .chunks()
        .zip(first.chunks_mut(CHUNK).zip(first_max.chunks_mut(per_chunk)))
        .zip(second.chunks_mut(CHUNK).zip(second_max.chunks_mut(per_chunk)))
        .par_for_each(|((chunk, (first, first_max)), (second, second_max))| {
            chunk.update(|p, g| {
                dispatch(
                    #[inline(always)]
                    || {
                        let (mut m, mut v) = ([0.0f32; DYNAMIC_MAP_BLOCK], [0.0f32; DYNAMIC_MAP_BLOCK]);
                        let parts = p.chunks_mut(DYNAMIC_MAP_BLOCK).zip(g.chunks(DYNAMIC_MAP_BLOCK));
                        let first = first.chunks_mut(DYNAMIC_MAP_BLOCK).zip(first_max);
                        let second = second.chunks_mut(DYNAMIC_MAP_BLOCK).zip(second_max);
                        for (((p, g), (first, first_max)), (second, second_max)) in
                            parts.zip(first).zip(second)
                        {
                            let (m, v) = (&mut m[..p.len()], &mut v[..p.len()]);
                            signed.widen(first, *first_max * b1, m);
                            unsigned.widen(second, *second_max * b2, v);
                            for (((p, g), m), v) in p.iter_mut().zip(g).zip(&mut *m).zip(&mut *v) {
                                let g = g * scale;
                                *m += g * a1;
                                *v += g * g * a2;
                                *p = *p * keep - step_size * (*m / (v.sqrt() + eps));
                            }
                            *first_max = signed.quantize(m, first);
                            *second_max = unsigned.quantize(v, second);
                        }
                    },
                );
            });
        });
}
