//! Chat templates: finding them, compiling them, and rendering messages.

mod chat_template;
mod error;
mod families;
mod generation_tags;
mod jinja;
mod rendered;
mod source;

pub use chat_template::ChatTemplate;
pub use error::TemplateError;
pub(crate) use families::untrained_prompt;
pub(crate) use jinja::MessagePart;
pub(crate) use rendered::RenderedParts;
pub use rendered::{RenderOptions, Rendered};
pub use source::NamedTemplates;
