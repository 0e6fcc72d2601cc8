//! Which parts of a rendered conversation are the assistant's: those that fine-tuning trains.
//!
//! Three ways, in this order:
//!
//! 1. The template's `{% generation %}` blocks, where it has them.
//! 2. What the template renders for each message of the assistant (`template/jinja/message_parts.rs`), less
//!    the generation prompt at its beginning. So the end-of-turn token is trained, and text after the last
//!    message is not. These are the tokens that TRL's training templates mark (1.16).
//! 3. Comparing renderings turn by turn (`prefix.rs`), for templates that do not iterate over their messages.
//!    Where that fails too, the result is an error, never a guess.
//!
//! For training, thoughts that a template shows only in the newest answer stay in earlier answers too, as
//! TRL's training templates keep them: each answer is trained as it is generated.

use std::ops::Range;

use super::error::MaskError;
use super::masked_text::{MaskSource, MaskedText};
use super::prefix::spans_by_prefix;
use super::thoughts::with_thoughts;
use crate::message::Message;
use crate::template::{ChatTemplate, RenderOptions, RenderedParts, TemplateError, untrained_prompt};

/// Renders a conversation, and returns the text with the bytes of the assistant's parts.
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
            let rendered = template.render_parts(messages, options)?.filter(|rendered| rendered.text == text);
            let parts = rendered.ok_or(MaskError::Untrained { message })?.parts;
            spans.retain(|span| {
                let part =
                    parts.iter().find(|part| part.bytes.start <= span.start && span.start < part.bytes.end);
                part.is_none_or(|part| messages.get(part.message).is_none_or(Message::is_trained))
            });
        }
        return Ok(MaskedText { text, spans, how: MaskSource::Generation });
    }
    match complete_parts(template, messages, options, &whole.text)? {
        Some(rendered) => {
            let prompt = generation_prompt(template, messages, options);
            let spans = answer_spans(&rendered, messages, &prompt);
            Ok(MaskedText { text: rendered.text, spans, how: MaskSource::Messages })
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
        if let Some(rendered) = complete_parts(template, messages, options, &whole.text)? {
            let prompt = generation_prompt(template, messages, options);
            let rendered = with_thoughts(template, messages, options, rendered);
            let spans = answer_spans(&rendered, messages, &prompt);
            return Ok(MaskedText { text: rendered.text, spans, how: MaskSource::Messages });
        }
    }
    assistant_spans(template, messages, options)
}

/// The rendering with its parts, when it is `whole` and every answer has a part.
fn complete_parts(
    template: &ChatTemplate,
    messages: &[Message],
    options: &RenderOptions,
    whole: &str,
) -> Result<Option<RenderedParts>, TemplateError> {
    let Some(rendered) = template.render_parts(messages, options)? else { return Ok(None) };
    let mut has_part = vec![false; messages.len()];
    for part in &rendered.parts {
        if let Some(has_part) = has_part.get_mut(part.message) {
            *has_part = true;
        }
    }
    let complete =
        messages.iter().zip(has_part).all(|(message, has_part)| has_part || message.role() != "assistant");
    Ok((complete && rendered.text == whole).then_some(rendered))
}

/// The part of the generation prompt that is not trained: up to where the template begins a thought in it.
/// Empty when the template has no generation prompt, or when TRL's training template trains all of it.
fn generation_prompt(template: &ChatTemplate, messages: &[Message], options: &RenderOptions) -> String {
    let first = messages.iter().position(|message| message.role() == "assistant").unwrap_or(messages.len());
    let question = [Message::new("user", "?")];
    let before = messages.get(..first).filter(|before| !before.is_empty());
    let added = |messages: &[Message]| whole_generation_prompt(template, messages, options).ok().flatten();
    let mut prompt = before.and_then(added).or_else(|| added(&question)).unwrap_or_default();
    if let Some(thought) = prompt.find("<think>") {
        prompt.truncate(thought);
    }
    let untrained = untrained_prompt(&prompt, template.source_for(options.tools.as_deref())).len();
    prompt.truncate(untrained);
    prompt
}

/// What `add_generation_prompt` appends to these messages; none when it cannot be told.
fn whole_generation_prompt(
    template: &ChatTemplate,
    messages: &[Message],
    options: &RenderOptions,
) -> Result<Option<String>, TemplateError> {
    let prompted = RenderOptions { add_generation_prompt: true, ..options.clone() };
    let after = template.render_parts(messages, &prompted)?;
    if let Some(RenderedParts { text, parts }) = &after
        && let Some(tail) =
            parts.last().and_then(|last| text.get(last.bytes.end..)).filter(|tail| !tail.is_empty())
    {
        return Ok(Some(tail.to_owned()));
    }
    let plain = RenderOptions { add_generation_prompt: false, ..options.clone() };
    let before = template.render(messages, &plain)?.text;
    let after = template.render(messages, &prompted)?.text;
    Ok(after.strip_prefix(&before).map(str::to_owned))
}

/// The trained bytes of the assistant's messages: their parts, without `prompt` at the beginning of each message.
fn answer_spans(rendered: &RenderedParts, messages: &[Message], prompt: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut begun = None;
    for part in &rendered.parts {
        let Some(message) = messages.get(part.message).filter(|message| message.role() == "assistant") else {
            continue;
        };
        let first = begun.replace(part.message) != Some(part.message);
        let mut span = part.bytes.clone();
        if first {
            let piece = &rendered.text[span.clone()];
            let at = match part.message {
                // The first message's part also holds what a template writes before all messages.
                0 => piece.find(prompt),
                _ => piece.starts_with(prompt).then_some(0),
            };
            span.start += at.map_or(0, |at| at + prompt.len());
        }
        if message.is_trained() && !span.is_empty() {
            spans.push(span);
        }
    }
    spans
}
