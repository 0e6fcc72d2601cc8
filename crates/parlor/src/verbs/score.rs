//! `parlor score`: the natural-log probability of each token, given those before it.

use std::path::Path;

use parlor::model::{Batch, Context as Place, LoadedModel, Targets, Workspace};
use parlor::text::SpecialTokens;
use serde::{Deserialize, Serialize};

use super::messages::read_file;
use crate::answer::check_ids;
use crate::cli::ScoreArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::model::{load, tokenizer};

/// Rows of logits in memory at a time for `--top`.
const TOP_ROWS: usize = 64;

#[derive(Debug, Serialize)]
struct Score {
    ids: Vec<u32>,
    logprobs: Vec<Option<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top: Option<Vec<Vec<Likely>>>,
}

#[derive(Debug, Serialize)]
struct Likely {
    id: u32,
    logprob: f32,
}

/// A row of `--file`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    ids: Option<Vec<u32>>,
    text: Option<String>,
}

pub(super) fn run(context: &Context, args: &ScoreArgs) -> Result<(), Failure> {
    let model = load(context, &args.model)?;
    let rows = rows(args, &model)?;
    let mut saved = Workspace::default();
    for ids in rows {
        let score = score(&model, ids, args.top, &mut saved)?;
        context.output.result(&score, || text(&score, &model))?;
    }
    Ok(())
}

/// The ids of every row. All are checked before the first is scored.
fn rows(args: &ScoreArgs, model: &LoadedModel) -> Result<Vec<Vec<u32>>, Failure> {
    let encode = |text: &str| -> Result<Vec<u32>, Failure> {
        Ok(tokenizer(model)?.encode(text, SpecialTokens::Include)?)
    };
    let check = |ids: Vec<u32>, place: &str| -> Result<Vec<u32>, Failure> {
        check_ids(&ids, model)?;
        let wrong = |why: String| Err(Failure::input(format!("{place}{why}")));
        if ids.is_empty() {
            return wrong("there is no token to score".to_owned());
        }
        if ids.len() > model.max_length {
            return wrong(format!("{} tokens, but the model takes at most {}", ids.len(), model.max_length));
        }
        Ok(ids)
    };
    if let Some(ids) = &args.what.ids {
        return Ok(vec![check(ids.clone(), "")?]);
    }
    if let Some(text) = &args.what.text {
        return Ok(vec![check(encode(text)?, "")?]);
    }
    let path = args.what.file.as_deref().unwrap_or(Path::new(""));
    let mut found = Vec::new();
    for (index, line) in read_file(path)?.split(|&byte| byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let place = format!("{}:{}: ", path.display(), index + 1);
        let wrong = |why: String| Failure::input(format!("{place}{why}"));
        let row: Row = serde_json::from_slice(line).map_err(|error| wrong(error.to_string()))?;
        let ids = match row {
            Row { ids: Some(ids), text: None } => ids,
            Row { ids: None, text: Some(text) } => encode(&text)?,
            _ => return Err(wrong("either `ids` or `text` was expected".to_owned())),
        };
        found.push(check(ids, &place)?);
    }
    Ok(found)
}

fn score(model: &LoadedModel, ids: Vec<u32>, top: usize, saved: &mut Workspace) -> Result<Score, Failure> {
    let failed = |error: parlor::model::DecoderError| Failure::failed(error.to_string());
    let mut batch = Batch::default();
    batch.push(&ids, 0, Place::None);
    let targets = Targets::next_token(&batch, &vec![1.0; ids.len()]);
    let logp = model.decoder.evaluate(&batch, &targets, saved).map_err(failed)?;
    if let Some(row) = logp.iter().take(ids.len() - 1).position(|value| !value.is_finite()) {
        return Err(Failure::failed(format!(
            "the log-probability of token {} at position {} is {}: {}",
            ids[row + 1],
            row + 1,
            logp[row],
            model.why_not_finite()
        )));
    }
    // Row t predicts token t + 1; the first token has no prediction.
    let mut logprobs = vec![None];
    logprobs.extend(logp.iter().take(ids.len() - 1).map(|&value| Some(value)));
    let top = if top == 0 {
        None
    } else {
        let mut all = vec![Vec::new()];
        let rows: Vec<usize> = (0..ids.len() - 1).collect();
        for rows in rows.chunks(TOP_ROWS) {
            let logits = model.decoder.logits(&batch, rows, None, saved).map_err(failed)?;
            let vocab = logits.len() / rows.len();
            all.extend(logits.chunks(vocab).map(|logits| most_likely(logits, top)));
        }
        Some(all)
    };
    Ok(Score { ids, logprobs, top })
}

/// The `count` most likely tokens, the most likely first; on a tie the lower id first.
fn most_likely(logits: &[f32], count: usize) -> Vec<Likely> {
    let max = logits.iter().fold(f32::NEG_INFINITY, |max, &logit| max.max(logit));
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - max).exp()).sum();
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    let logprob = |id: usize| (f64::from(logits[id] - max) - sum.ln()) as f32;
    order.into_iter().take(count).map(|id| Likely { id: id as u32, logprob: logprob(id) }).collect()
}

fn text(score: &Score, model: &LoadedModel) -> String {
    let name = |id: u32| model.tokenizer.as_ref().and_then(|t| t.token(id)).unwrap_or_default();
    let mut out = String::new();
    for (index, (id, logprob)) in score.ids.iter().zip(&score.logprobs).enumerate() {
        let shown = logprob.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
        out.push_str(&format!("{id:>8}  {shown:>10}  {}", name(*id)));
        for likely in score.top.as_ref().and_then(|top| top.get(index)).into_iter().flatten() {
            out.push_str(&format!("   {} {:.3}", name(likely.id), likely.logprob));
        }
        out.push('\n');
    }
    let known: Vec<f64> = score.logprobs.iter().flatten().map(|&value| f64::from(value)).collect();
    if !known.is_empty() {
        let loss = -known.iter().sum::<f64>() / known.len() as f64;
        out.push_str(&format!("mean loss {loss:.4}, perplexity {:.3}\n", loss.exp()));
    }
    out
}
