//! Products with prepacked weights: of quantized weights with activations quantized to 8 bits ([`int8`]), and of bf16 weights with
//! activations rounded to bf16 ([`bf16`]). Forward only. The layouts are those of `memory::prepacked`.

pub mod bf16;
#[cfg(target_arch = "x86_64")]
mod broadcast_multiply;
pub mod int8;
mod task;

pub use task::PrepackedOutput;
