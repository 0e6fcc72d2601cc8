//! Loops compiled once per instruction set and chosen at run time, through `pulp`.

use half::bf16;

/// Widens bf16 to f32: a shift.
pub fn widen_bf16(values: &[bf16], out: &mut [f32]) {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            for (out, value) in out.iter_mut().zip(values) {
                *out = f32::from_bits(u32::from(value.to_bits()) << 16);
            }
        },
    );
}
