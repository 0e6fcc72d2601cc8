//! The AVX2 microkernel, MR x NR = 6 x 16 f32: accumulators in 12 of the 16 registers, two for a step of B, one for a broadcast
//! value of A.

use std::arch::x86_64::*;

use half::bf16;

use super::packing::{pack_k, pack_mn};
use crate::cpu::avx2::{LANES, lane_mask};
use crate::matmul::gemm::microkernel::{Microkernel, OutputTile, PanelLayout, Rounding, StridedRows};

const MR: usize = 6;
const NR: usize = 16;
/// Registers of a step of B.
const VECTORS: usize = NR / LANES;

/// f32 panels, FMA.
pub(crate) struct Avx2;

impl Microkernel for Avx2 {
    type Element = f32;
    const MR: usize = MR;
    const A_LANES: usize = LANES;
    const NR: usize = NR;
    const K_PER_LANE: usize = 1;
    const RESIDENT_PANELS: usize = 8;

    #[inline]
    unsafe fn compute(steps: usize, a: *const f32, b: *const f32, tile: OutputTile) {
        macro_rules! by_rows {
            ($($rows:literal)*) => {
                match tile.rows {
                    // SAFETY: the contract of the caller.
                    $($rows => unsafe { tile_of::<$rows>(steps, a, b, tile) },)*
                    _ => unreachable!("a tile of more than {MR} rows"),
                }
            };
        }
        by_rows!(1 2 3 4 5 6);
    }

    unsafe fn pack_k_contiguous(
        rows: StridedRows<'_>,
        layout: PanelLayout,
        rounding: Rounding,
        out: &mut [f32],
    ) {
        // SAFETY: the contract of the caller.
        unsafe {
            match rounding {
                Rounding::None => pack_k::<MR, false, _>(rows, layout, out),
                Rounding::Bf16 => pack_k::<MR, true, _>(rows, layout, out),
            }
        }
    }

    unsafe fn pack_mn_contiguous(
        rows: StridedRows<'_>,
        first_step: usize,
        layout: PanelLayout,
        rounding: Rounding,
        out: &mut [f32],
    ) {
        // SAFETY: the contract of the caller.
        unsafe {
            match rounding {
                Rounding::None => pack_mn::<false, _>(rows, first_step, layout, out),
                Rounding::Bf16 => pack_mn::<true, _>(rows, first_step, layout, out),
            }
        }
    }

    const PACKS_BF16: bool = true;

    unsafe fn pack_k_contiguous_bf16(rows: StridedRows<'_, bf16>, layout: PanelLayout, out: &mut [f32]) {
        // SAFETY: the contract of the caller.
        unsafe { pack_k::<MR, false, _>(rows, layout, out) }
    }

    unsafe fn pack_mn_contiguous_bf16(
        rows: StridedRows<'_, bf16>,
        first_step: usize,
        layout: PanelLayout,
        out: &mut [f32],
    ) {
        // SAFETY: the contract of the caller.
        unsafe { pack_mn::<false, _>(rows, first_step, layout, out) }
    }
}

/// # Safety
/// As [`Microkernel::compute`], with `R` rows.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile_of<const R: usize>(steps: usize, mut a: *const f32, mut b: *const f32, tile: OutputTile) {
    let mut sums = [[_mm256_setzero_ps(); VECTORS]; R];
    for r in 0..R {
        // The row of the tile is in one cache line or two.
        let at = tile.to.wrapping_add(r * tile.stride);
        _mm_prefetch::<_MM_HINT_ET0>(at.cast());
        _mm_prefetch::<_MM_HINT_ET0>(at.wrapping_add(NR - 1).cast());
    }
    for _ in 0..steps {
        // SAFETY: the pointers walk over `steps` steps of their panels.
        unsafe {
            let columns: [__m256; VECTORS] = std::array::from_fn(|v| _mm256_load_ps(b.add(v * LANES)));
            for (r, sums) in sums.iter_mut().enumerate() {
                let value = _mm256_broadcast_ss(&*a.add(r));
                for (sum, columns) in sums.iter_mut().zip(columns) {
                    *sum = _mm256_fmadd_ps(value, columns, *sum);
                }
            }
            a = a.add(LANES);
            b = b.add(NR);
        }
    }
    for v in 0..VECTORS {
        let mask = lane_mask(tile.columns.saturating_sub(v * LANES));
        for (r, sums) in sums.iter().enumerate() {
            let at = r * tile.stride + v * LANES;
            // SAFETY: the row lies in the tile; the mask leaves out what lies past its last column.
            unsafe {
                let sum = match tile.addend.is_null() {
                    true => sums[v],
                    false => _mm256_add_ps(sums[v], _mm256_maskload_ps(tile.addend.wrapping_add(at), mask)),
                };
                _mm256_maskstore_ps(tile.to.wrapping_add(at), mask, sum);
            }
        }
    }
}
