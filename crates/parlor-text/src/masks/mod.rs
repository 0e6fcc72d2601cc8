//! Masks for fine-tuning: which tokens of a conversation are the assistant's.

mod encoded;
mod error;
mod masked_text;
mod prefix;
mod spans;
mod thoughts;

pub use encoded::{Encoded, encode_conversation, encode_for_training};
pub use error::MaskError;
pub use masked_text::{MaskSource, MaskedText};
pub use spans::{assistant_spans, training_spans};
