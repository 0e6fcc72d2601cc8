//! Which rows are trained on, and in what order: mixtures, the evaluation split, shuffling.

mod mixture;
mod shuffle;
mod split;

pub use mixture::mix;
pub use shuffle::{Cursor, ShuffleBuffer, epoch_order};
pub use split::{TooFewRows, eval_rows, split};
