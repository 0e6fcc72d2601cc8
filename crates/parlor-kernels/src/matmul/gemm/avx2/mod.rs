//! f32 gemm with AVX2 and FMA.

mod packing;
mod tile;

pub(crate) use tile::Avx2;
