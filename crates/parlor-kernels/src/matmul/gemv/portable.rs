//! gemv in plain loops, compiled for the widest registers in use.

use super::kernel::WeightRows;
use crate::cpu::simd::{dispatch, dot, dot_with, widen};
use crate::memory::View;

/// # Safety
/// None: the signature is that of the other kernels.
pub(crate) unsafe fn dots(
    x: &[f32],
    weight: View<'_>,
    WeightRows { len, stride }: WeightRows,
    out: &mut [f32],
) {
    dispatch(
        #[inline(always)]
        || {
            let len = len.max(1);
            for (at, out) in out.chunks_exact_mut(x.len() / len).enumerate() {
                let weight = weight.slice(at * stride..at * stride + len);
                for (out, x) in out.iter_mut().zip(x.chunks_exact(len)) {
                    *out = match weight {
                        View::F32(w) => dot(x, w),
                        View::Bf16(w) => dot_with(x, w, widen),
                        View::F16(w) => dot_with(
                            x,
                            w,
                            #[inline(always)]
                            |w| w.to_f32(),
                        ),
                        // The driver widens these before.
                        View::Block(_) | View::Packed(_) => f32::NAN,
                    };
                }
            }
        },
    );
}
