//! The section `data:`: where the rows are, and what to do with them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Kinds of data a directory may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DataType {
    /// Conversations and instructions.
    Chat,
    /// Longer texts.
    Documents,
    /// Reports, read as documents.
    Reports,
}

/// What happens when a row cannot be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnBadRow {
    /// All bad rows are listed, and the run does not start.
    #[default]
    Error,
    /// Bad rows are listed and left out.
    Skip,
}

/// What happens to a row that is longer than the limit in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnLongRow {
    /// Its end is cut off.
    #[default]
    Truncate,
    /// It is left out.
    Drop,
    /// The run does not start.
    Error,
}

/// Data for training and evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// File or directory with the rows to train on (.jsonl, .json, .txt, .md; directories are read whole).
    pub train_data_path: String,
    /// File or directory with the rows to evaluate on. When this default does not exist, nothing is evaluated.
    pub eval_data_path: String,
    /// File or directory with rows kept for a last test, as `parlor eval --data` reads them.
    pub test_data_path: String,
    /// Which kinds of data are used: `chat` rows, and the text of `documents` and `reports`.
    pub data_types: Vec<DataType>,
    /// Longest example in tokens. Longer conversations are cut at the end (or as `on_long_row` says); longer texts become
    /// several examples in training from scratch.
    #[schemars(range(min = 2, max = 1_048_576))]
    pub max_length: usize,
    /// Rows tokenised at a time while data is prepared. Not the training batch: that is
    /// `training.<type>.per_device_train_batch_size`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub batch_size: usize,
    /// What happens when a row cannot be used: `error` lists all of them and stops, `skip` goes on without them.
    pub on_bad_row: OnBadRow,
    /// What happens to a row that is longer than `max_length`: `truncate` cuts its end off, `drop` leaves it out, `error`
    /// stops. Each counts them. Training from scratch loses nothing of long rows and does not read it.
    pub on_long_row: OnLongRow,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            train_data_path: "./data/train".to_owned(),
            eval_data_path: "./data/eval".to_owned(),
            test_data_path: "./data/test".to_owned(),
            data_types: vec![DataType::Chat, DataType::Documents, DataType::Reports],
            max_length: 2048,
            batch_size: 1000,
            on_bad_row: OnBadRow::Error,
            on_long_row: OnLongRow::Truncate,
        }
    }
}
