//! Rows to training examples: fine-tuning, pre-training and preferences.

mod bad_rows;
mod completion;
mod encoder;
mod example;
mod findings;
mod long_rows;
mod preference;
mod report;

pub use encoder::{Encoder, encode_pretraining, encode_sft};
pub use example::{EncodeOptions, Example, TrainOn};
pub use findings::{Finding, Findings};
pub use preference::{
    PreferenceExample, PreferenceOptions, UnpairedExample, encode_preference, encode_unpaired,
};
pub use report::{EncodeError, EncodeReport};
