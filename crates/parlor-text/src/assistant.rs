//! Which tokens of a conversation are the assistant's: the ones that fine-tuning trains.
//!
//! From the template's `{% generation %}` blocks where it has them. Else turn by turn: the text up to a message
//! with the generation prompt must be a prefix of the text with the message, and the difference is the
//! assistant's (its end-of-turn token included). Where that does not hold, an error, never a guess.

use std::ops::Range;

use crate::chat::Message;
use crate::template::{ChatTemplate, RenderOptions, TemplateError};
use crate::tokenizer::{Tokenizer, TokenizerError};

/// How the assistant's tokens were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskSource {
    /// The template marks them.
    Generation,
    /// By comparing renderings turn by turn.
    Prefix,
}

/// A conversation as ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The rendered text.
    pub text: String,
    /// Its ids; framing tokens are the template's business.
    pub ids: Vec<u32>,
    /// Per id: whether it is the assistant's.
    pub assistant_mask: Vec<bool>,
    /// How that was found.
    pub how: MaskSource,
}

/// Why a conversation could not be encoded.
#[derive(Debug, thiserror::Error)]
pub enum MaskError {
    /// The template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The template renders the past differently once a message follows.
    #[error(
        "cannot tell which tokens are the assistant's: with message {message} the template renders the text \
         before it differently (from byte {byte} on). Put {{% generation %}} and {{% endgeneration %}} around \
         the assistant's part of the template, or train on all tokens with `training.sft.train_on: all`"
    )]
    Prefix {
        /// Number of the message, from 0.
        message: usize,
        /// First byte that differs.
        byte: usize,
    },
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
    let whole = template.render(messages, options)?;
    let (spans, how) = if template.marks_generation() {
        (trained(whole.generated, messages), MaskSource::Generation)
    } else {
        (spans_by_prefix(template, messages, options, &whole.text)?, MaskSource::Prefix)
    };
    let tokens = tokenizer.encode_with_offsets(&whole.text)?;
    let assistant_mask = tokens
        .iter()
        .map(|(_, bytes)| spans.iter().any(|span| bytes.start < span.end && bytes.end > span.start))
        .collect();
    let ids = tokens.iter().map(|(id, _)| *id).collect();
    Ok(Encoded { text: whole.text, ids, assistant_mask, how })
}

/// The spans of the messages that are trained, where each of the assistant's has one.
fn trained(spans: Vec<Range<usize>>, messages: &[Message]) -> Vec<Range<usize>> {
    let own: Vec<&Message> = messages.iter().filter(|message| message.role() == "assistant").collect();
    if own.len() != spans.len() {
        return spans;
    }
    spans.into_iter().zip(own).filter(|(_, message)| message.is_trained()).map(|(span, _)| span).collect()
}

fn spans_by_prefix(
    template: &ChatTemplate,
    messages: &[Message],
    options: &RenderOptions,
    whole: &str,
) -> Result<Vec<Range<usize>>, MaskError> {
    let mut spans = Vec::new();
    for (index, _) in messages.iter().enumerate().filter(|(_, message)| message.role() == "assistant") {
        let asked = RenderOptions { add_generation_prompt: true, ..options.clone() };
        let before = template.render(&messages[..index], &asked)?.text;
        let after = template.render(&messages[..=index], options)?.text;
        for (shorter, longer) in [(&before[..], &after[..]), (&after, whole)] {
            if !longer.starts_with(shorter) {
                let same = shorter.bytes().zip(longer.bytes()).take_while(|(a, b)| a == b).count();
                return Err(MaskError::Prefix { message: index, byte: same });
            }
        }
        if messages[index].is_trained() {
            spans.push(before.len()..after.len());
        }
    }
    Ok(spans)
}
