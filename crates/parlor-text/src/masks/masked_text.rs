//! A rendered conversation, and which of its bytes are the assistant's.

use std::ops::Range;

/// How the assistant's parts were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskSource {
    /// By the template's `{% generation %}` blocks.
    Generation,
    /// By the iterations of the template's loop over the messages.
    Messages,
    /// By comparing the renderings of growing beginnings of the conversation.
    Prefix,
}

/// A rendered conversation, and its bytes that are trained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskedText {
    /// The text.
    pub text: String,
    /// Bytes of the assistant's parts, in order.
    pub spans: Vec<Range<usize>>,
    /// How they were found.
    pub how: MaskSource,
}
