//! Text to token ids and back: tokenizers, chat templates, datasets, training examples and their order.
//!
//! Training and inference use the same tokenizer and the same template; [`Tokenizer::content_hash`] and
//! [`ChatTemplate::content_hash`] tell whether they do.
#![forbid(unsafe_code)]

mod config;
mod datasets;
mod encode;
mod json_value;
mod lfs;
mod masks;
mod message;
mod order;
mod statistics;
mod template;
mod tokenizer;

pub use config::{DataConfig, DataType, DatasetConfig, OnBadRow, OnLongRow, StoppingStrategy, data_problems};
pub use datasets::{
    BatchLimits, Columns, Content, ConvertTo, DataError, DataReport, Dataset, ReadOptions, Row, RowKind,
    RowProblem, RowSource, SourcedRow, Tags, TemplateInputs, UnusedColumns, bytes, characters, convert,
    data_files, each_text, read, read_batches, read_with, write_rows,
};
pub use encode::{
    EncodeError, EncodeOptions, EncodeReport, Encoder, Example, Finding, Findings, PreferenceExample,
    PreferenceOptions, TrainOn, UnpairedExample, encode_preference, encode_pretraining, encode_sft,
    encode_unpaired,
};
pub use lfs::{LFS_POINTER, is_lfs_pointer, is_lfs_pointer_file};
pub use masks::{
    Encoded, MaskError, MaskSource, MaskedText, assistant_spans, encode_conversation, encode_for_training,
    training_spans,
};
pub use message::Message;
pub use order::{Cursor, ShuffleBuffer, TooFewRows, epoch_order, eval_rows, mix, split};
pub use statistics::{Duplicate, Lengths, duplicates};
pub use template::{ChatTemplate, NamedTemplates, RenderOptions, Rendered, TemplateError};
pub use tokenizer::{
    BpeKind, BpeOptions, ONE_DIGIT_WORDS, SpecialToken, SpecialTokens, StreamDecoder, Texts, TokenKind,
    Tokenizer, TokenizerError, Vocabulary, merge_halves, train_bpe,
};
