//! Writing a tile of the result from 512-bit accumulators.

use std::arch::x86_64::*;

use crate::matmul::gemm::microkernel::OutputTile;

/// Stores a tile's accumulators. A macro, because a function would pass them through memory.
macro_rules! store {
    ($sums:ident, $tile:ident, $rows:ident, $vectors:ident) => {
        let last = lane_mask($tile.columns - 16 * ($vectors - 1));
        for r in 0..$rows {
            for v in 0..$vectors {
                let mask = if v + 1 == $vectors { last } else { u16::MAX };
                // SAFETY: the row lies in the tile; the mask leaves out what lies past its last column.
                unsafe {
                    let to = $tile.to.add(r * $tile.stride + 16 * v);
                    let sum = if $tile.addend.is_null() {
                        $sums[r][v]
                    } else {
                        let addend = $tile.addend.add(r * $tile.stride + 16 * v);
                        _mm512_add_ps($sums[r][v], _mm512_maskz_loadu_ps(mask, addend))
                    };
                    _mm512_mask_storeu_ps(to, mask, sum);
                }
            }
        }
    };
}

pub(super) use store;

/// Prefetches the tile and its addend.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn prefetch<const R: usize, const V: usize>(tile: OutputTile) {
    for r in 0..R {
        for v in 0..V {
            let at = r * tile.stride + 16 * v;
            _mm_prefetch::<_MM_HINT_ET0>(tile.to.wrapping_add(at).cast());
            if !tile.addend.is_null() && !std::ptr::eq(tile.addend, tile.to) {
                _mm_prefetch::<_MM_HINT_T0>(tile.addend.wrapping_add(at).cast());
            }
        }
    }
}
