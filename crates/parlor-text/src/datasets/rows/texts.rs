//! The texts of a row, and their size.

use super::row::{Content, Row};
use crate::message::Message;

/// Characters in all texts of a row.
pub fn characters(row: &Row) -> usize {
    let mut count = 0;
    each_text(row, &mut |text| count += text.chars().count());
    count
}

/// Bytes of all texts of a row.
pub fn bytes(row: &Row) -> usize {
    let mut count = 0;
    each_text(row, &mut |text| count += text.len());
    count
}

/// Calls `visit` with every text of a row, in order; a tokenizer is trained on these.
pub fn each_text(row: &Row, visit: &mut dyn FnMut(&str)) {
    let messages = |messages: &[Message], visit: &mut dyn FnMut(&str)| {
        messages.iter().filter_map(Message::text).for_each(visit);
    };
    let content = |content: &Content, visit: &mut dyn FnMut(&str)| match content {
        Content::Text(whole) => visit(whole),
        Content::Messages(list) => messages(list, visit),
    };
    match row {
        Row::Messages { messages: list } => messages(list, visit),
        Row::Instruction { instruction, input, output, lead } => {
            messages(lead, visit);
            [instruction, input, output].into_iter().for_each(|text| visit(text));
        }
        Row::PromptCompletion { prompt, completion } | Row::Unpaired { prompt, completion, .. } => {
            [prompt, completion].into_iter().for_each(|side| content(side, visit));
        }
        Row::Text(whole) => visit(whole),
        Row::Preference { prompt, chosen, rejected } => {
            [prompt, chosen, rejected].into_iter().for_each(|side| content(side, visit));
        }
    }
}
