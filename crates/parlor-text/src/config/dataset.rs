//! An entry of `data.datasets`, and how a mixture of data sets ends.
//!
//! Names are those of TRL's `DatasetMixtureConfig` (`datasets`), of `datasets.interleave_datasets`
//! (`stopping_strategy`), and of LLaMA-Factory's `dataset_info.json` (`columns`, `tags`, `max_samples`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::datasets::{Columns, RowKind, Tags};

/// One data set of several.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DatasetConfig {
    /// File, directory, or pattern of file names (`data/**/*.parquet`).
    pub path: String,
    /// Share of this data set in the mixture, relative to the others' weights. Without weights the data sets stand one
    /// after another.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub weight: Option<f64>,
    /// What its rows are. Null: what their columns say.
    pub kind: Option<RowKind>,
    /// Its columns, where they have names of their own.
    pub columns: Columns,
    /// Names within its messages, where they are its own.
    pub tags: Tags,
    /// Reads this many rows from its beginning. Null: all.
    #[schemars(range(min = 1))]
    pub max_samples: Option<usize>,
}

/// When a mixture by weights ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoppingStrategy {
    /// With the first data set that is used up.
    #[default]
    FirstExhausted,
    /// When each was used up at least once; those that are early begin anew.
    AllExhausted,
}
