//! Rewrites templates so that the operators that Python defines otherwise become calls.
//!
//! The engine's operators cannot be replaced: its `%` formats no text, its `~` writes floats as Rust does,
//! its `<` compares what Python refuses to compare, and its loops accept `None`. So a template is parsed by
//! the engine's own parser and written out again with calls of `builtins/operators.rs` in place of those
//! operators; lines stay where they are, for errors. The parser's tree is not a stable interface, which is
//! why the engine's version is pinned.

mod expressions;
mod statements;
mod writer;

use minijinja::Error;
use minijinja::machinery::parse;
use minijinja::syntax::SyntaxConfig;

pub(crate) use writer::MessageMarks;
use writer::Writer;

/// The template `source`, rewritten for an engine with default syntax and the functions of
/// `builtins/operators.rs`.
pub(crate) fn rewritten(source: &str, syntax: SyntaxConfig, marks: MessageMarks) -> Result<String, Error> {
    let tree = parse(source, "chat_template", syntax)?;
    let mut writer = Writer::new(source.len(), marks);
    writer.statement(&tree)?;
    Ok(writer.out)
}
