//! Rows with judged answers: two answers of which one is better, or one answer with a verdict.
//!
//! Shapes and the rule for rows without a prompt are TRL's (1.16, `extract_prompt` and the dataset formats of its
//! documentation): what `chosen` and `rejected` begin with alike is the prompt.

use serde_json::{Map, Value};

use super::row::{Content, Row, UNLIKE, content};
use crate::chat::Message;
use crate::dataset_config::Tags;

/// `prompt`, `chosen`, `rejected`; or without `prompt`.
pub(super) fn preference(map: &mut Map<String, Value>, tags: &Tags) -> Result<Row, String> {
    let prompt = if map.contains_key("prompt") { Some(content(map, "prompt", tags)?) } else { None };
    let (chosen, rejected) = (answer(map, "chosen", tags)?, answer(map, "rejected", tags)?);
    if chosen == rejected {
        return Err("`chosen` and `rejected` are the same, so there is nothing to prefer".to_owned());
    }
    let (prompt, chosen, rejected) = match prompt {
        Some(prompt) => (prompt, chosen, rejected),
        None => without_prompt(chosen, rejected)?,
    };
    let texts = [&prompt, &chosen, &rejected].map(|content| matches!(content, Content::Text(_)));
    if texts != [texts[0]; 3] {
        return Err(
            "`prompt`, `chosen` and `rejected` must all be texts or all be lists of messages".to_owned()
        );
    }
    Ok(Row::Preference { prompt, chosen, rejected })
}

/// What `label` says, when it is a verdict.
pub(super) fn verdict(map: &Map<String, Value>) -> Option<bool> {
    match map.get("label")? {
        Value::Bool(label) => Some(*label),
        Value::Number(label) => match label.as_u64() {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        },
        _ => None,
    }
}

/// `prompt`, `completion`, and the verdict.
pub(super) fn unpaired(map: &mut Map<String, Value>, tags: &Tags) -> Result<Row, String> {
    let desirable = verdict(map).ok_or_else(|| match map.get("label") {
        Some(_) => "`label` is neither true nor false, 1 nor 0",
        None => "`label` is missing",
    })?;
    let (prompt, completion) = (content(map, "prompt", tags)?, answer(map, "completion", tags)?);
    match (&prompt, &completion) {
        (Content::Text(_), Content::Text(_)) | (Content::Messages(_), Content::Messages(_)) => {
            Ok(Row::Unpaired { prompt, completion, desirable })
        }
        _ => Err(UNLIKE.to_owned()),
    }
}

/// An answer that says something.
fn answer(map: &mut Map<String, Value>, key: &str, tags: &Tags) -> Result<Content, String> {
    let answer = content(map, key, tags)?;
    match &answer {
        Content::Messages(messages) if messages.iter().all(Message::is_empty) => {
            Err(format!("`{key}` is empty"))
        }
        _ => Ok(answer),
    }
}

/// Takes the common beginning off two whole texts or conversations.
fn without_prompt(chosen: Content, rejected: Content) -> Result<(Content, Content, Content), String> {
    let nothing = || {
        "`prompt` is missing, and `chosen` and `rejected` have no common beginning to take for it".to_owned()
    };
    match (chosen, rejected) {
        (Content::Text(chosen), Content::Text(rejected)) => {
            let (a, b): (Vec<char>, Vec<char>) = (chosen.chars().collect(), rejected.chars().collect());
            let mut at = common(&a, &b);
            // A space between prompt and answers is the answers' own.
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

/// Length of the common beginning; where one is the beginning of the other, its last element is left to the answers.
fn common<T: PartialEq>(a: &[T], b: &[T]) -> usize {
    let shorter = a.len().min(b.len());
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    if same == shorter { shorter.saturating_sub(1) } else { same }
}
