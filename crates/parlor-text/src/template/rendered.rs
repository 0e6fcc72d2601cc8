//! What goes into a rendering besides the messages, and what comes out.

use std::ops::Range;

use jiff::civil::DateTime;
use serde_json::{Map, Value as Json};

use super::jinja::MessagePart;

/// What a rendering sees besides the messages.
#[derive(Clone, Debug, Default)]
pub struct RenderOptions {
    /// JSON Schemas of the tools the model may call.
    pub tools: Option<Vec<Json>>,
    /// End with the beginning of the assistant's next message.
    pub add_generation_prompt: bool,
    /// The date of `strftime_now`. None: the template's own date, else the clock.
    pub now: Option<DateTime>,
    /// Further variables (`enable_thinking`, `documents`, ...). They override those of the template.
    pub kwargs: Map<String, Json>,
}

/// A rendered conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// Bytes of `text` inside `{% generation %}` blocks.
    pub generated: Vec<Range<usize>>,
}

/// A rendered conversation, and which of its messages each part belongs to.
#[derive(Clone, Debug)]
pub(crate) struct RenderedParts {
    /// The text.
    pub(crate) text: String,
    /// Parts in order. Text that belongs to no message is in none of them.
    pub(crate) parts: Vec<MessagePart>,
}
