//! `parlor data inspect`: rows as training would see them, with trained tokens marked or coloured.

use std::path::Path;

use parlor::text::{DataReport, Dataset, SourcedRow, SpecialTokens, Tokenizer, read_with};
use serde_json::{Value, json};

use super::encode::{EncodedRow, Sequence, encode_rows, text_model};
use super::report::text;
use super::used::used;
use crate::cli::{ModelArgs, TemplateArgs};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{self, Colours};
use crate::progress::grouped;

/// What is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// The summary of all rows.
    Summary,
    /// The summary and the first rows.
    Rows,
}

pub(super) fn run(
    context: &Context,
    path: &Path,
    args: &ModelArgs,
    template: &TemplateArgs,
    count: usize,
    shown: Detail,
) -> Result<(), Failure> {
    let config = context.config()?;
    let Dataset { rows, mut report } = read_with(path, &config.data.read_options())?;
    let side = text_model(context, args, template)?;
    let (encoded, findings) = encode_rows(&config, &rows, &side, &mut report)?;
    let limit = config.data.max_length;
    if context.output.is_json() {
        let mut value = value(&report, &encoded, limit, &rows[..count.min(rows.len())]);
        value["findings"] = json!(findings);
        value["template_date"] = json!(side.template_date());
        return output::json(&value);
    }
    let mut out = text(&report);
    let (total, trained) = totals(&encoded);
    out.push_str(&format!(
        "{} examples, {} tokens, {} of them trained ({:.0}%)\n",
        grouped(encoded.len() as u64),
        grouped(total as u64),
        grouped(trained as u64),
        100.0 * trained as f64 / total.max(1) as f64
    ));
    let long = encoded.iter().filter(|row| row.tokens() > limit).count();
    if long > 0 {
        out.push_str(&format!("{} rows are longer than data.max_length ({limit})\n", grouped(long as u64)));
    }
    let left_out = rows.len().saturating_sub(encoded.len());
    if left_out > 0 {
        out.push_str(&format!("{left_out} rows are left out: no token would be trained\n"));
    }
    for sentence in findings.sentences() {
        out.push_str(&format!("{sentence}\n"));
    }
    if let Some(date) = side.template_date() {
        out.push_str(&format!(
            "the chat template reads the date: {date} here, in a run the day on which it began\n"
        ));
    }
    if shown == Detail::Summary {
        return output::line(&out);
    }
    let colours = Colours::of_stdout();
    let how = if colours == Colours::On { "coloured" } else { "in «»" };
    for row in encoded.iter().take(count) {
        out.push_str(&format!("\n{}, {} tokens (trained parts are {how})\n", row.source, row.tokens()));
        if let Some(sourced) = rows.iter().find(|sourced| sourced.source == row.source) {
            out.push_str(&format!("made of {}\n", used(sourced).join(", ")));
        }
        for part in &row.parts {
            if !part.name.is_empty() {
                out.push_str(&format!("{}: ", part.name));
            }
            out.push_str(&marked(part, &side.tokenizer, colours)?);
            out.push('\n');
        }
    }
    output::line(&out)
}

fn totals(encoded: &[EncodedRow]) -> (usize, usize) {
    (encoded.iter().map(EncodedRow::tokens).sum(), encoded.iter().map(EncodedRow::trained).sum())
}

const TRAINED: &str = "\u{1b}[32m";
const PARTLY: &str = "\u{1b}[33m";
const PLAIN: &str = "\u{1b}[0m";

/// The text of a sequence, with trained tokens in colour (green; yellow for a weight below 1) or between «».
fn marked(part: &Sequence, tokenizer: &Tokenizer, colours: Colours) -> Result<String, Failure> {
    let mut out = String::new();
    let mut start = 0;
    while start < part.ids.len() {
        let weight = part.weights[start];
        let run = part.weights[start..].iter().take_while(|&&other| other == weight).count();
        let text = tokenizer.decode(&part.ids[start..start + run], SpecialTokens::Include)?;
        out.push_str(&match (weight > 0.0, colours) {
            (false, _) => text,
            (true, Colours::Off) => format!("«{text}»"),
            (true, Colours::On) => {
                let colour = if weight < 1.0 { PARTLY } else { TRAINED };
                // A terminal may reset colours at the end of a line.
                let lines: Vec<String> =
                    text.split('\n').map(|line| format!("{colour}{line}{PLAIN}")).collect();
                lines.join("\n")
            }
        });
        start += run;
    }
    Ok(out)
}

fn value(report: &DataReport, encoded: &[EncodedRow], limit: usize, rows: &[SourcedRow]) -> Value {
    let (total, trained) = totals(encoded);
    let made_of = |sourced: &SourcedRow| {
        let (source, kind) = (&sourced.source, sourced.row.kind());
        json!({ "file": source.file.as_ref(), "line": source.line, "kind": kind, "made_of": used(sourced) })
    };
    json!({
        "files": report.files,
        "rows": report.rows,
        "kinds": report.kinds,
        "problem_count": report.problem_count,
        "problems": report.problems,
        "warnings": report.warnings,
        "unused": report.unused,
        "ignored": report.ignored,
        "trained_tokens": trained,
        "total_tokens": total,
        "examples": encoded.len(),
        "longer_than_max_length": encoded.iter().filter(|row| row.tokens() > limit).count(),
        "first_rows": rows.iter().map(made_of).collect::<Vec<_>>(),
        "untrained": report.rows.saturating_sub(encoded.len()),
    })
}
