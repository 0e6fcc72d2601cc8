//! Rows of text from the user's files: reading them, what is wrong with them, and converting them.
//!
//! The kinds of rows are those of TRL and of the tools that its users come from.

mod convert;
mod files;
mod formats;
mod intake;
mod problem;
mod read;
mod report;
mod rows;
mod write;

pub use convert::{ConvertTo, convert};
pub use intake::{BatchLimits, SourcedRow};
pub(crate) use problem::{KEPT_PROBLEMS, shown};
pub use problem::{RowProblem, RowSource};
pub use read::{Dataset, data_files, read, read_batches, read_with};
pub use report::{DataError, DataReport, UnusedColumns};
pub use rows::{
    Columns, Content, ReadOptions, Row, RowKind, Tags, TemplateInputs, bytes, characters, each_text,
};
pub use write::write_rows;
