//! Statistics of rows: distributions of lengths, and duplicates.

use std::collections::HashMap;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::datasets::{RowSource, SourcedRow};

/// A row that equals an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// The row.
    pub row: RowSource,
    /// The first row that equals it.
    pub first: RowSource,
}

/// Rows that equal an earlier one exactly.
pub fn duplicates(rows: &[SourcedRow]) -> Vec<Duplicate> {
    // Digests instead of rows, so that the corpus is not in memory twice.
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

/// The distribution of some lengths.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Lengths {
    /// The shortest.
    pub min: usize,
    /// The median.
    pub median: usize,
    /// The mean.
    pub mean: f64,
    /// The 95th percentile.
    pub p95: usize,
    /// The longest.
    pub max: usize,
    /// Counts by powers of two: the lower end of a bin, and the number of lengths in it.
    pub histogram: Vec<(usize, usize)>,
}

impl Lengths {
    /// The distribution of `lengths`; none when there are none.
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
