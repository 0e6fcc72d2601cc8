//! The objectives of this build: each a file that lays examples out, and each loss on judged answers a file of its own.

mod cross_entropy;
mod hinge;
mod ipo;
mod kto;
mod logistic;
mod orpo;
mod pair;
mod preference;
mod prompted;
mod robust;
mod sigmoid;
mod simpo;
mod unpaired;

pub use cross_entropy::CrossEntropy;
pub use hinge::hinge_loss;
pub use ipo::ipo_loss;
pub use kto::{KtoWeights, kto_kl, kto_loss};
pub use orpo::{OrpoLoss, orpo_loss};
pub use pair::{CompletionLogps, Pair, PairLoss};
pub use preference::{Preference, PreferenceLoss, PreferenceSide};
pub use prompted::{CompletionBatch, CompletionPair, CompletionRows, PromptTokens, collate_completions};
pub use robust::robust_loss;
pub use sigmoid::sigmoid_loss;
pub use simpo::simpo_loss;
pub use unpaired::{LabeledCompletion, UnpairedPreference, UnpairedSide};
