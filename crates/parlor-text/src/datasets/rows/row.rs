//! The kinds of rows, each in one shape.
//!
//! Names are TRL's (`messages`, `prompt`/`completion`, `prompt`/`chosen`/`rejected`,
//! `prompt`/`completion`/`label`, `text`) and Alpaca's (`instruction`/`input`/`output`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::message::Message;

/// What kind of row a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// `messages`, or `conversations`.
    Messages,
    /// `instruction`, `input`, `output`.
    Instruction,
    /// `prompt`, `completion`.
    PromptCompletion,
    /// `text`, or a text file.
    Text,
    /// `prompt`, `chosen`, `rejected`.
    Preference,
    /// `prompt`, `completion`, `label`.
    Unpaired,
}

impl std::fmt::Display for RowKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            RowKind::Messages => "messages",
            RowKind::Instruction => "instruction",
            RowKind::PromptCompletion => "prompt_completion",
            RowKind::Text => "text",
            RowKind::Preference => "preference",
            RowKind::Unpaired => "unpaired",
        })
    }
}

/// A prompt or a completion.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Plain text, used as it is.
    Text(String),
    /// Messages, rendered by the chat template.
    Messages(Vec<Message>),
}

/// A usable row.
#[derive(Clone, Debug, PartialEq)]
pub enum Row {
    /// A conversation.
    Messages {
        /// Its messages, at least one.
        messages: Vec<Message>,
    },
    /// An instruction with its output.
    Instruction {
        /// The instruction.
        instruction: String,
        /// Its input; may be empty.
        input: String,
        /// The output.
        output: String,
        /// Messages before the instruction: the system prompt, and the turns of `history`.
        lead: Vec<Message>,
    },
    /// A prompt with its completion.
    PromptCompletion {
        /// The prompt.
        prompt: Content,
        /// The completion.
        completion: Content,
    },
    /// A text.
    Text(String),
    /// A preference pair.
    Preference {
        /// The prompt.
        prompt: Content,
        /// The preferred completion.
        chosen: Content,
        /// The other completion.
        rejected: Content,
    },
    /// An unpaired preference: a completion with its label.
    Unpaired {
        /// The prompt.
        prompt: Content,
        /// The completion.
        completion: Content,
        /// The label: whether the completion is desirable.
        desirable: bool,
    },
}

impl Row {
    /// The row's kind.
    pub fn kind(&self) -> RowKind {
        match self {
            Row::Messages { .. } => RowKind::Messages,
            Row::Instruction { .. } => RowKind::Instruction,
            Row::PromptCompletion { .. } => RowKind::PromptCompletion,
            Row::Text(_) => RowKind::Text,
            Row::Preference { .. } => RowKind::Preference,
            Row::Unpaired { .. } => RowKind::Unpaired,
        }
    }

    /// The row as one conversation; none when it is plain text.
    pub fn conversation(&self) -> Option<Vec<Message>> {
        match self {
            Row::Messages { messages } => Some(messages.clone()),
            Row::Instruction { instruction, input, output, lead } => {
                let mut messages = lead.clone();
                messages.extend([request(instruction, input), Message::new("assistant", output)]);
                Some(messages)
            }
            Row::PromptCompletion { prompt, completion: answer }
            | Row::Unpaired { prompt, completion: answer, .. }
            | Row::Preference { prompt, chosen: answer, .. } => match (prompt, answer) {
                (Content::Messages(prompt), Content::Messages(answer)) => {
                    Some([&prompt[..], answer].concat())
                }
                _ => None,
            },
            Row::Text(_) => None,
        }
    }

    /// Whether the chat template renders it.
    pub(super) fn is_rendered(&self) -> bool {
        match self {
            Row::Messages { .. } | Row::Instruction { .. } => true,
            Row::PromptCompletion { prompt, .. }
            | Row::Preference { prompt, .. }
            | Row::Unpaired { prompt, .. } => matches!(prompt, Content::Messages(_)),
            Row::Text(_) => false,
        }
    }
}

/// The message of an instruction and its input.
pub(super) fn request(instruction: &str, input: &str) -> Message {
    let parts: Vec<&str> = [instruction, input].into_iter().filter(|part| !part.is_empty()).collect();
    Message::new("user", &parts.join("\n"))
}
