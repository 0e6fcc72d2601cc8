//! The kernels for 512-bit registers: of f32, and of pairs of bf16.

mod f32;
mod packing;
mod pairs;

use std::arch::x86_64::*;

use super::kernel::Tile;

pub(crate) use f32::Avx512;
pub(crate) use packing::transpose;
pub(crate) use pairs::Avx512Bf16;

/// One register of 16 f32.
type Vector = __m512;

/// Writes a tile's sums from their registers: a function would take them through memory.
macro_rules! store {
    ($sums:ident, $tile:ident, $rows:ident, $vectors:ident) => {
        let last = tail($tile.columns - 16 * ($vectors - 1));
        for r in 0..$rows {
            for v in 0..$vectors {
                let mask = if v + 1 == $vectors { last } else { u16::MAX };
                // SAFETY: the row lies in the tile; the mask leaves out what lies past its last column.
                unsafe {
                    let to = $tile.to.add(r * $tile.stride + 16 * v);
                    let sum = if $tile.from.is_null() {
                        $sums[r][v]
                    } else {
                        let from = $tile.from.add(r * $tile.stride + 16 * v);
                        _mm512_add_ps($sums[r][v], _mm512_maskz_loadu_ps(mask, from))
                    };
                    _mm512_mask_storeu_ps(to, mask, sum);
                }
            }
        }
    };
}

use store;

/// Asks for the tile's lines, so that they are near when its sums are ready.
#[inline]
#[target_feature(enable = "avx512f")]
fn prefetch<const R: usize, const V: usize>(tile: Tile) {
    for r in 0..R {
        for v in 0..V {
            let at = r * tile.stride + 16 * v;
            _mm_prefetch::<_MM_HINT_ET0>(tile.to.wrapping_add(at).cast());
            if !tile.from.is_null() && !std::ptr::eq(tile.from, tile.to) {
                _mm_prefetch::<_MM_HINT_T0>(tile.from.wrapping_add(at).cast());
            }
        }
    }
}

/// Mask of the first `n` of 16 lanes.
#[inline]
pub(crate) fn tail(n: usize) -> __mmask16 {
    if n >= 16 { u16::MAX } else { (1 << n) - 1 }
}
