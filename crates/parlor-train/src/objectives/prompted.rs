//! Prompts with two completions as a ragged batch that computes each prompt once.
//!
//! Of a prompt of `n` tokens the first `n - 1` are a segment of their own, and the parent of both completions. The last one
//! belongs to each completion's segment, where it predicts that completion's first token.

use std::ops::Range;

use parlor_model::{Batch, Context, Targets};
use parlor_text::RowSource;

/// A prompt with two completions.
#[derive(Clone, Debug, PartialEq)]
pub struct CompletionPair {
    /// `[tokens]` of the prompt.
    pub prompt: Vec<u32>,
    /// `[tokens]` of each completion.
    pub completions: [Vec<u32>; 2],
    /// The reference's log-probabilities of the first completion's tokens, then of the second's; empty without a reference.
    pub reference: Vec<f32>,
    /// The row it was made from.
    pub source: RowSource,
}

impl CompletionPair {
    /// Bytes that identify it; the reference is identified by its model.
    pub(super) fn fingerprint(&self, add: &mut dyn FnMut(&[u8])) {
        for part in [&self.prompt, &self.completions[0], &self.completions[1]] {
            add(&(part.len() as u64).to_le_bytes());
            for id in part {
                add(&id.to_le_bytes());
            }
        }
    }
}

/// Whether the prompt's own tokens have log-probabilities too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptTokens {
    /// No: the prompt is given.
    Given,
    /// Yes, all but the first.
    Trained,
}

/// Rows of a batch whose log-probabilities are those of an example's tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompletionRows {
    /// Of the prompt but its first token; empty when it is given.
    pub prompt: Range<usize>,
    /// Of each completion.
    pub completions: [Range<usize>; 2],
}

/// Examples as one batch.
#[derive(Clone, Debug, Default)]
pub struct CompletionBatch {
    /// The tokens.
    pub batch: Batch,
    /// What each row predicts; each that does weighs 1.
    pub targets: Targets,
    /// Rows of each example, whatever they predict.
    pub rows: Vec<Range<usize>>,
    /// Which of them predict what.
    pub predicted: Vec<CompletionRows>,
}

impl CompletionBatch {
    /// Appends a segment whose first rows predict `predicted`; returns those rows.
    fn push(&mut self, ids: &[u32], start: usize, context: Context, predicted: &[u32]) -> Range<usize> {
        let first = self.batch.len();
        self.batch.push(ids, start, context);
        self.targets.ids.extend_from_slice(predicted);
        self.targets.ids.resize(self.batch.len(), 0);
        self.targets.weights.resize(first + predicted.len(), 1.0);
        self.targets.weights.resize(self.batch.len(), 0.0);
        first..first + predicted.len()
    }
}

/// Lays examples out.
pub fn collate_completions<'a>(
    examples: impl Iterator<Item = &'a CompletionPair>,
    prompt_tokens: PromptTokens,
) -> CompletionBatch {
    let mut laid_out = CompletionBatch::default();
    for CompletionPair { prompt, completions, .. } in examples {
        let start = laid_out.batch.len();
        let (shared, seam) = prompt.split_at(prompt.len().saturating_sub(1));
        let mut rows = CompletionRows { prompt: start..start, ..CompletionRows::default() };
        let mut context = Context::None;
        if !shared.is_empty() {
            let predicted = match prompt_tokens {
                PromptTokens::Given => &[],
                PromptTokens::Trained => &prompt[1..],
            };
            rows.prompt = laid_out.push(shared, 0, Context::None, predicted);
            context = Context::Parent(laid_out.batch.segments.len() - 1);
        }
        for (completion, rows) in completions.iter().zip(&mut rows.completions) {
            let own = [seam, completion].concat();
            *rows = laid_out.push(&own, shared.len(), context, own.get(1..).unwrap_or_default());
        }
        laid_out.rows.push(start..laid_out.batch.len());
        laid_out.predicted.push(rows);
    }
    laid_out
}
