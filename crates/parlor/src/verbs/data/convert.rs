//! `parlor data convert`: rows of any format to JSON, in the shape asked for.

use std::path::Path;

use parlor::text::{ConvertTo, Dataset, OnBadRow, RowProblem, convert, read_with, write_rows};
use serde_json::json;

use super::report::text;
use crate::cli::Shape;
use crate::context::Context;
use crate::failure::Failure;
use crate::output;
use crate::progress::grouped;

impl From<Shape> for ConvertTo {
    fn from(shape: Shape) -> Self {
        match shape {
            Shape::Messages => ConvertTo::Messages,
            Shape::Conversations => ConvertTo::Conversations,
            Shape::Instruction => ConvertTo::Instruction,
            Shape::PromptCompletion => ConvertTo::PromptCompletion,
            Shape::Preference => ConvertTo::Preference,
            Shape::Unpaired => ConvertTo::Unpaired,
            Shape::Text => ConvertTo::Text,
        }
    }
}

pub(super) fn run(context: &Context, from: &Path, into: &Path, to: Option<Shape>) -> Result<(), Failure> {
    let config = context.config()?;
    let Dataset { rows, mut report } = read_with(from, &config.data.read_options())?;
    let to = to.map_or(ConvertTo::Same, ConvertTo::from);
    let mut converted = Vec::with_capacity(rows.len());
    for sourced in &rows {
        match convert(sourced, to) {
            Ok(rows) => converted.extend(rows),
            Err(message) => {
                let file = sourced.source.file.as_ref().clone();
                report.problem_count += 1;
                report.problems.push(RowProblem { file, line: sourced.source.line, message });
            }
        }
    }
    // Nothing is left out silently: the rest of a file is not that file.
    if report.problem_count > 0 && config.data.on_bad_row == OnBadRow::Error {
        return Err(Failure::input_help(
            format!(
                "{} holds rows that cannot be converted; nothing was written\n{}",
                from.display(),
                text(&report)
            ),
            "correct them, leave them out by `--set data.on_bad_row=skip`, or convert to another kind with `--to`",
        ));
    }
    for line in report.not_used_lines() {
        output::note(&format!("warning: {line}"));
    }
    let count = converted.len();
    let bytes = write_rows(into, converted.into_iter())
        .map_err(|cause| Failure::input(format!("{}: {cause}", into.display())))?;
    if report.problem_count > 0 {
        output::note(&format!("{} rows are left out:\n{}", report.problem_count, text(&report)));
    }
    if !context.output.is_json() {
        output::note(&format!("{} rows, {} bytes", grouped(count as u64), grouped(bytes)));
    }
    let value = json!({ "path": into, "rows": count, "bytes": bytes });
    context.output.result(&value, || into.display().to_string())
}
