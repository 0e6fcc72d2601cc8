//! Thoughts that a template shows only in the newest answer, put back into earlier answers for training.

use crate::message::Message;
use crate::template::{ChatTemplate, MessagePart, RenderOptions, RenderedParts};

/// Replaces each earlier answer by what the template renders for it when it is the newest, where the two
/// differ by a thought alone.
pub(super) fn with_thoughts(
    template: &ChatTemplate,
    messages: &[Message],
    options: &RenderOptions,
    RenderedParts { text, parts }: RenderedParts,
) -> RenderedParts {
    // Without the tools, which may be long: they do not change how an answer is rendered.
    let alone = RenderOptions { tools: None, add_generation_prompt: false, ..options.clone() };
    let mut new =
        RenderedParts { text: String::with_capacity(text.len()), parts: Vec::with_capacity(parts.len()) };
    let mut copied = 0;
    let mut question = 0;
    let mut next = parts.into_iter().peekable();
    while let Some(part) = next.next() {
        new.text.push_str(&text[copied..part.bytes.start]);
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
            .filter(|newest| adds_thought(newest, piece));
        let start = new.text.len();
        new.text.push_str(newest.as_deref().unwrap_or(piece));
        new.parts.push(MessagePart { message: part.message, bytes: start..new.text.len() });
    }
    new.text.push_str(&text[copied..]);
    new
}

/// The rendering of the last message of a turn.
fn newest(template: &ChatTemplate, turn: &[Message], options: &RenderOptions) -> Option<String> {
    let RenderedParts { text, parts } = template.render_parts(turn, options).ok()??;
    let part = parts.iter().rfind(|part| part.message + 1 == turn.len())?;
    Some(text[part.bytes.clone()].to_owned())
}

/// Whether `long` is `short` with one thought inserted.
fn adds_thought(long: &str, short: &str) -> bool {
    let Some(at) = long.find("<think>").filter(|_| long.len() > short.len()) else { return false };
    let more = long.len() - short.len();
    let (Some(thought), Some(rest)) = (long.get(at..at + more), long.get(at + more..)) else { return false };
    short.get(..at) == Some(&long[..at]) && short.get(at..) == Some(rest) && thought.contains("</think>")
}
