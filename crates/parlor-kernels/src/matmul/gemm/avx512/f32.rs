//! The AVX-512 f32 microkernel, MR x NR = 6 x 64: accumulators in 24 of the 32 registers, four for a step of B, one for a broadcast
//! value of A.
//!
//! A step of 24 multiply-adds takes 10 loads. A taller tile (14 x 32: 28 and 16) reads B less often, but where two hardware threads
//! share a core, as on most rented machines, load ports run out first, and its A panel takes twice the space that L1 keeps beside a
//! streaming B panel.

use std::arch::x86_64::*;

use half::bf16;

use super::output::{prefetch, store};
use super::packing::{pack_k_f32, pack_k_widened, pack_mn_f32, pack_mn_widened};
use crate::cpu::avx512::lane_mask;
use crate::matmul::gemm::avx2::Avx2;
use crate::matmul::gemm::microkernel::{Microkernel, OutputTile, PanelLayout, Rounding, StridedRows};

const MR: usize = 6;
const VECTORS: usize = 4;
const NR: usize = 16 * VECTORS;
/// Lanes of a packed A panel.
const A_LANES: usize = Avx2::A_LANES;

/// f32 panels, FMA.
pub(crate) struct Avx512;

impl Microkernel for Avx512 {
    type Element = f32;
    const MR: usize = MR;
    const A_LANES: usize = A_LANES;
    const NR: usize = NR;
    const K_PER_LANE: usize = 1;
    const RESIDENT_PANELS: usize = 4;

    #[inline]
    unsafe fn compute(steps: usize, a: *const f32, b: *const f32, tile: OutputTile) {
        macro_rules! by_size {
            ($($rows:literal)*) => {
                match (tile.rows, tile.columns.div_ceil(16)) {
                    // SAFETY: the contract of the caller.
                    $(($rows, 1) => unsafe { tile_of::<$rows, 1>(steps, a, b, tile) },
                    ($rows, 2) => unsafe { tile_of::<$rows, 2>(steps, a, b, tile) },
                    ($rows, 3) => unsafe { tile_of::<$rows, 3>(steps, a, b, tile) },
                    ($rows, VECTORS) => unsafe { tile_of::<$rows, VECTORS>(steps, a, b, tile) },)*
                    (rows, _) => unreachable!("a tile of {rows} rows and {} columns", tile.columns),
                }
            };
        }
        by_size!(6 5 4 3 2 1);
    }

    // Packed A panels have the width of 256-bit registers, so AVX2 packs them.

    unsafe fn pack_k_contiguous(
        rows: StridedRows<'_>,
        layout: PanelLayout,
        rounding: Rounding,
        out: &mut [f32],
    ) {
        // SAFETY: the contract of the caller.
        unsafe {
            match rounding {
                _ if layout.stride == A_LANES => Avx2::pack_k_contiguous(rows, layout, rounding, out),
                Rounding::None => pack_k_f32::<false>(rows, layout, out),
                Rounding::Bf16 => pack_k_f32::<true>(rows, layout, out),
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
                _ if layout.stride == A_LANES => {
                    Avx2::pack_mn_contiguous(rows, first_step, layout, rounding, out)
                }
                Rounding::None => pack_mn_f32::<false>(rows, first_step, layout, out),
                Rounding::Bf16 => pack_mn_f32::<true>(rows, first_step, layout, out),
            }
        }
    }

    const PACKS_BF16: bool = true;

    unsafe fn pack_k_contiguous_bf16(rows: StridedRows<'_, bf16>, layout: PanelLayout, out: &mut [f32]) {
        // SAFETY: the contract of the caller.
        unsafe {
            match layout.stride == A_LANES {
                true => Avx2::pack_k_contiguous_bf16(rows, layout, out),
                false => pack_k_widened(rows, layout, out),
            }
        }
    }

    unsafe fn pack_mn_contiguous_bf16(
        rows: StridedRows<'_, bf16>,
        first_step: usize,
        layout: PanelLayout,
        out: &mut [f32],
    ) {
        // SAFETY: the contract of the caller.
        unsafe {
            match layout.stride == A_LANES {
                true => Avx2::pack_mn_contiguous_bf16(rows, first_step, layout, out),
                false => pack_mn_widened(rows, first_step, layout, out),
            }
        }
    }
}

/// # Safety
/// As [`Microkernel::compute`], with `R` rows and `V` vectors of columns.
#[target_feature(enable = "avx512f")]
unsafe fn tile_of<const R: usize, const V: usize>(
    steps: usize,
    mut a: *const f32,
    mut b: *const f32,
    tile: OutputTile,
) {
    prefetch::<R, V>(tile);
    let mut sums = [[_mm512_setzero_ps(); V]; R];
    for _ in 0..steps {
        // SAFETY: the pointers walk over `steps` steps of their panels.
        unsafe {
            let mut columns = [_mm512_setzero_ps(); V];
            for (v, column) in columns.iter_mut().enumerate() {
                *column = _mm512_load_ps(b.add(16 * v));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let value = _mm512_set1_ps(*a.add(r));
                for v in 0..V {
                    sums[v] = _mm512_fmadd_ps(value, columns[v], sums[v]);
                }
            }
            a = a.add(A_LANES);
            b = b.add(NR);
        }
    }
    store!(sums, tile, R, V);
}
