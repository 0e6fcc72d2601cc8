//! What GGUF files call the supported families: metadata keys, tensor names, vocabularies.
//!
//! Sources: `gguf-py/gguf/constants.py` and `conversion/` in llama.cpp. Leaves out: mixtures of experts,
//! rotation of parts of heads, YaRN.

mod keys;
mod names;
mod pre_tokenizers;
mod rope_factors;
mod sampling;
mod sizes;
mod vocabulary;

pub(crate) use keys::{ARCHITECTURE, GgufKeys};
pub(crate) use names::{QkvLayout, tensors};
pub(crate) use sizes::{GgufSizes, bias, is_rope_factors, rope};
pub(crate) use vocabulary::{generation, vocabulary};
