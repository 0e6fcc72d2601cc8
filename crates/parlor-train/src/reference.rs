//! The reference model that preference losses measure against: which one it is, and its log-probabilities.

mod cache;
mod log_probabilities;
mod model;

pub(crate) use cache::REFERENCE;
pub(crate) use log_probabilities::{Reference, ReferencePasses};
pub(crate) use model::{ReferenceSetup, WEIGHTS};
