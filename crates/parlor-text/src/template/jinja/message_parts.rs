//! Which message each part of a rendering belongs to.
//!
//! Chat templates iterate over their messages. A template that is rewritten with
//! [`super::MessageMarks::Written`] writes a mark at the beginning of each iteration of a loop over messages,
//! and one behind the loop; the text between two marks is what the template renders for that message. So one
//! rendering tells the parts of all messages, however long the conversation is. Nested loops over messages
//! (to look up the call that a tool answers, say) have parts of their own.

use std::ops::Range;

use minijinja::{Environment, Value};

use super::dict::message_index;

/// Writes the mark at the beginning of an iteration: takes the number of the loop and the item.
pub(crate) const BEGIN_MESSAGE: &str = "message__begin";
/// Writes the mark behind a loop over messages: takes its number.
pub(crate) const END_LOOP: &str = "message__leave";
/// Writes the mark behind a loop if its items are messages: takes its number and what it iterated over.
pub(crate) const END_LOOP_OVER: &str = "message__leave_over";

/// Delimiters of a mark: private-use code points that no text should hold.
const OPEN: char = '\u{F0A15}';
const CLOSE: char = '\u{F0A16}';

pub(crate) fn add(environment: &mut Environment<'static>) {
    environment.add_function(BEGIN_MESSAGE, |number: usize, item: &Value| match message_index(item) {
        Some(index) => format!("{OPEN}{number} {index}{CLOSE}"),
        None => String::new(),
    });
    environment.add_function(END_LOOP, |number: usize| format!("{OPEN}{number}{CLOSE}"));
    environment.add_function(END_LOOP_OVER, |number: usize, items: &Value| {
        let is_message = |item: Value| message_index(&item).is_some();
        match items.try_iter().is_ok_and(|mut items| items.any(is_message)) {
            true => format!("{OPEN}{number}{CLOSE}"),
            false => String::new(),
        }
    });
}

/// A part of a text that belongs to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MessagePart {
    /// Number of the message, from 0.
    pub(crate) message: usize,
    /// The part's bytes in the text.
    pub(crate) bytes: Range<usize>,
}

/// The text without its marks, and its parts in order; text that belongs to no message is in none of them.
/// None when a mark is broken, because the template took its own output apart.
pub(crate) fn split_parts(marked: &str) -> Option<(String, Vec<MessagePart>)> {
    let mut text = String::with_capacity(marked.len());
    let mut parts: Vec<MessagePart> = Vec::new();
    // The loops that enclose the current position: number, and message of the iteration.
    let mut entered: Vec<(usize, usize)> = Vec::new();
    let mut rest = marked;
    while let Some((before, after)) = rest.split_once(OPEN) {
        append(&mut parts, &mut text, before, &entered);
        let (mark, after) = after.split_once(CLOSE)?;
        match mark.split_once(' ') {
            Some((number, message)) => {
                let (number, message) = (number.parse().ok()?, message.parse().ok()?);
                match entered.last_mut() {
                    Some((innermost, current)) if *innermost == number => *current = message,
                    _ => entered.push((number, message)),
                }
            }
            None => {
                let number: usize = mark.parse().ok()?;
                if let Some(at) = entered.iter().rposition(|(entered, _)| *entered == number) {
                    entered.truncate(at);
                }
            }
        }
        rest = after;
    }
    if rest.contains(CLOSE) {
        return None;
    }
    append(&mut parts, &mut text, rest, &entered);
    Some((text, parts))
}

/// Appends `piece`, which belongs to the message of the innermost loop.
fn append(parts: &mut Vec<MessagePart>, text: &mut String, piece: &str, entered: &[(usize, usize)]) {
    let start = text.len();
    text.push_str(piece);
    let Some((_, message)) = entered.last().filter(|_| !piece.is_empty()) else { return };
    match parts.last_mut() {
        Some(last) if last.message == *message && last.bytes.end == start => last.bytes.end = text.len(),
        _ => parts.push(MessagePart { message: *message, bytes: start..text.len() }),
    }
}
