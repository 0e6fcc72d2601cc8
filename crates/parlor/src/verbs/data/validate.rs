//! `parlor data validate`: every problem with its place, and statistics of the rows.

use std::path::Path;

use parlor::text::{DataError, DataReport, Dataset, Duplicate, Lengths, characters, duplicates, read_with};
use serde_json::json;

use super::encode::{encode_rows, text_model};
use super::report::{listed, text};
use crate::cli::{ModelArgs, TemplateArgs};
use crate::context::Context;
use crate::failure::Failure;
use crate::progress::grouped;

/// Statistics that need a tokenizer.
struct Tokens {
    total: usize,
    trained: usize,
    lengths: Option<Lengths>,
    too_long: usize,
}

pub(super) fn run(context: &Context, path: &Path, args: &ModelArgs) -> Result<(), Failure> {
    let config = context.config()?;
    let Dataset { rows, mut report } = match read_with(path, &config.data.read_options()) {
        Ok(dataset) => dataset,
        // That no row is usable is a result of this verb, not a failure.
        Err(DataError::Empty { problems, .. }) if !problems.is_empty() => {
            let report =
                DataReport { files: 1, problem_count: problems.len(), problems, ..DataReport::default() };
            Dataset { report, ..Dataset::default() }
        }
        Err(error) => return Err(error.into()),
    };
    let tokens = if args.model.is_some() && !rows.is_empty() {
        let side = text_model(context, args, &TemplateArgs::default())?;
        let (encoded, _) = encode_rows(&config, &rows, &side, &mut report)?;
        let lengths: Vec<usize> = encoded.iter().map(|row| row.tokens()).collect();
        Some(Tokens {
            total: lengths.iter().sum(),
            trained: encoded.iter().map(|row| row.trained()).sum(),
            too_long: lengths.iter().filter(|&&length| length > config.data.max_length).count(),
            lengths: Lengths::of(lengths),
        })
    } else {
        None
    };
    let lengths = Lengths::of(rows.iter().map(|row| characters(&row.row)).collect());
    let same = duplicates(&rows);
    let shown = |found: &Duplicate| json!({ "row": found.row.to_string(), "first": found.first.to_string() });
    let value = json!({
        "files": report.files,
        "rows": report.rows,
        "kinds": report.kinds,
        "problem_count": report.problem_count,
        "problems": report.problems,
        "warnings": report.warnings,
        "unused": report.unused,
        "ignored": report.ignored,
        "duplicate_count": same.len(),
        "duplicates": same.iter().take(100).map(shown).collect::<Vec<_>>(),
        "characters": lengths,
        "tokens": tokens.as_ref().and_then(|tokens| tokens.lengths.clone()),
        "longer_than_max_length": tokens.as_ref().map(|tokens| tokens.too_long),
        "trained_tokens": tokens.as_ref().map(|tokens| tokens.trained),
        "total_tokens": tokens.as_ref().map(|tokens| tokens.total),
    });
    let words = || {
        let mut out = text(&report);
        match &tokens {
            Some(tokens) => {
                if let Some(lengths) = &tokens.lengths {
                    histogram(&mut out, "tokens", lengths);
                }
                out.push_str(&format!(
                    "{} tokens, {} of them trained ({:.0}%)\n",
                    grouped(tokens.total as u64),
                    grouped(tokens.trained as u64),
                    100.0 * tokens.trained as f64 / tokens.total.max(1) as f64
                ));
                if tokens.too_long > 0 {
                    out.push_str(&format!(
                        "{} rows are longer than data.max_length ({}); data.on_long_row says what \
                         becomes of them\n",
                        grouped(tokens.too_long as u64),
                        config.data.max_length
                    ));
                }
            }
            None => {
                if let Some(lengths) = &lengths {
                    histogram(&mut out, "characters", lengths);
                }
            }
        }
        if !same.is_empty() {
            out.push_str(&format!("rows that repeat an earlier one: {}\n", grouped(same.len() as u64)));
            listed(
                &mut out,
                same.iter().map(|found| format!("{} as {}", found.row, found.first)),
                same.len(),
            );
        }
        out
    };
    context.output.result(&value, words)?;
    if report.problem_count == 0 { Ok(()) } else { Err(Failure::silent_input()) }
}

/// Longest bar.
const BAR: usize = 40;

fn histogram(out: &mut String, unit: &str, lengths: &Lengths) {
    out.push_str(&format!(
        "{unit} a row: {} to {}, half have at most {}, 95% at most {}\n",
        grouped(lengths.min as u64),
        grouped(lengths.max as u64),
        grouped(lengths.median as u64),
        grouped(lengths.p95 as u64)
    ));
    let most = lengths.histogram.iter().map(|(_, rows)| *rows).max().unwrap_or(1);
    for (from, rows) in &lengths.histogram {
        let bar = "#".repeat((rows * BAR).div_ceil(most));
        let to = if *from == 0 { 0 } else { from * 2 - 1 };
        out.push_str(&format!("  {from:>8} - {to:<8} {bar} {}\n", grouped(*rows as u64)));
    }
}
