//! The objectives: cross-entropy, losses on preference pairs, and KTO. Each lays out its examples and
//! computes a loss from the log-probabilities of their targets.

mod completions;
mod cross_entropy;
mod kto;
mod pair_losses;
mod preference;

pub use completions::CompletionPair;
pub use cross_entropy::CrossEntropy;
pub use kto::{KtoWeights, LabeledCompletion, UnpairedPreference, UnpairedSide, kto_kl, kto_loss};
pub use pair_losses::{
    CompletionLogps, OrpoLoss, Pair, PairLoss, PreferenceLoss, hinge_loss, ipo_loss, orpo_loss, robust_loss,
    sigmoid_loss, simpo_loss,
};
pub use preference::{Preference, PreferenceSide};
