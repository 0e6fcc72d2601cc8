//! int8 products with AVX-512 VNNI.

mod quantize;
mod scales;
mod tile;
mod unpack;
mod weights;

pub(crate) use quantize::quantize;
pub(crate) use tile::{MR, tile};
pub(crate) use unpack::unpack;
