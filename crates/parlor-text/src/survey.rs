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
        let digest: [u8; 32] = Sha256::digest(format!("{:?}", sourced.row)).into();
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
    let text = |text: &str| text.chars().count();
    let messages = |messages: &[Message]| -> usize {
        messages.iter().map(|message| message.text().map_or(0, text)).sum()
    };
    let content = |content: &Content| match content {
        Content::Text(whole) => text(whole),
        Content::Messages(list) => messages(list),
    };
    match row {
        Row::Messages { messages: list, .. } => messages(list),
        Row::Instruction { instruction, input, output } => text(instruction) + text(input) + text(output),
        Row::PromptCompletion { prompt, completion } | Row::Unpaired { prompt, completion, .. } => {
            content(prompt) + content(completion)
        }
        Row::Text(whole) => text(whole),
        Row::Preference { prompt, chosen, rejected } => content(prompt) + content(chosen) + content(rejected),
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
