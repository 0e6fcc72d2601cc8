//! The section `data:`: where the rows are, and what to do with them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dataset::{DatasetConfig, StoppingStrategy};
use crate::datasets::{Columns, ReadOptions, RowKind, Tags};

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
    /// File, directory or pattern (`data/**/*.parquet`) of the rows to train on. Formats: .jsonl, .json, .csv, .tsv,
    /// .parquet, .arrow and .feather; .txt, .md, .html, .pdf and .docx, each file one text. Also compressed, as .jsonl.gz
    /// or .csv.zst. Directories are read whole.
    pub train_data_path: String,
    /// Several data sets to train on, instead of `train_data_path`: a list of `{path, weight, kind, columns, tags,
    /// max_samples}`, of which `path` is enough. Without weights they stand one after another; with weights rows are
    /// drawn from them by their weights (as `interleave_datasets` does), in an order that `seed` decides.
    pub datasets: Vec<DatasetConfig>,
    /// When a mixture by weights ends: `first_exhausted`, with the first data set that is used up, or
    /// `all_exhausted`, when each was used up at least once.
    pub stopping_strategy: StoppingStrategy,
    /// Rows to keep for evaluation, instead of `eval_data_path`: below 1 a share of each data set, from 1 a number of
    /// rows. They are drawn by `seed`, before data sets are mixed, and never trained on. 0: none.
    #[schemars(range(min = 0.0))]
    pub val_size: f64,
    /// Seed of the mixture and of the choice of the rows that are kept for evaluation.
    pub seed: u64,
    /// What the rows of `train_data_path`, `eval_data_path` and `test_data_path` are. Null: what their columns say.
    pub kind: Option<RowKind>,
    /// Columns of those rows, where they have names of their own: `{prompt: question, completion: answer}`.
    pub columns: Columns,
    /// Names within the messages of those rows, where they are their own: `{role_tag: speaker, user_tag: customer}`.
    pub tags: Tags,
    /// Reads this many rows from the beginning of `train_data_path`. Null: all.
    #[schemars(range(min = 1))]
    pub max_samples: Option<usize>,
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
    /// Reads and tokenises while training goes on, instead of before it: training begins with the first rows, and neither
    /// memory nor disk holds the corpus. Needs `max_steps`, since nobody knows how long an epoch is; starts again at the
    /// end of the data. Rows are shuffled within `buffer_size`, and nothing is kept for a later run. Not for `dpo`.
    pub streaming: bool,
    /// Examples among which `streaming` draws the next. Nearby rows of the files should not be alike within so many.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub buffer_size: usize,
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
            datasets: Vec::new(),
            stopping_strategy: StoppingStrategy::default(),
            val_size: 0.0,
            seed: 42,
            kind: None,
            columns: Columns::default(),
            tags: Tags::default(),
            max_samples: None,
            data_types: vec![DataType::Chat, DataType::Documents, DataType::Reports],
            max_length: 2048,
            streaming: false,
            buffer_size: 4096,
            batch_size: 1000,
            on_bad_row: OnBadRow::Error,
            on_long_row: OnLongRow::Truncate,
        }
    }
}

impl DataConfig {
    /// How the rows of the three paths are read.
    pub fn read_options(&self) -> ReadOptions {
        ReadOptions {
            kind: self.kind,
            columns: self.columns.clone(),
            tags: self.tags.clone(),
            max_samples: None,
        }
    }

    /// The data sets to train on: those of `datasets`, or `train_data_path` alone.
    pub fn training_sets(&self) -> Vec<DatasetConfig> {
        if !self.datasets.is_empty() {
            return self.datasets.clone();
        }
        vec![DatasetConfig {
            path: self.train_data_path.clone(),
            weight: None,
            kind: self.kind,
            columns: self.columns.clone(),
            tags: self.tags.clone(),
            max_samples: self.max_samples,
        }]
    }
}

/// What the types cannot say: key, and what is wrong with it.
pub fn data_problems(data: &DataConfig) -> Vec<(String, String)> {
    let default = DataConfig::default();
    let mut found = Vec::new();
    let mut wrong = |key: &str, why: &str| found.push((format!("data.{key}"), why.to_owned()));
    for (key, path) in [
        ("train_data_path", &data.train_data_path),
        ("eval_data_path", &data.eval_data_path),
        ("test_data_path", &data.test_data_path),
    ] {
        if path.trim().is_empty() {
            wrong(key, "it is empty; name a file or a directory");
        }
    }
    if !data.datasets.is_empty() && data.train_data_path != default.train_data_path {
        wrong(
            "datasets",
            "`data.train_data_path` is set too; name it as one of the data sets, or leave one out",
        );
    }
    if !data.datasets.is_empty() && data.max_samples.is_some() {
        wrong("max_samples", "it is for `data.train_data_path`; give each of `data.datasets` its own");
    }
    let weighted = data.datasets.iter().filter(|set| set.weight.is_some()).count();
    for (index, set) in data.datasets.iter().enumerate() {
        if set.path.trim().is_empty() {
            wrong(&format!("datasets.{index}.path"), "it is empty; name a file or a directory");
        }
        if set.weight.is_none() && weighted > 0 {
            wrong(
                &format!("datasets.{index}.weight"),
                "it is missing; others have one: give all a weight, or none",
            );
        }
        if set.weight.is_some_and(|weight| !(weight.is_finite() && weight > 0.0)) {
            wrong(&format!("datasets.{index}.weight"), "it must be a number above 0");
        }
    }
    if !(data.val_size.is_finite() && data.val_size >= 0.0) {
        wrong("val_size", "it must be a share below 1, or a number of rows");
    } else if data.val_size >= 1.0 && data.val_size.fract() != 0.0 {
        wrong("val_size", "from 1 on it is a number of rows, which must be whole; below 1 it is a share");
    } else if data.val_size > 0.0 && data.eval_data_path != default.eval_data_path {
        wrong("val_size", "`data.eval_data_path` is set too; leave one of them out");
    }
    if data.streaming && data.val_size > 0.0 {
        wrong(
            "val_size",
            "`data.streaming` does not know how many rows there are; use `data.eval_data_path`",
        );
    }
    if data.streaming && weighted > 0 {
        wrong(
            "streaming",
            "a mixture by weights draws rows from whole data sets; leave the weights out, or this",
        );
    }
    found
}
