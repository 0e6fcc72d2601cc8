//! Names of columns in a file and of keys and roles in its messages, where they differ from the usual ones.
//!
//! The settings are those of LLaMA-Factory's `dataset_info.json` (`columns`, `tags`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
