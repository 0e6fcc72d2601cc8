//! `data.datasets` and what describes a data set: its kind, the names of its columns, the words of its roles.
//!
//! Names are those of TRL's `DatasetMixtureConfig` (`datasets`), of `datasets.interleave_datasets`
//! (`stopping_strategy`), and of LLaMA-Factory's `dataset_info.json` (`columns`, `tags`, `max_samples`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::datasets::RowKind;

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

/// Which column of a file holds what. When any is named, only the named ones are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Columns {
    /// Column of the conversation.
    pub messages: Option<String>,
    /// Column of a system prompt beside the conversation; may be absent from rows.
    pub system: Option<String>,
    /// Column of earlier turns, pairs of a request and its answer; may be absent from rows.
    pub history: Option<String>,
    /// Column of the tools' schemas; may be absent from rows.
    pub tools: Option<String>,
    /// Column of documents for the chat template; may be absent from rows.
    pub documents: Option<String>,
    /// Column of further variables of the chat template; may be absent from rows.
    pub chat_template_kwargs: Option<String>,
    /// Column of the prompt.
    pub prompt: Option<String>,
    /// Column of the answer to `prompt`.
    pub completion: Option<String>,
    /// Column of the better answer.
    pub chosen: Option<String>,
    /// Column of the worse answer.
    pub rejected: Option<String>,
    /// Column that says whether `completion` is wanted.
    pub label: Option<String>,
    /// Column of an instruction.
    pub instruction: Option<String>,
    /// Column of what the instruction is about; may be absent from rows.
    pub input: Option<String>,
    /// Column of the answer to `instruction`.
    pub output: Option<String>,
    /// Column of plain text.
    pub text: Option<String>,
}

impl Columns {
    /// What is named: the field, and the column of the file.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [
            ("messages", &self.messages),
            ("system", &self.system),
            ("history", &self.history),
            ("tools", &self.tools),
            ("documents", &self.documents),
            ("chat_template_kwargs", &self.chat_template_kwargs),
            ("prompt", &self.prompt),
            ("completion", &self.completion),
            ("chosen", &self.chosen),
            ("rejected", &self.rejected),
            ("label", &self.label),
            ("instruction", &self.instruction),
            ("input", &self.input),
            ("output", &self.output),
            ("text", &self.text),
        ];
        all.into_iter().filter_map(|(name, column)| Some((name, column.as_deref()?)))
    }
}

/// Names within messages. What is null has the names of OpenAI and of ShareGPT.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tags {
    /// Key of the role (`role`, `from`).
    pub role_tag: Option<String>,
    /// Key of the content (`content`, `value`).
    pub content_tag: Option<String>,
    /// Role of the user (`user`, `human`).
    pub user_tag: Option<String>,
    /// Role of the assistant (`assistant`, `gpt`).
    pub assistant_tag: Option<String>,
    /// Role of what a tool returns (`tool`, `observation`).
    pub observation_tag: Option<String>,
    /// Role of a call of a tool, whose content is JSON with `name` and `arguments` (`function_call`).
    pub function_tag: Option<String>,
    /// Role of the system prompt (`system`).
    pub system_tag: Option<String>,
}
