//! `parlor plan`: what `parlor train` would need, before anything is allocated.

use std::sync::Arc;

use indicatif::HumanBytes;
use parlor::kernels::parallel::threads;
use parlor::train::distributed::{Alone, Collective};
use parlor::train::{Fix, Forecast, MemoryForecast, RunPlan, Start, plan};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::train::{Asked, request};
use crate::cli::PlanArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::note;
use crate::progress::{grouped, steps_text};

/// What `--json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    device: &'static str,
    dtype: String,
    memory: Map<String, Value>,
    fits: bool,
    #[serde(flatten)]
    counts: Counts,
    seconds_estimate: f64,
    fixes: &'a [Fix],
}

#[derive(Serialize)]
struct Counts {
    examples: usize,
    tokens_per_epoch: u64,
    tokens_per_pass: usize,
    steps: u64,
    steps_per_epoch: u64,
}

pub(super) fn run(context: &Context, args: &PlanArgs) -> Result<(), Failure> {
    // The plan is for one machine; each rank of a run needs the same.
    let collective: Arc<dyn Collective> = Arc::new(Alone);
    let asked = Asked { start: Start::Overwrite, max_steps: args.max_steps, collective: &collective };
    let mut planned = plan(request(context, &asked)?).map_err(|error| context.run_failure(error))?;
    let mut changes = Vec::new();
    if args.fit
        && let Some(fix) = planned.fixes.first()
    {
        changes = fix.settings();
        planned = plan(request(&context.with_settings(changes.clone()), &asked)?)?;
    }
    for warning in &planned.warnings {
        note(&format!("warning: {warning}"));
    }
    let config = context.config()?;
    let dtype = match config.training.adapter() {
        Some(_) => json!(config.model.torch_dtype).as_str().unwrap_or_default().to_owned(),
        None => config.training.weights_dtype().name().to_owned(),
    };
    let RunPlan { forecast, seconds_estimate, fixes, .. } = &planned;
    let Forecast { memory, tokens_per_epoch, tokens_per_pass, examples, steps, steps_per_epoch } = *forecast;
    let printed = Printed {
        device: "cpu",
        dtype: dtype.clone(),
        memory: as_map(&memory),
        fits: memory.fits(),
        counts: Counts { examples, tokens_per_epoch, tokens_per_pass, steps, steps_per_epoch },
        seconds_estimate: *seconds_estimate,
        fixes,
    };
    context.output.result(&printed, || text(&planned, &dtype, &changes))
}

fn as_map(memory: &MemoryForecast) -> Map<String, Value> {
    match json!(memory) {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn text(planned: &RunPlan, dtype: &str, changes: &[String]) -> String {
    let RunPlan { forecast, seconds_estimate, fixes, .. } = planned;
    let Forecast { memory, tokens_per_epoch, tokens_per_pass, examples, steps, steps_per_epoch } = *forecast;
    let mut out = String::new();
    if !changes.is_empty() {
        out.push_str(&format!("with {}\n", changes.join(" ")));
    }
    out.push_str(&format!("cpu, {} threads, {dtype}\n\nmemory\n", threads::count()));
    for (name, bytes) in memory.categories() {
        if bytes > 0 {
            out.push_str(&row(name, bytes));
        }
    }
    out.push_str(&row("in all", memory.total));
    if let Some(available) = memory.available {
        out.push_str(&row("available", available));
    }
    out.push_str(&format!(
        "\n{} examples, {} tokens an epoch, at most {} in a pass\n{}, {} an epoch\nabout {}\n",
        grouped(examples as u64),
        grouped(tokens_per_epoch),
        grouped(tokens_per_pass as u64),
        steps_text(steps),
        grouped(steps_per_epoch),
        duration(*seconds_estimate)
    ));
    if memory.fits() {
        return out;
    }
    out.push_str("\nit does not fit into memory; what would make it fit:\n");
    for (index, fix) in fixes.iter().enumerate() {
        out.push_str(&format!(
            "  {}. {}\n     {}: {}\n",
            index + 1,
            fix.settings().join(" "),
            size(fix.memory.total),
            fix.costs.join("; ")
        ));
    }
    if fixes.is_empty() {
        out.push_str("  no change that is known here; take a smaller model, or shorter rows\n");
    }
    out
}

fn row(name: &str, bytes: u64) -> String {
    format!("  {name:<12}{:>10}\n", size(bytes))
}

/// A size in the format of `info`.
fn size(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} seconds"),
        s if s < 5400.0 => format!("{:.0} minutes", s / 60.0),
        s => format!("{:.1} hours", s / 3600.0),
    }
}
