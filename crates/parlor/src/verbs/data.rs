//! `parlor data`: what is in data files, what is wrong with them, and what training would see.

use std::path::Path;

use parlor::text::{DataError, DataReport, Dataset, EncodeOptions, EncodeReport, Example, Tokenizer, read};
use parlor::train::materials::{TextSide, encode_rows, train_on};
use serde_json::{Value, json};

use crate::cli::{DataVerb, ModelArgs};
use crate::context::Context;
use crate::failure::Failure;
use crate::output;
use crate::progress::grouped;

/// Problems shown as text; the count is of all, and `--json` has more.
const SHOWN: usize = 20;

pub(super) fn run(context: &Context, verb: &DataVerb) -> Result<(), Failure> {
    match verb {
        DataVerb::Validate { path } => validate(context, path),
        DataVerb::Inspect { path, model, rows } => inspect(context, path, model, *rows),
    }
}

fn validate(context: &Context, path: &Path) -> Result<(), Failure> {
    context.config()?;
    let report = match read(path) {
        Ok(dataset) => dataset.report,
        // No usable row is a result of this verb, with the reasons as its problems.
        Err(DataError::Empty { problems, .. }) if !problems.is_empty() => {
            DataReport { files: 1, problem_count: problems.len(), problems, ..DataReport::default() }
        }
        Err(error) => return Err(error.into()),
    };
    context.output.result(&value(&report, None), || text(&report))?;
    if report.problem_count == 0 { Ok(()) } else { Err(Failure::silent_input()) }
}

fn inspect(context: &Context, path: &Path, args: &ModelArgs, count: usize) -> Result<(), Failure> {
    let config = context.config()?;
    let Dataset { rows, report } = read(path)?;
    let side = crate::model::TextSide::read(context, args)?;
    let template = parlor::text::ChatTemplate::from_dir(&side.path, &side.tokenizer)?;
    let options = EncodeOptions {
        max_length: config.data.max_length,
        batch_size: config.data.batch_size,
        train_on: train_on(config.training.sft.train_on),
        on_long_row: config.data.on_long_row,
    };
    let text_side = TextSide { tokenizer: side.tokenizer, template };
    let threads = config.training.dataloader_num_workers;
    let (examples, encoded) =
        encode_rows(&rows, &text_side, config.training.training_type, &options, threads)?;
    if context.output.is_json() {
        return output::json(&value(&report, Some(&encoded)));
    }
    let mut out = text(&report);
    out.push_str(&format!(
        "{} examples, {} tokens, {} of them trained ({:.0}%)\n",
        grouped(encoded.examples as u64),
        grouped(encoded.total_tokens as u64),
        grouped(encoded.trained_tokens as u64),
        100.0 * encoded.trained_tokens as f64 / encoded.total_tokens.max(1) as f64
    ));
    if encoded.truncated > 0 {
        out.push_str(&format!("{} rows are cut at data.max_length\n", encoded.truncated));
    }
    if encoded.dropped > 0 {
        out.push_str(&format!("{} rows are left out: longer than data.max_length\n", encoded.dropped));
    }
    if encoded.untrained > 0 {
        out.push_str(&format!("{} rows are left out: no token would be trained\n", encoded.untrained));
    }
    for example in examples.iter().take(count) {
        out.push_str(&format!("\n{} (trained parts are in «»)\n", example.source));
        out.push_str(&marked(example, &text_side.tokenizer)?);
        out.push('\n');
    }
    output::line(&out)
}

/// An example's text, with «» around what is trained.
fn marked(example: &Example, tokenizer: &Tokenizer) -> Result<String, Failure> {
    let mut out = String::new();
    let mut start = 0;
    while start < example.ids.len() {
        let trained = example.weights[start] > 0.0;
        let run = example.weights[start..].iter().take_while(|&&weight| (weight > 0.0) == trained).count();
        let ids = &example.ids[start..start + run];
        let text = tokenizer.decode(ids, parlor::text::SpecialTokens::Include)?;
        out.push_str(&if trained { format!("«{text}»") } else { text });
        start += run;
    }
    Ok(out)
}

fn value(report: &DataReport, encoded: Option<&EncodeReport>) -> Value {
    let mut value = json!({
        "files": report.files,
        "rows": report.rows,
        "kinds": report.kinds,
        "problem_count": report.problem_count,
        "problems": report.problems,
        "ignored": report.ignored,
        "trained_tokens": null,
        "total_tokens": null,
    });
    if let Some(encoded) = encoded {
        value["trained_tokens"] = encoded.trained_tokens.into();
        value["total_tokens"] = encoded.total_tokens.into();
        value["examples"] = encoded.examples.into();
        value["truncated"] = encoded.truncated.into();
        value["dropped"] = encoded.dropped.into();
        value["untrained"] = encoded.untrained.into();
    }
    value
}

fn text(report: &DataReport) -> String {
    let kinds: Vec<String> =
        report.kinds.iter().map(|(kind, rows)| format!("{kind} ({})", grouped(*rows as u64))).collect();
    let mut out = format!("{} files, {} rows", report.files, grouped(report.rows as u64));
    if !kinds.is_empty() {
        out.push_str(&format!(": {}", kinds.join(", ")));
    }
    out.push('\n');
    if !report.ignored.is_empty() {
        out.push_str(&format!("{} files of other formats are left alone\n", report.ignored.len()));
    }
    if report.problem_count > 0 {
        out.push_str(&format!("{} problems:\n", report.problem_count));
        for problem in report.problems.iter().take(SHOWN) {
            out.push_str(&format!("  {problem}\n"));
        }
        if report.problem_count > SHOWN.min(report.problems.len()) {
            let more = report.problem_count - SHOWN.min(report.problems.len());
            out.push_str(&format!("  and {more} more\n"));
        }
    }
    out
}
