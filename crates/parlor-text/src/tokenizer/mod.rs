//! Text to token ids and back: reading tokenizers, training them, encoding, and decoding streams.

mod bpe_training;
mod byte_level;
mod classes;
mod codec;
mod deferred;
mod deferred_json;
mod error;
mod files;
mod from_vocabulary;
mod json_file;
mod lazy;
mod lazy_bpe;
mod pipeline;
mod sentencepiece;
mod special_tokens;
mod stream_decoder;
mod texts;
mod vocabulary;

pub use bpe_training::{BpeOptions, train_bpe};
pub use byte_level::merge_halves;
pub use classes::ONE_DIGIT_WORDS;
pub use codec::Tokenizer;
pub use error::TokenizerError;
pub(crate) use json_file::{json_object, read_limited};
pub use special_tokens::{SpecialToken, SpecialTokens};
pub use stream_decoder::StreamDecoder;
pub use texts::Texts;
pub use vocabulary::{BpeKind, TokenKind, Vocabulary};
