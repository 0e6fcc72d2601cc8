//! Rows: their kinds, and how objects with named fields are parsed into them.

mod column_names;
mod columns;
mod content;
mod content_parts;
mod conversation;
mod label;
mod lead;
mod messages;
mod options;
mod parse;
mod preference;
mod row;
mod template_inputs;
mod texts;

pub(super) use column_names::{HISTORY, KNOWN_COLUMNS, SYSTEM};
pub use columns::{Columns, Tags};
pub use options::ReadOptions;
pub(super) use parse::{ParsedRow, parse};
pub use row::{Content, Row, RowKind};
pub use template_inputs::TemplateInputs;
pub use texts::{bytes, characters, each_text};
