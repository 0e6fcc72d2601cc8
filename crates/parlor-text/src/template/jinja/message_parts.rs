//! Which message each part of a rendering belongs to.
//!
//! Chat templates go over their messages in loops. A template that is rewritten with [`super::Ownership::Marked`] writes a
//! mark at the beginning of each round of a loop over messages, and one behind the loop; what stands between is what the
//! template renders for that message. One rendering so tells the parts of all messages, however long the conversation
//! is. Loops within a round (over the messages that a tool's answers are looked up in, say) have parts of their own.

use std::ops::Range;

use minijinja::{Environment, Value};

use super::values::message_index;

/// Functions that write the marks: at the beginning of a round, with the number of the loop and the item, and behind the
/// loop, with its number, and what it went over where that tells whether it was over messages.
pub(super) const OWNER: &str = "message__begin";
pub(super) const LEAVE: &str = "message__leave";
pub(super) const LEAVE_OVER: &str = "message__leave_over";

/// Around a mark: private code points that no text should hold.
const OPEN: char = '\u{F0A15}';
const CLOSE: char = '\u{F0A16}';

pub(super) fn add(environment: &mut Environment<'static>) {
    environment.add_function(OWNER, |number: usize, item: &Value| match message_index(item) {
        Some(index) => format!("{OPEN}{number} {index}{CLOSE}"),
        None => String::new(),
    });
    environment.add_function(LEAVE, |number: usize| format!("{OPEN}{number}{CLOSE}"));
    environment.add_function(LEAVE_OVER, |number: usize, items: &Value| {
        let is_message = |item: Value| message_index(&item).is_some();
        match items.try_iter().is_ok_and(|mut items| items.any(is_message)) {
            true => format!("{OPEN}{number}{CLOSE}"),
            false => String::new(),
        }
    });
}

/// A part of a text that belongs to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The message, from 0.
    pub(crate) message: usize,
    /// Its bytes.
    pub(crate) bytes: Range<usize>,
}

/// The text without its marks, and its parts in their order; what no message owns is in none. None when a mark is not
/// whole: the template took its own output apart.
pub(crate) fn parts(marked: &str) -> Option<(String, Vec<Part>)> {
    let mut text = String::with_capacity(marked.len());
    let mut parts: Vec<Part> = Vec::new();
    // Loops that are entered: their number, and the message of the round.
    let mut entered: Vec<(usize, usize)> = Vec::new();
    let mut rest = marked;
    while let Some((before, after)) = rest.split_once(OPEN) {
        own(&mut parts, &mut text, before, &entered);
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
    own(&mut parts, &mut text, rest, &entered);
    Some((text, parts))
}

/// Adds `piece`, which belongs to the innermost message.
fn own(parts: &mut Vec<Part>, text: &mut String, piece: &str, entered: &[(usize, usize)]) {
    let start = text.len();
    text.push_str(piece);
    let Some((_, message)) = entered.last().filter(|_| !piece.is_empty()) else { return };
    match parts.last_mut() {
        Some(last) if last.message == *message && last.bytes.end == start => last.bytes.end = text.len(),
        _ => parts.push(Part { message: *message, bytes: start..text.len() }),
    }
}
