//! Conversations as ids, with a mask of the assistant's tokens.

use super::error::MaskError;
use super::masked_text::{MaskSource, MaskedText};
use super::spans::{assistant_spans, training_spans};
use crate::message::Message;
use crate::template::{ChatTemplate, RenderOptions};
use crate::tokenizer::Tokenizer;

/// A conversation as ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The rendered text.
    pub text: String,
    /// Its ids, without the tokens that frame a text: the template writes those itself.
    pub ids: Vec<u32>,
    /// `[tokens]`: whether the token is the assistant's.
    pub assistant_mask: Vec<bool>,
    /// How the mask was found.
    pub how: MaskSource,
}

/// Renders and encodes a conversation, and marks the assistant's tokens.
///
/// # Errors
/// [`MaskError`]; see there.
pub fn encode_conversation(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    messages: &[Message],
    options: &RenderOptions,
) -> Result<Encoded, MaskError> {
    encoded(tokenizer, assistant_spans(template, messages, options)?)
}

/// As [`encode_conversation`], for training: with the thoughts of all answers.
///
/// # Errors
/// [`MaskError`]; see there.
pub fn encode_for_training(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    messages: &[Message],
    options: &RenderOptions,
) -> Result<Encoded, MaskError> {
    encoded(tokenizer, training_spans(template, messages, options)?)
}

fn encoded(tokenizer: &Tokenizer, masked: MaskedText) -> Result<Encoded, MaskError> {
    let MaskedText { text, spans, how } = masked;
    let tokens = tokenizer.encode_with_offsets(&text)?;
    let mut next = spans.iter().peekable();
    let mut assistant_mask = Vec::with_capacity(tokens.len());
    for (_, bytes) in &tokens {
        while next.next_if(|span| span.end <= bytes.start).is_some() {}
        assistant_mask.push(next.peek().is_some_and(|span| bytes.start < span.end && bytes.end > span.start));
    }
    let ids = tokens.iter().map(|(id, _)| *id).collect();
    Ok(Encoded { text, ids, assistant_mask, how })
}
