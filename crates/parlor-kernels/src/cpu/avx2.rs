//! Helpers for 256-bit registers: masks of the first lanes, broadcasts.

use std::arch::x86_64::*;

/// f32 lanes of a register.
pub(crate) const LANES: usize = 8;

/// Mask of the first `n` of eight lanes.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn lane_mask(n: usize) -> __m256i {
    _mm256_cmpgt_epi32(_mm256_set1_epi32(n.min(LANES) as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
}

/// Broadcasts four bytes to every lane. Inline assembly: of the intrinsics the compiler hoists those of many steps, for which there
/// are no registers, and spills the sums instead; and it applies later operations before the broadcast, in other registers.
///
/// # Safety
/// AVX2 is there, and the bytes, at any address.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn broadcast_dword(at: *const i32) -> __m256i {
    let x;
    // SAFETY: the instruction reads four bytes.
    unsafe {
        std::arch::asm!(
            "vpbroadcastd {x}, dword ptr [{at}]",
            x = out(ymm_reg) x,
            at = in(reg) at,
            options(readonly, nostack, preserves_flags),
        );
    }
    x
}
