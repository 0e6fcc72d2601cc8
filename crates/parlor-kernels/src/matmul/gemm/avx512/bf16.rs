//! The AVX-512 bf16 microkernel (`vdpbf16ps`), MR x NR = 14 x 32: accumulators in 28 of the 32 registers, two for a step of B, one for
//! a broadcast bf16 pair of A.

use std::arch::x86_64::*;

use half::bf16;

use super::output::{prefetch, store};
use super::packing::{self, pack_k_rounded_pairs, pack_mn_rounded_pairs};
use crate::cpu::avx512::lane_mask;
use crate::matmul::gemm::microkernel::{
    Microkernel, OutputTile, PACK_LANES, PanelLayout, Rounding, StridedRows,
};

const MR: usize = 14;
const NR: usize = 32;

/// bf16 pairs, `vdpbf16ps`.
pub(crate) struct Avx512Bf16;

impl Microkernel for Avx512Bf16 {
    type Element = u32;
    const MR: usize = MR;
    const A_LANES: usize = PACK_LANES;
    const NR: usize = NR;
    const K_PER_LANE: usize = 2;
    const RESIDENT_PANELS: usize = 8;

    #[inline]
    unsafe fn compute(steps: usize, a: *const u32, b: *const u32, tile: OutputTile) {
        macro_rules! by_size {
            ($($rows:literal)*) => {
                match (tile.rows, tile.columns.div_ceil(16)) {
                    // SAFETY: the contract of the caller.
                    $(($rows, 1) => unsafe { tile_of::<$rows, 1>(steps, a, b, tile) },
                    ($rows, 2) => unsafe { tile_of::<$rows, 2>(steps, a, b, tile) },)*
                    (rows, _) => unreachable!("a tile of {rows} rows and {} columns", tile.columns),
                }
            };
        }
        by_size!(14 13 12 11 10 9 8 7 6 5 4 3 2 1);
    }

    unsafe fn pack_k_contiguous(rows: StridedRows<'_>, layout: PanelLayout, _: Rounding, out: &mut [u32]) {
        // SAFETY: the contract of the caller.
        unsafe { pack_k_rounded_pairs(rows, layout, out) }
    }

    unsafe fn pack_mn_contiguous(
        rows: StridedRows<'_>,
        first_step: usize,
        layout: PanelLayout,
        _: Rounding,
        out: &mut [u32],
    ) {
        // SAFETY: the contract of the caller.
        unsafe { pack_mn_rounded_pairs(rows, first_step, layout, out) }
    }

    const PACKS_BF16: bool = true;

    unsafe fn pack_k_contiguous_bf16(rows: StridedRows<'_, bf16>, layout: PanelLayout, out: &mut [u32]) {
        // SAFETY: the contract of the caller.
        unsafe { packing::pack_k_pairs(rows, layout, out) }
    }

    unsafe fn pack_mn_contiguous_bf16(
        rows: StridedRows<'_, bf16>,
        first_step: usize,
        layout: PanelLayout,
        out: &mut [u32],
    ) {
        // SAFETY: the contract of the caller.
        unsafe { packing::pack_mn_pairs(rows, first_step, layout, out) }
    }
}

/// # Safety
/// As [`Microkernel::compute`], with `R` rows and `V` vectors of columns.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn tile_of<const R: usize, const V: usize>(
    steps: usize,
    mut a: *const u32,
    mut b: *const u32,
    tile: OutputTile,
) {
    prefetch::<R, V>(tile);
    let mut sums = [[_mm512_setzero_ps(); V]; R];
    for _ in 0..steps {
        // SAFETY: the pointers walk over `steps` steps of their panels. A register of pairs is 512 bits whatever
        // the type is called.
        unsafe {
            let mut columns = [_mm512_setzero_si512(); V];
            for (v, column) in columns.iter_mut().enumerate() {
                *column = _mm512_load_si512(b.add(16 * v).cast());
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let pair = _mm512_set1_epi32((*a.add(r)).cast_signed());
                for v in 0..V {
                    let (pair, column) = (std::mem::transmute::<__m512i, __m512bh>(pair), columns[v]);
                    sums[v] =
                        _mm512_dpbf16_ps(sums[v], pair, std::mem::transmute::<__m512i, __m512bh>(column));
                }
            }
            a = a.add(PACK_LANES);
            b = b.add(NR);
        }
    }
    store!(sums, tile, R, V);
}
