//! Preference data: pairs of completions of which one is preferred, and single completions with a label.
//!
//! The layouts are TRL's (1.16, the dataset formats of its documentation, with `maybe_extract_prompt`: the
//! common beginning of `chosen` and `rejected` is the prompt) and LLaMA-Factory's (a conversation with
//! `chosen` and `rejected`, one message each; Alpaca's columns with these or with a label). Unlike in TRL, a
//! prompt that the completions repeat is kept once.

use serde_json::{Map, Value};

use super::column_names::{CONVERSATION, LABEL, filled};
use super::columns::Tags;
use super::content::{content, same_kind, turn};
use super::conversation::{take_messages, with_lead};
use super::label::desirable;
use super::lead::{has_lead, take_lead};
use super::row::{Content, Row, request};
use crate::message::Message;

type Fields = Map<String, Value>;

/// A preference pair: `chosen` and `rejected`, with their prompt or beginning with it.
pub(super) fn preference(map: &mut Fields, tags: &Tags) -> Result<Row, String> {
    let (chosen, rejected) = (completion(map, "chosen", tags)?, completion(map, "rejected", tags)?);
    if chosen == rejected {
        return Err("`chosen` and `rejected` are the same, so there is nothing to prefer".to_owned());
    }
    let has_conversation = CONVERSATION.into_iter().any(|key| filled(map, key));
    let prompt = match prompt(map, tags)? {
        Some(prompt) => Some(prompt),
        // A conversation that repeats prompt and `chosen` adds nothing.
        None if has_conversation && !repeats_chosen(map, &chosen, tags) => {
            let messages = take_messages(map, tags)?;
            if messages.last().is_some_and(|last| last.role() == "assistant") {
                return Err(
                    "the conversation beside `chosen` and `rejected` ends with the assistant; it must \
                     end with what they answer"
                        .to_owned(),
                );
            }
            Some(Content::Messages(messages))
        }
        None => None,
    };
    let (mut prompt, chosen, rejected) = match prompt {
        Some(prompt) => with_prompt(prompt, chosen, rejected)?,
        None => {
            if matches!(chosen, Content::Text(_)) && has_lead(map) {
                return Err("`prompt` is missing: `system` and `history` come before one".to_owned());
            }
            if let (Content::Text(_), Some(column)) = (&chosen, sentence(map)) {
                return Err(format!(
                    "`prompt` is missing; if `{column}` is the prompt, name it by `data.columns` (with `chosen` and \
                     `rejected`), else leave that column out"
                ));
            }
            without_prompt(chosen, rejected)?
        }
    };
    if let Content::Messages(messages) = &mut prompt {
        with_lead(map, messages, tags)?;
    }
    for key in CONVERSATION {
        // Conversations that only repeat the other columns.
        if filled(map, key) && is_repeated(map, key, &prompt, &chosen, tags) {
            map.shift_remove(key);
        }
    }
    require_trained(&[&chosen, &rejected])?;
    Ok(Row::Preference { prompt, chosen, rejected })
}

/// An unpaired preference: a prompt, a completion, and its label.
pub(super) fn unpaired(map: &mut Fields, tags: &Tags) -> Result<Row, String> {
    let desirable = desirable(map.shift_remove(LABEL).as_ref())?;
    let (prompt, completion) = match prompt(map, tags)? {
        Some(prompt) => {
            let key =
                if filled(map, "completion") || !filled(map, "output") { "completion" } else { "output" };
            (prompt, completion(map, key, tags)?)
        }
        None if CONVERSATION.into_iter().any(|key| map.contains_key(key)) => {
            let mut messages = take_messages(map, tags)?;
            match messages.pop() {
                Some(last) if last.role() == "assistant" && !last.is_empty() && !messages.is_empty() => {
                    (Content::Messages(messages), Content::Messages(vec![last]))
                }
                _ => {
                    return Err(
                        "the conversation beside `label` does not end with an answer of the assistant"
                            .to_owned(),
                    );
                }
            }
        }
        None => (content(map, "prompt", tags)?, completion(map, "completion", tags)?),
    };
    let (mut prompt, [completion]) = same_kind(prompt, [completion])?;
    if let Content::Messages(messages) = &mut prompt {
        with_lead(map, messages, tags)?;
    }
    require_trained(&[&completion])?;
    Ok(Row::Unpaired { prompt, completion, desirable })
}

/// The prompt of `prompt`, `question`, or Alpaca's `instruction` with its `input`. Text becomes a turn of the
/// user when earlier turns have columns.
fn prompt(map: &mut Fields, tags: &Tags) -> Result<Option<Content>, String> {
    let key = ["prompt", "question"].into_iter().find(|key| filled(map, key));
    if let Some(key) = key {
        let prompt = content(map, key, tags)?;
        return Ok(Some(if has_lead(map) { turn(prompt, "user") } else { prompt }));
    }
    if !filled(map, "instruction") {
        return Ok(None);
    }
    let mut part = |key: &str| match map.shift_remove(key) {
        Some(Value::String(text)) => Ok(text),
        None | Some(Value::Null) => Ok(String::new()),
        Some(_) => Err(format!("`{key}` is not a text")),
    };
    let (instruction, input) = (part("instruction")?, part("input")?);
    if instruction.trim().is_empty() && input.trim().is_empty() {
        return Err("`instruction` is empty".to_owned());
    }
    let mut messages = take_lead(map, tags)?;
    messages.push(request(&instruction, &input));
    Ok(Some(Content::Messages(messages)))
}

/// A column with a text of several words, which may be the prompt.
fn sentence(map: &Fields) -> Option<&str> {
    let of_words =
        |value: &Value| value.as_str().is_some_and(|text| text.trim().contains(char::is_whitespace));
    map.iter().find(|(_, value)| of_words(value)).map(|(name, _)| name.as_str())
}

/// A completion that is not empty.
fn completion(map: &mut Fields, key: &str, tags: &Tags) -> Result<Content, String> {
    let completion = content(map, key, tags)?;
    match &completion {
        Content::Messages(messages) if messages.iter().all(Message::is_empty) => {
            Err(format!("`{key}` is empty"))
        }
        _ => Ok(completion),
    }
}

/// Refuses completions with a message that is not to be trained.
fn require_trained(completions: &[&Content]) -> Result<(), String> {
    let untrained = |content: &&Content| match content {
        Content::Messages(messages) => messages.iter().any(|message| !message.is_trained()),
        Content::Text(_) => false,
    };
    if completions.iter().any(untrained) {
        return Err(
            "a message of an answer is not to be trained (`weight`, `train`); an answer is compared \
             whole"
                .to_owned(),
        );
    }
    Ok(())
}

/// Whether the conversation of the row equals `chosen`.
fn repeats_chosen(map: &Fields, chosen: &Content, tags: &Tags) -> bool {
    let Content::Messages(chosen) = chosen else { return false };
    let mut copy = map.clone();
    take_messages(&mut copy, tags).is_ok_and(|messages| messages == *chosen)
}

fn is_repeated(map: &Fields, key: &str, prompt: &Content, chosen: &Content, tags: &Tags) -> bool {
    let (Content::Messages(prompt), Content::Messages(chosen)) = (prompt, chosen) else { return false };
    let Some(value) = map.get(key) else { return false };
    let mut copy = Map::from_iter([(key.to_owned(), value.clone())]);
    let whole = [&prompt[..], chosen].concat();
    // The system prompt of a column is not among these messages.
    take_messages(&mut copy, tags).is_ok_and(|messages| {
        whole.ends_with(&messages) || prompt.ends_with(&messages) || whole.starts_with(&messages)
    })
}

/// Removes the prompt from completions that repeat it.
fn with_prompt(
    prompt: Content,
    chosen: Content,
    rejected: Content,
) -> Result<(Content, Content, Content), String> {
    match (prompt, chosen, rejected) {
        (Content::Text(prompt), Content::Text(chosen), Content::Text(rejected)) => {
            let (chosen, rejected) = match (chosen.strip_prefix(&prompt), rejected.strip_prefix(&prompt)) {
                // A prompt of one word may begin both by chance.
                (Some(a), Some(b)) if prompt.trim().contains(char::is_whitespace) && a != b => {
                    if a.trim().is_empty() || b.trim().is_empty() {
                        return Err("an answer only repeats `prompt`".to_owned());
                    }
                    (a.to_owned(), b.to_owned())
                }
                _ => (chosen, rejected),
            };
            Ok((Content::Text(prompt), Content::Text(chosen), Content::Text(rejected)))
        }
        // A text prompt beside whole conversations, which hold it.
        (Content::Text(prompt), Content::Messages(chosen), Content::Messages(rejected))
            if begins_with_prompt(&chosen) && begins_with_prompt(&rejected) =>
        {
            let (extracted, chosen, rejected) =
                without_prompt(Content::Messages(chosen), Content::Messages(rejected))?;
            let Content::Messages(messages) = &extracted else { return Ok((extracted, chosen, rejected)) };
            if !messages.iter().filter_map(Message::text).any(|text| text.trim() == prompt.trim()) {
                return Err(
                    "`prompt` is not among the messages that `chosen` and `rejected` begin with".to_owned()
                );
            }
            Ok((extracted, chosen, rejected))
        }
        (prompt, chosen, rejected) => {
            let (prompt, [chosen, rejected]) = same_kind(prompt, [chosen, rejected])?;
            match (prompt, chosen, rejected) {
                (Content::Messages(prompt), Content::Messages(chosen), Content::Messages(rejected)) => {
                    let (a, b) = (rest(&prompt, &chosen), rest(&prompt, &rejected));
                    let (chosen, rejected) = match (a, b) {
                        (Some(a), Some(b)) => (a.to_vec(), b.to_vec()),
                        (None, None) => (chosen, rejected),
                        _ => {
                            return Err(
                                "one of `chosen` and `rejected` begins with `prompt`, the other does not"
                                    .to_owned(),
                            );
                        }
                    };
                    Ok((Content::Messages(prompt), Content::Messages(chosen), Content::Messages(rejected)))
                }
                texts => Ok(texts),
            }
        }
    }
}

fn begins_with_prompt(messages: &[Message]) -> bool {
    messages.first().is_some_and(|first| first.role() != "assistant")
}

/// The messages after the prompt, in a conversation that begins with it.
fn rest<'a>(prompt: &[Message], whole: &'a [Message]) -> Option<&'a [Message]> {
    whole.strip_prefix(prompt).filter(|rest| !rest.is_empty())
}

/// Splits the common beginning, the prompt, off two texts or conversations.
fn without_prompt(chosen: Content, rejected: Content) -> Result<(Content, Content, Content), String> {
    let nothing = || {
        "`prompt` is missing, and `chosen` and `rejected` have no common beginning to take for it".to_owned()
    };
    match (chosen, rejected) {
        (Content::Text(chosen), Content::Text(rejected)) => {
            let (a, b): (Vec<char>, Vec<char>) = (chosen.chars().collect(), rejected.chars().collect());
            let mut at = common(&a, &b);
            // A space between prompt and completion belongs to the completion.
            if at > 0 && a[at - 1] == ' ' && a[at] != b[at] {
                at -= 1;
            }
            let part = |chars: &[char]| Content::Text(chars.iter().collect());
            let prompt: String = a[..at].iter().collect();
            if prompt.trim().is_empty() {
                return Err(nothing());
            }
            Ok((Content::Text(prompt), part(&a[at..]), part(&b[at..])))
        }
        (Content::Messages(mut chosen), Content::Messages(mut rejected)) => {
            let at = common(&chosen, &rejected);
            if at == 0 {
                return Err(nothing());
            }
            let prompt = chosen.drain(..at).collect();
            rejected.drain(..at);
            Ok((Content::Messages(prompt), Content::Messages(chosen), Content::Messages(rejected)))
        }
        _ => Err("`chosen` and `rejected` must both be texts or both be lists of messages".to_owned()),
    }
}

/// Length of the common beginning. At least one element is left to each of the two.
fn common<T: PartialEq>(a: &[T], b: &[T]) -> usize {
    let shorter = a.len().min(b.len());
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    if same == shorter { shorter.saturating_sub(1) } else { same }
}
