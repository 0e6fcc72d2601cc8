//! Text to token ids and back: tokenizer, chat template, datasets, and the order in which they are trained on.
//!
//! The same tokenizer and the same template serve training and answering; [`ChatTemplate::content_hash`] and
//! [`Tokenizer::content_hash`] say whether they do.
#![forbid(unsafe_code)]

mod assistant;
mod bad_rows;
mod bpe_training;
mod chat;
mod config;
mod continuation;
mod convert;
mod dataset_config;
mod datasets;
mod encode;
mod encode_report;
mod findings;
mod jinja;
mod large_json;
mod lfs;
mod long_rows;
mod mixture;
mod order;
mod pipeline;
mod preference;
mod splitter;
mod stream;
mod survey;
mod template;
mod template_families;
mod template_source;
mod texts;
mod tokenizer;
mod tokenizer_classes;
mod tokenizer_files;
mod vocabulary;
mod word_by_word;

pub use assistant::{
    Encoded, MaskError, MaskSource, MaskedText, assistant_spans, encode_conversation, encode_for_training,
    training_spans,
};
pub use bpe_training::{BpeOptions, train_bpe};
pub use chat::Message;
pub use config::{DataConfig, DataType, OnBadRow, OnLongRow, data_problems};
pub use convert::{ConvertTo, convert};
pub use dataset_config::{Columns, DatasetConfig, StoppingStrategy, Tags};
pub use datasets::{
    BatchLimits, Content, DataError, DataReport, Dataset, ReadOptions, Row, RowKind, RowProblem, RowSource,
    SourcedRow, TemplateInputs, UnusedColumns, data_files, read, read_batches, read_with, write_rows,
};
pub use encode::{EncodeOptions, Encoder, Example, TrainOn, encode_pretraining, encode_sft};
pub use encode_report::{EncodeError, EncodeReport};
pub use findings::{Finding, Findings};
pub use lfs::{LFS_POINTER, is_lfs_pointer, is_lfs_pointer_file};
pub use mixture::{TooFewRows, kept_rows, mix, split};
pub use order::{Cursor, ShuffleBuffer, epoch_order};
pub use preference::{
    PreferenceExample, PreferenceOptions, UnpairedExample, encode_preference, encode_unpaired,
};
pub use stream::StreamDecoder;
pub use survey::{Duplicate, Lengths, bytes, characters, duplicates, each_text};
pub use template::{ChatTemplate, RenderOptions, Rendered, TemplateError};
pub use template_source::Named as NamedTemplates;
pub use texts::Texts;
pub use tokenizer::{SpecialToken, SpecialTokens, Tokenizer, TokenizerError};
pub use tokenizer_classes::ONE_DIGIT_WORDS;
pub use vocabulary::{Spelling, TokenKind, Vocabulary, merge_halves};
