//! Prompts with two completions as a ragged batch that computes each prompt once.
//!
//! The first `n - 1` of a prompt's `n` tokens are a segment of their own and the parent of both completions.
//! The last token belongs to each completion's segment, where it predicts that completion's first token.

use std::ops::Range;

use parlor_model::{Batch, Context, Targets};
use parlor_text::RowSource;

/// A prompt with two completions.
#[derive(Clone, Debug, PartialEq)]
pub struct CompletionPair {
    /// Ids of the prompt, `[tokens]`.
    pub prompt: Vec<u32>,
    /// Ids of each completion, `[tokens]`.
    pub completions: [Vec<u32>; 2],
    /// Reference log-probabilities of the first completion's tokens, then of the second's; empty without a
    /// reference.
    pub reference: Vec<f32>,
    /// The row that the pair was made from.
    pub source: RowSource,
}

impl CompletionPair {
    /// Adds the bytes that identify the pair. The reference is identified by its model.
    pub(super) fn fingerprint(&self, add: &mut dyn FnMut(&[u8])) {
        for part in [&self.prompt, &self.completions[0], &self.completions[1]] {
            add(&(part.len() as u64).to_le_bytes());
            for id in part {
                add(&id.to_le_bytes());
            }
        }
    }
}

/// Whether the tokens of the prompt are targets too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PromptTokens {
    /// No.
    Given,
    /// Yes, all but the first.
    Trained,
}

/// Rows of a batch that predict the tokens of one example.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CompletionRows {
    /// Rows that predict the prompt but its first token; empty unless the prompt is trained.
    pub(super) prompt: Range<usize>,
    /// Rows that predict each completion.
    pub(super) completions: [Range<usize>; 2],
}

/// Examples as one batch.
#[derive(Debug, Default)]
pub(super) struct CompletionBatch {
    pub(super) batch: Batch,
    /// Every target weighs 1.
    pub(super) targets: Targets,
    /// All rows of each example.
    pub(super) rows: Vec<Range<usize>>,
    /// The rows of each example that have targets.
    pub(super) predicted: Vec<CompletionRows>,
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

/// Lays examples out, each prompt once.
pub(super) fn collate_completions<'a>(
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
