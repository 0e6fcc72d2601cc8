//! The assistant's parts by comparing renderings: the conversation up to a message, with the generation
//! prompt, must be a prefix of the conversation with the message.

use std::ops::Range;

use super::error::MaskError;
use crate::message::Message;
use crate::template::{ChatTemplate, RenderOptions};

/// The assistant's bytes in `whole`, the rendering of all messages.
///
/// # Errors
/// [`MaskError::Prefix`] where a rendering is no prefix of the next one.
pub(super) fn spans_by_prefix(
    template: &ChatTemplate,
    messages: &[Message],
    options: &RenderOptions,
    whole: &str,
) -> Result<Vec<Range<usize>>, MaskError> {
    let mut spans = Vec::new();
    for (index, message) in messages.iter().enumerate().filter(|(_, message)| message.role() == "assistant") {
        let prompted = RenderOptions { add_generation_prompt: true, ..options.clone() };
        let before = template.render(&messages[..index], &prompted)?.text;
        let after = template.render(&messages[..=index], options)?.text;
        for (shorter, longer) in [(&before[..], &after[..]), (&after, whole)] {
            if !longer.starts_with(shorter) {
                let same = shorter.bytes().zip(longer.bytes()).take_while(|(a, b)| a == b).count();
                let (before, after) = (excerpt(shorter, same), excerpt(longer, same));
                return Err(MaskError::Prefix { message: index, byte: same, before, after });
            }
        }
        if message.is_trained() {
            spans.push(before.len()..after.len());
        }
    }
    Ok(spans)
}

/// The first characters of `text` from a byte on.
fn excerpt(text: &str, byte: usize) -> String {
    let start = (0..=byte.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text[start..].chars().take(40).collect()
}
