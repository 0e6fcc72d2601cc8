//! What rows are like before anything is trained on them: how long, and which are the same.

use std::collections::HashMap;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::chat::Message;
use crate::datasets::{Content, Row, RowSource, SourcedRow};

/// A row that is the same as one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// The row.
    pub row: RowSource,
    /// The first that is like it.
    pub first: RowSource,
}

/// Rows that are the same as an earlier one, to the letter.
pub fn duplicates(rows: &[SourcedRow]) -> Vec<Duplicate> {
    // Digests instead of rows: a corpus does not stand in memory twice.
    let mut seen: HashMap<[u8; 32], &RowSource> = HashMap::with_capacity(rows.len());
    let mut found = Vec::new();
    for sourced in rows {
        let digest: [u8; 32] = Sha256::digest(format!("{:?}{:?}", sourced.row, sourced.inputs)).into();
        match seen.get(&digest) {
            Some(first) => {
                found.push(Duplicate { row: sourced.source.clone(), first: (*first).clone() });
            }
            None => _ = seen.insert(digest, &sourced.source),
        }
    }
    found
}

/// Characters of a row's texts, all its sides together.
pub fn characters(row: &Row) -> usize {
    let mut count = 0;
    each_text(row, &mut |text| count += text.chars().count());
    count
}

/// Bytes of a row's texts, all its sides together.
pub fn bytes(row: &Row) -> usize {
    let mut count = 0;
    each_text(row, &mut |text| count += text.len());
    count
}

/// Every text of a row, in order: what its tokenizer should know.
pub fn each_text(row: &Row, take: &mut dyn FnMut(&str)) {
    let messages = |messages: &[Message], take: &mut dyn FnMut(&str)| {
        messages.iter().filter_map(Message::text).for_each(take);
    };
    let content = |content: &Content, take: &mut dyn FnMut(&str)| match content {
        Content::Text(whole) => take(whole),
        Content::Messages(list) => messages(list, take),
    };
    match row {
        Row::Messages { messages: list } => messages(list, take),
        Row::Instruction { instruction, input, output, lead } => {
            messages(lead, take);
            [instruction, input, output].into_iter().for_each(|text| take(text));
        }
        Row::PromptCompletion { prompt, completion } | Row::Unpaired { prompt, completion, .. } => {
            [prompt, completion].into_iter().for_each(|side| content(side, take));
        }
        Row::Text(whole) => take(whole),
        Row::Preference { prompt, chosen, rejected } => {
            [prompt, chosen, rejected].into_iter().for_each(|side| content(side, take));
        }
    }
}

/// How long things are.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Lengths {
    /// The shortest.
    pub min: usize,
    /// The middle one.
    pub median: usize,
    /// The mean.
    pub mean: f64,
    /// That than which one in twenty is longer.
    pub p95: usize,
    /// The longest.
    pub max: usize,
    /// How many there are from each power of two to the next: the lower end, and the number.
    pub histogram: Vec<(usize, usize)>,
}

impl Lengths {
    /// Of these lengths; none of none.
    pub fn of(mut lengths: Vec<usize>) -> Option<Self> {
        lengths.sort_unstable();
        let (min, max) = (*lengths.first()?, *lengths.last()?);
        let at = |share: f64| lengths[((lengths.len() - 1) as f64 * share).round() as usize];
        let from = |length: usize| if length == 0 { 0 } else { 1 << length.ilog2() };
        let mut histogram: Vec<(usize, usize)> = Vec::new();
        for &length in &lengths {
            match histogram.last_mut() {
                Some((start, count)) if *start == from(length) => *count += 1,
                _ => histogram.push((from(length), 1)),
            }
        }
        let mean = lengths.iter().map(|&length| length as f64).sum::<f64>() / lengths.len() as f64;
        Some(Self { min, median: at(0.5), mean, p95: at(0.95), max, histogram })
    }
}
