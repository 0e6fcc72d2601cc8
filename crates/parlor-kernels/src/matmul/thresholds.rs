//! Every number that decides between methods or variants of a product, with where it comes from. `matmul::choose` and the drivers read
//! them; nothing else decides by size.

use crate::quant::k_quants::SUB_BLOCKS;

/// f32 products of at most this many rows are gemv. Above it, packing both operands for gemm pays for itself.
pub(super) const GEMV_ROWS: usize = 16;

/// Prepacked products of at most this many rows are bound by reading the weights: all rows go through a panel in one stream. Above it,
/// the loops are blocked for the caches.
pub(super) const STREAMING_ROWS: usize = 16;

/// While rows stream, the blocks of a panel that all rows are multiplied by before the next: a super-block, which stays in L1.
pub(super) const STREAMING_BLOCKS: usize = SUB_BLOCKS;

/// From this many rows on, quants of 4 to 6 bits are expanded to 8 bits once per panel: that costs what two or three tiles spend on
/// expanding them each.
pub(super) const UNPACK_ROWS: usize = 32;

/// Above this many rows, prepacked bf16 weights are widened into f32 gemm panels where products of bf16 pairs are computed in f32
/// anyway, for each kernel where the two were measured to cross: the f32 tile is larger, and widening costs once per panel.
#[cfg(target_arch = "x86_64")]
pub(super) const WIDEN_ROWS_AVX512: usize = 1024;
/// As `WIDEN_ROWS_AVX512`; this tile has fewer registers.
#[cfg(target_arch = "x86_64")]
pub(super) const WIDEN_ROWS_AVX2: usize = 256;
/// As `WIDEN_ROWS_AVX512`; for the three-row NEON tile against the `gemm` crate's.
#[cfg(target_arch = "aarch64")]
pub(super) const WIDEN_ROWS_NEON: usize = 32;

/// Bytes of prepacked panels that many rows are multiplied by together: they stay in L2 while rows pass, whose activations are then
/// read that much less often.
pub(super) const RESIDENT_BYTES: usize = 256 << 10;
