//! Which tokens of a conversation are the assistant's: the ones that fine-tuning trains.
//!
//! From the template's `{% generation %}` blocks where it has them. Else what the template renders for a message of the
//! assistant is its own (`jinja/ownership.rs`), but for the generation prompt at its beginning; so the end-of-turn token
//! is trained, and what stands behind the last message is not. These are the tokens that TRL's training templates
//! mark (1.16). Where a template does not go over its messages one by one, turn by turn: the text up to a message with the
//! generation prompt must be a prefix of the text with the message. Where that does not hold either, an error, never a
//! guess.
//!
//! For training, thoughts that a template shows only in the newest answer stay in the earlier ones too, as TRL's
//! training templates keep them: each answer is trained as it is generated.

use std::ops::Range;

use crate::chat::Message;
use crate::template::{ChatTemplate, Owned, RenderOptions, TemplateError};
use crate::template_families::untrained_part;
use crate::tokenizer::{Tokenizer, TokenizerError};

/// How the assistant's tokens were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskSource {
    /// The template marks them.
    Generation,
    /// By the rounds of the template's loop over the messages.
    Messages,
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
        "cannot tell which tokens are the assistant's: with message {message} the template renders the text before it \
         differently (from byte {byte} on): {before:?} became {after:?}. Put {{% generation %}} and {{% endgeneration %}} \
         around the assistant's part of the template, or train on all tokens with `training.sft.train_on: all`"
    )]
    Prefix {
        /// Number of the message, from 0.
        message: usize,
        /// First byte that differs.
        byte: usize,
        /// What stood there before.
        before: String,
        /// What stands there then.
        after: String,
    },
    /// A message is not to be trained, and it cannot be told from the others.
    #[error(
        "cannot tell which tokens are those of message {message}, which is not to be trained (`weight: 0`, `train: \
         false`): the template does not go over the messages one by one"
    )]
    Untrained {
        /// Number of the message, from 0.
        message: usize,
    },
}

/// A rendered conversation, and the bytes of it that are trained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskedText {
    /// The text.
    pub text: String,
    /// Bytes of the assistant's parts, in their order.
    pub spans: Vec<Range<usize>>,
    /// How they were found.
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

/// The same for training: with the thoughts of all answers.
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

/// Renders a conversation, and gives the text with the bytes of it that are the assistant's.
///
/// # Errors
/// [`MaskError`]; see there.
pub fn assistant_spans(
    template: &ChatTemplate,
    messages: &[Message],
    options: &RenderOptions,
) -> Result<MaskedText, MaskError> {
    let whole = template.render(messages, options)?;
    if template.marks_generation(options.tools.as_deref()) {
        let (text, mut spans) = (whole.text, whole.generated);
        if let Some(message) = messages.iter().position(|message| !message.is_trained()) {
            let owned = template.render_owned(messages, options)?.filter(|(owned, _)| *owned == text);
            let (_, parts) = owned.ok_or(MaskError::Untrained { message })?;
            spans.retain(|span| {
                let part =
                    parts.iter().find(|part| part.bytes.start <= span.start && span.start < part.bytes.end);
                part.is_none_or(|part| messages.get(part.message).is_none_or(Message::is_trained))
            });
        }
        return Ok(MaskedText { text, spans, how: MaskSource::Generation });
    }
    match owned(template, messages, options, &whole.text)? {
        Some(owned) => {
            let cue = generation_prompt(template, messages, options);
            let spans = spans_of(&owned, messages, &cue);
            Ok(MaskedText { text: owned.0, spans, how: MaskSource::Messages })
        }
        None => {
            let spans = spans_by_prefix(template, messages, options, &whole.text)?;
            Ok(MaskedText { text: whole.text, spans, how: MaskSource::Prefix })
        }
    }
}

/// As [`assistant_spans`], with the thoughts of all answers.
///
/// # Errors
/// [`MaskError`]; see there.
pub fn training_spans(
    template: &ChatTemplate,
    messages: &[Message],
    options: &RenderOptions,
) -> Result<MaskedText, MaskError> {
    let tools = options.tools.as_deref();
    let thinks = |message: &Message| message.text().is_some_and(|text| text.contains("</think>"));
    if !template.marks_generation(tools) && template.knows_thoughts(tools) {
        if messages.iter().any(thinks)
            && let Some(keeping) = template.keeping_thoughts(tools)
        {
            return assistant_spans(&keeping, messages, options);
        }
        let whole = template.render(messages, options)?;
        if let Some(owned) = owned(template, messages, options, &whole.text)? {
            let cue = generation_prompt(template, messages, options);
            let owned = with_thoughts(template, messages, options, owned);
            let spans = spans_of(&owned, messages, &cue);
            return Ok(MaskedText { text: owned.0, spans, how: MaskSource::Messages });
        }
    }
    assistant_spans(template, messages, options)
}

/// The parts of a rendering, when every answer has one.
fn owned(
    template: &ChatTemplate,
    messages: &[Message],
    options: &RenderOptions,
    whole: &str,
) -> Result<Option<Owned>, TemplateError> {
    let Some((text, parts)) = template.render_owned(messages, options)? else { return Ok(None) };
    let mut has_part = vec![false; messages.len()];
    for part in &parts {
        if let Some(has_part) = has_part.get_mut(part.message) {
            *has_part = true;
        }
    }
    let told =
        messages.iter().zip(has_part).all(|(message, has_part)| has_part || message.role() != "assistant");
    Ok((told && text == whole).then_some((text, parts)))
}

/// What stands before an answer and is not trained: what a template writes when the assistant is to answer, up to where it
/// begins a thought for it. Nothing where it cannot be asked, or where TRL's training template trains it too.
fn generation_prompt(template: &ChatTemplate, messages: &[Message], options: &RenderOptions) -> String {
    let first = messages.iter().position(|message| message.role() == "assistant").unwrap_or(messages.len());
    let question = [Message::new("user", "?")];
    let before = messages.get(..first).filter(|before| !before.is_empty());
    let added = |messages: &[Message]| cue(template, messages, options).ok().flatten();
    let mut cue = before.and_then(added).or_else(|| added(&question)).unwrap_or_default();
    if let Some(thought) = cue.find("<think>") {
        cue.truncate(thought);
    }
    let untrained = untrained_part(&cue, template.source_for(options.tools.as_deref())).len();
    cue.truncate(untrained);
    cue
}

/// What is behind the last message when an answer is asked for; none when it cannot be told.
fn cue(
    template: &ChatTemplate,
    messages: &[Message],
    options: &RenderOptions,
) -> Result<Option<String>, TemplateError> {
    let asked = RenderOptions { add_generation_prompt: true, ..options.clone() };
    let after = template.render_owned(messages, &asked)?;
    if let Some((text, parts)) = &after
        && let Some(tail) =
            parts.last().and_then(|last| text.get(last.bytes.end..)).filter(|tail| !tail.is_empty())
    {
        return Ok(Some(tail.to_owned()));
    }
    let plain = RenderOptions { add_generation_prompt: false, ..options.clone() };
    let before = template.render(messages, &plain)?.text;
    let after = template.render(messages, &asked)?.text;
    Ok(after.strip_prefix(&before).map(str::to_owned))
}

fn spans_of((text, parts): &Owned, messages: &[Message], cue: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut begun = None;
    for part in parts {
        let Some(message) = messages.get(part.message).filter(|message| message.role() == "assistant") else {
            continue;
        };
        let first = begun.replace(part.message) != Some(part.message);
        let mut span = part.bytes.clone();
        if first {
            let piece = &text[span.clone()];
            let at = match part.message {
                // Of the first message's part is also what a template puts before all messages.
                0 => piece.find(cue),
                _ => piece.starts_with(cue).then_some(0),
            };
            span.start += at.map_or(0, |at| at + cue.len());
        }
        if message.is_trained() && !span.is_empty() {
            spans.push(span);
        }
    }
    spans
}

/// Puts back the thoughts of earlier answers: what the template renders for an answer when it is the newest, where that
/// differs by a thought alone.
fn with_thoughts(
    template: &ChatTemplate,
    messages: &[Message],
    options: &RenderOptions,
    (text, parts): Owned,
) -> Owned {
    // What an answer looks like does not depend on the tools, which may be long.
    let alone = RenderOptions { tools: None, add_generation_prompt: false, ..options.clone() };
    let mut new: Owned = (String::with_capacity(text.len()), Vec::with_capacity(parts.len()));
    let mut copied = 0;
    let mut question = 0;
    let mut next = parts.into_iter().peekable();
    while let Some(part) = next.next() {
        new.0.push_str(&text[copied..part.bytes.start]);
        copied = part.bytes.end;
        let role = |index: usize| messages.get(index).map(Message::role);
        if role(part.message) == Some("user") {
            question = part.message;
        }
        let piece = &text[part.bytes.clone()];
        let last = next.peek().is_none() || part.message + 1 == messages.len();
        let newest = (role(part.message) == Some("assistant") && !last && question < part.message)
            .then(|| messages.get(question..=part.message))
            .flatten()
            .and_then(|turn| newest(template, turn, &alone))
            .filter(|newest| has_thought_more(newest, piece));
        let start = new.0.len();
        new.0.push_str(newest.as_deref().unwrap_or(piece));
        new.1.push(crate::jinja::Part { message: part.message, bytes: start..new.0.len() });
    }
    new.0.push_str(&text[copied..]);
    new
}

/// What the last message of a turn is rendered as.
fn newest(template: &ChatTemplate, turn: &[Message], options: &RenderOptions) -> Option<String> {
    let (text, parts) = template.render_owned(turn, options).ok()??;
    let part = parts.iter().rfind(|part| part.message + 1 == turn.len())?;
    Some(text[part.bytes.clone()].to_owned())
}

/// Whether `long` is `short` with a thought within.
fn has_thought_more(long: &str, short: &str) -> bool {
    let Some(at) = long.find("<think>").filter(|_| long.len() > short.len()) else { return false };
    let more = long.len() - short.len();
    let (Some(thought), Some(rest)) = (long.get(at..at + more), long.get(at + more..)) else { return false };
    short.get(..at) == Some(&long[..at]) && short.get(at..) == Some(rest) && thought.contains("</think>")
}

fn spans_by_prefix(
    template: &ChatTemplate,
    messages: &[Message],
    options: &RenderOptions,
    whole: &str,
) -> Result<Vec<Range<usize>>, MaskError> {
    let mut spans = Vec::new();
    for (index, message) in messages.iter().enumerate().filter(|(_, message)| message.role() == "assistant") {
        let asked = RenderOptions { add_generation_prompt: true, ..options.clone() };
        let before = template.render(&messages[..index], &asked)?.text;
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

/// Some characters from a byte on.
fn excerpt(text: &str, byte: usize) -> String {
    let start = (0..=byte.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text[start..].chars().take(40).collect()
}
