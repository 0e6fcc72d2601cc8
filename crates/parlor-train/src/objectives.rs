//! The objectives of this build, one per file.

mod cross_entropy;

pub use cross_entropy::CrossEntropy;
