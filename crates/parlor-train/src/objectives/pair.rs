//! A pair of completions as a loss sees it: per-token log-probabilities, and the derivative by them.

/// Log-probabilities of one completion's tokens.
#[derive(Clone, Copy, Debug)]
pub struct CompletionLogps<'a> {
    /// `[tokens]`: those of the model that is trained.
    pub logp: &'a [f32],
    /// `[tokens]`: those of the reference; empty when there is none, which counts as zeros.
    pub reference: &'a [f32],
}

impl CompletionLogps<'_> {
    /// Number of tokens, at least 1.
    pub fn tokens(&self) -> f64 {
        self.logp.len().max(1) as f64
    }

    /// Log-probability of the completion.
    pub fn sum(&self) -> f64 {
        sum(self.logp)
    }

    /// Mean log-probability of its tokens.
    pub fn mean(&self) -> f64 {
        self.sum() / self.tokens()
    }

    /// Log-probability over that of the reference.
    pub fn ratio(&self) -> f64 {
        self.sum() - sum(self.reference)
    }
}

fn sum(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value)).sum()
}

/// One pair.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// `[tokens]`: log-probabilities of the prompt's tokens but the first; empty for losses that do not ask for them.
    pub prompt: &'a [f32],
    /// The better completion.
    pub chosen: CompletionLogps<'a>,
    /// The worse completion.
    pub rejected: CompletionLogps<'a>,
}

/// The loss of one pair. Every token of a part has the same derivative.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PairLoss {
    /// The loss.
    pub value: f64,
    /// Its derivative by each log-probability of the prompt.
    pub d_prompt: f64,
    /// By each of the better completion.
    pub d_chosen: f64,
    /// By each of the worse completion.
    pub d_rejected: f64,
}
