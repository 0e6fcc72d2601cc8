//! Data of a run: rows are read, encoded as examples, and cached as tokens.

mod encode;
mod reader;
mod rows;
mod sequences;
mod stream;
mod token_cache;
mod tokenizer;
mod training_data;

pub(crate) use encode::EncodeSettings;
pub(crate) use reader::{RowReader, only};
pub use rows::{ReadRows, TrainingRows, read_training_rows};
pub(crate) use sequences::{CachedRows, EncodedSequences, SequenceEncoder};
pub use stream::StreamSource;
pub(crate) use token_cache::{Access, CacheEntry};
pub(crate) use tokenizer::new_text_artifacts;
pub use training_data::{ExampleSet, ExampleSource, Examples, NextExamples, StreamedExamples, TrainingData};
