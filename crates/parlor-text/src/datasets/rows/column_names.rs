//! The names of columns.

use serde_json::{Map, Value};

use crate::json_value::is_nothing;

/// Columns of a conversation: OpenAI's and HF's, and ShareGPT's.
pub(super) const CONVERSATION: [&str; 3] = ["messages", "conversations", "conversation"];
pub(crate) const SYSTEM: &str = "system";
pub(crate) const HISTORY: &str = "history";
pub(super) const TOOLS: &str = "tools";
pub(super) const DOCUMENTS: &str = "documents";
pub(super) const TEMPLATE_KWARGS: &str = "chat_template_kwargs";
pub(super) const LABEL: &str = "label";

/// Columns that have a meaning in rows of some kind.
pub(crate) const KNOWN_COLUMNS: &[&str] = &[
    "messages",
    "conversations",
    "conversation",
    SYSTEM,
    HISTORY,
    TOOLS,
    DOCUMENTS,
    TEMPLATE_KWARGS,
    "chosen",
    "rejected",
    "prompt",
    "question",
    "completion",
    LABEL,
    KTO_TAG,
    "instruction",
    "input",
    "output",
    "text",
    "image",
    "images",
    "video",
    "videos",
    "audio",
    "audios",
];

/// Another name of `label`: LLaMA-Factory's.
pub(super) const KTO_TAG: &str = "kto_tag";
/// Columns of media, which are not text.
pub(super) const MEDIA: [&str; 6] = ["image", "images", "video", "videos", "audio", "audios"];

/// Whether a column is there and not empty.
pub(super) fn filled(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key).is_some_and(|value| !is_nothing(value))
}
