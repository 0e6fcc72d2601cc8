//! `parlor train`: trains as configured, shows progress, and shuts down in order.

use std::path::PathBuf;
use std::sync::Arc;

use parlor::configuration::SaveMode;
use parlor::train::distributed::{Collective, setup_distributed_training};
use parlor::train::{
    Fix, Flow, Outcome, Run, Start, TrainError, TrainEvent, TrainHooks, TrainRequest, TrainSummary,
};

use crate::cli::TrainArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::interrupt::{self, OnInterrupt, STOP};
use crate::model::max_length;
use crate::output::note;
use crate::progress::{Progress, grouped, steps_text};
use crate::ranks;
use crate::sampler::sample_generator;

const STOPPING: &str = "\nFinishing this step and saving. Ctrl-C again stops at once.";

pub(super) fn run(context: &Context, args: &TrainArgs) -> Result<(), Failure> {
    let collective = setup_distributed_training(ranks::launch().as_ref())?;
    train(context, args, &collective).map_err(|failure| ranks::give_up(failure, &*collective))
}

fn train(context: &Context, args: &TrainArgs, collective: &Arc<dyn Collective>) -> Result<(), Failure> {
    interrupt::save_on_request();
    let start = match args.resume.as_deref() {
        None if args.overwrite => Start::Overwrite,
        None => Start::New,
        Some("") => Start::Resume,
        Some(directory) => Start::ResumeFrom(PathBuf::from(directory)),
    };
    let asked = Asked { start, max_steps: args.max_steps, collective };
    let leads = collective.rank() == 0;
    let shown = if leads { Visibility::All } else { Visibility::Warnings };
    let progress = progress(context, shown);
    let prepare = |request| Run::prepare_observed(request, &mut |event| progress.event(&event));
    let fitted = || match prepare(request(context, &asked)?) {
        Err(TrainError::TooLarge(refused)) if args.fit && !refused.fixes.is_empty() => {
            let settings = refused.fixes.first().map(Fix::settings).unwrap_or_default();
            note(&format!("the run does not fit into memory as it is; taking {}", settings.join(" ")));
            let request = request(&context.with_settings(settings), &asked)?;
            prepare(request).map_err(|error| context.run_failure(error))
        }
        result => result.map_err(|error| context.run_failure(error)),
    };
    let run = fitted();
    progress.finish();
    let run = run?;
    if leads {
        run.notes().iter().for_each(|sentence| note(sentence));
    }
    let summary = watch(context, run, shown, &mut |_| {})?;
    let interrupted = summary.outcome == Outcome::Interrupted;
    if !leads {
        return if interrupted { Err(Failure::interrupted()) } else { Ok(()) };
    }
    context.output.result(&summary, || text(&summary))?;
    if interrupted {
        note(&format!(
            "interrupted after step {}; `parlor train --resume` with the same config goes on",
            summary.steps
        ));
        return Err(Failure::interrupted());
    }
    Ok(())
}

/// Options besides the configuration.
pub(super) struct Asked<'a> {
    pub(super) start: Start,
    pub(super) max_steps: Option<u64>,
    pub(super) collective: &'a Arc<dyn Collective>,
}

/// The run that the configuration describes.
pub(super) fn request(context: &Context, asked: &Asked<'_>) -> Result<TrainRequest, Failure> {
    let config = context.config()?;
    // Configured evaluation data must exist; the default path may be missing.
    let eval_data_path =
        context.chosen("data.eval_data_path")?.then(|| PathBuf::from(&config.data.eval_data_path));
    Ok(TrainRequest {
        training: config.training.clone(),
        model: config.model.clone(),
        max_length: max_length(context, &config.model)?,
        data: config.data.clone(),
        eval_data_path,
        start: asked.start.clone(),
        max_steps: asked.max_steps,
        monitoring: config.monitoring.clone(),
        resolved_config: context.manager()?.to_yaml(SaveMode::All),
        collective: Arc::clone(asked.collective),
    })
}

/// How much of a run is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Visibility {
    /// Progress.
    All,
    /// Warnings only: of a rank other than the one that shows progress.
    Warnings,
}

/// Runs with a progress display; Ctrl-C ends it in order. `also` gets every event.
pub(super) fn watch(
    context: &Context,
    run: Run,
    shown: Visibility,
    also: &mut dyn FnMut(&TrainEvent),
) -> Result<TrainSummary, Failure> {
    interrupt::watch(OnInterrupt::Finish(STOPPING));
    let progress = progress(context, shown);
    let samples = sample_generator(&run);
    let mut observer = |event| {
        progress.event(&event);
        also(&event);
        if interrupt::take_save() { Flow::Save } else { Flow::Continue }
    };
    let result = run.train(TrainHooks { observer: &mut observer, stop: &STOP, samples });
    progress.finish();
    Ok(result?)
}

fn progress(context: &Context, shown: Visibility) -> Progress {
    Progress::new(context.global.quiet || shown == Visibility::Warnings)
}

fn text(summary: &TrainSummary) -> String {
    let ended = match summary.outcome {
        Outcome::Completed => "trained",
        Outcome::StoppedEarly => "trained (stopped early: the evaluation loss no longer falls)",
        Outcome::Interrupted => "interrupted; saved",
    };
    let mut out = format!("{ended}: {}\n", summary.model_dir.display());
    out.push_str(&format!(
        "{}, {:.1} s, {} tokens ({} tokens/s), loss {:.4}",
        steps_text(summary.steps),
        summary.seconds,
        grouped(summary.tokens),
        grouped(summary.tokens_per_second.round() as u64),
        summary.train_loss
    ));
    if summary.model_step != summary.steps {
        out.push_str(&format!(", the model is that of step {}", grouped(summary.model_step)));
    }
    if let Some(loss) = summary.eval_loss {
        out.push_str(&format!(", evaluation loss {loss:.4}"));
    }
    out.push('\n');
    if summary.outcome != Outcome::Interrupted {
        out.push_str(&format!("talk with it: parlor chat -m {}\n", summary.model_dir.display()));
    }
    out
}
