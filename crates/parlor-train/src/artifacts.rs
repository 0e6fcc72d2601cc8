//! Tokenizer and model artifacts: everything of a model but its decoder, and the adapter that is trained.

mod adapter;
mod model;
mod template_date;
mod text;

pub(crate) use adapter::attach;
pub use model::ModelArtifacts;
pub(crate) use template_date::TEMPLATE_DATE;
pub use template_date::trained_date;
pub use text::TextArtifacts;
