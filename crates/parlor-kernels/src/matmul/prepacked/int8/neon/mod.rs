//! int8 products with NEON.

mod multiply;
mod registers;
mod scales;
mod tile;

pub(crate) use tile::{MR, tile_dots, tile_matrices, tile_plain};
