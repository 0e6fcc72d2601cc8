//! `parlor quickstart`: the whole path in about two minutes, on the path that `train` and `chat` take. Data and
//! config are written to a directory, a small model is trained from nothing, measured, and asked.
//!
//! Leaves out: everything that makes a model good. It is a toy, and says so.

mod bundle;
mod pace;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parlor::Config;
use parlor::ConfigManager;
use parlor::configuration::{SaveMode, Sources};
use parlor::engine::SamplingOverrides;
use parlor::model::{LoadOptions, LoadedModel, MaxLength, load_directory};
use parlor::text::Message;
use parlor::train::{Outcome, Run, Start, TrainRequest, TrainSummary};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::train::{Visibility, watch};
use crate::answer::{answer, chat_prompt, sampling};
use crate::cli::QuickstartArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::note;

#[derive(Debug, Serialize)]
struct Summary {
    model_dir: PathBuf,
    steps: u64,
    train_seconds: f64,
    tokens_per_second: f64,
    eval_loss: Option<f64>,
    eval_perplexity: Option<f64>,
    samples: Vec<Sample>,
}

#[derive(Debug, Serialize)]
struct Sample {
    prompt: &'static str,
    answer: String,
}

pub(super) fn run(context: &Context, args: &QuickstartArgs) -> Result<(), Failure> {
    let directory = &args.dir;
    let say = |text: &str| {
        if !context.global.quiet {
            note(text);
        }
    };
    say(
        "Training a small chatbot from nothing. It is a toy: it knows the bundled dialogues and little else.",
    );
    refuse_finished(directory)?;
    bundle::write(&directory.join("data"))?;
    let config_path = directory.join("config.yaml");
    let write_config = |max_steps: Option<u64>| {
        parlor::files::atomic_file::write(&config_path, config_text(directory, max_steps).as_bytes())
            .map_err(|error| Failure::input(error.to_string()))
    };
    write_config(None)?;
    let load = || -> Result<ConfigManager<Config>, Failure> {
        // This directory's file alone: neither a config.yaml nor an environment for other work may apply.
        let sources = Sources {
            files: vec![config_path.clone()],
            set: context.global.set.clone(),
            ..Sources::default()
        };
        Ok(parlor::load_config(sources)?)
    };
    let mut manager = load()?;
    crate::logging::start(&context.global, manager.get().log_level);
    if let Some(seconds) = args.max_seconds {
        say("Measuring how fast this machine is.");
        let steps = pace::steps_within(request(&manager), seconds)?;
        write_config(Some(steps))?;
        manager = load()?;
    }
    let prepared = Run::prepare(request(&manager))?;
    let summary = watch(context, prepared, Visibility::All, &mut |_| {})?;
    if summary.outcome == Outcome::Interrupted {
        let config = config_path.display();
        note(&format!("interrupted; `parlor train -c {config} --resume` goes on"));
        return Err(Failure::interrupted());
    }
    prefer_likeliest(&summary.model_dir)?;
    let model = Arc::new(load_directory(&summary.model_dir, &LoadOptions::default())?);
    let params = sampling(
        &SamplingOverrides { max_tokens: Some(128), ..SamplingOverrides::default() },
        &model.generation,
    )?;
    let samples = samples(&model, &params)?;
    report(context, args, &summary, samples)?;
    if args.no_chat || context.output.is_json() {
        return Ok(());
    }
    super::chat::talk(context, &model, &params, &Map::new(), None)
}

fn request(manager: &ConfigManager<Config>) -> TrainRequest {
    let config = manager.get();
    TrainRequest {
        training: config.training.clone(),
        model: config.model.clone(),
        max_length: MaxLength::Model,
        data: config.data.clone(),
        eval_data_path: Some(PathBuf::from(&config.data.eval_data_path)),
        start: Start::New,
        max_steps: None,
        monitoring: config.monitoring.clone(),
        resolved_config: manager.to_yaml(SaveMode::All),
        collective: std::sync::Arc::new(parlor::train::distributed::Alone),
    }
}

/// A second quickstart in the same directory finds a model, or a run to resume.
fn refuse_finished(directory: &Path) -> Result<(), Failure> {
    let model = directory.join("model");
    let (shown, config) = (model.display(), directory.join("config.yaml"));
    if model.join("config.json").is_file() {
        return Err(Failure::input_help(
            format!("{shown} holds the model of an earlier quickstart"),
            format!("talk with it: `parlor chat -m {shown}`; or name another directory with `--dir`"),
        ));
    }
    if model.join("run.json").is_file() {
        return Err(Failure::input_help(
            format!("{shown} holds a quickstart that did not end"),
            format!(
                "go on with it: `parlor train -c {} --resume`; or name another directory with `--dir`",
                config.display()
            ),
        ));
    }
    Ok(())
}

/// The config that is written and trained with. `max_steps` replaces the epochs.
fn config_text(directory: &Path, max_steps: Option<u64>) -> String {
    let path = |name: &str| Value::from(directory.join(name).to_string_lossy().into_owned()).to_string();
    let length = match max_steps {
        Some(steps) => format!("    max_steps: {steps}           # what fits into --max-seconds\n"),
        None => String::new(),
    };
    format!(
        include_str!("config.yaml"),
        model = path("model"),
        train = path("data/train"),
        eval = path("data/eval"),
        length = length
    )
}

/// A model this small answers best by greedy decoding, so the directory's generation settings say so for
/// every program.
fn prefer_likeliest(model: &Path) -> Result<(), Failure> {
    let path = model.join("generation_config.json");
    let failed = |error: &dyn std::fmt::Display| Failure::failed(format!("{}: {error}", path.display()));
    let bytes = std::fs::read(&path).map_err(|error| failed(&error))?;
    let mut map: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|error| failed(&error))?;
    for name in ["temperature", "top_k", "top_p"] {
        map.remove(name);
    }
    map.insert("do_sample".to_owned(), json!(false));
    map.insert("max_new_tokens".to_owned(), json!(128));
    let text = format!("{:#}\n", Value::Object(map));
    parlor::files::atomic_file::write(&path, text.as_bytes()).map_err(|error| failed(&error))
}

fn samples(model: &LoadedModel, params: &parlor::engine::SamplingParams) -> Result<Vec<Sample>, Failure> {
    bundle::SAMPLES
        .into_iter()
        .map(|prompt| {
            let ids = chat_prompt(model, &[Message::new("user", prompt)], None, &Map::new())?;
            Ok(Sample { prompt, answer: answer(model, &ids, params, &mut |_| Ok(()))?.text })
        })
        .collect()
}

fn report(
    context: &Context,
    args: &QuickstartArgs,
    summary: &TrainSummary,
    samples: Vec<Sample>,
) -> Result<(), Failure> {
    let summary = Summary {
        model_dir: summary.model_dir.clone(),
        steps: summary.steps,
        train_seconds: summary.seconds,
        tokens_per_second: summary.tokens_per_second,
        eval_loss: summary.eval_loss,
        eval_perplexity: summary.eval_loss.map(f64::exp),
        samples,
    };
    context.output.result(&summary, || text(&summary, args))
}

fn text(summary: &Summary, args: &QuickstartArgs) -> String {
    let model = summary.model_dir.display();
    let mut out = format!(
        "\nTrained {} steps in {:.0} s ({:.0} tokens/s): {model}\n",
        summary.steps, summary.train_seconds, summary.tokens_per_second
    );
    if let (Some(loss), Some(perplexity)) = (summary.eval_loss, summary.eval_perplexity) {
        out.push_str(&format!("On dialogues it never saw: loss {loss:.3}, perplexity {perplexity:.1}\n"));
    }
    for Sample { prompt, answer } in &summary.samples {
        out.push_str(&format!("\n  > {prompt}\n  {answer}\n"));
    }
    out.push_str(
        "\nThis is a toy: two million parameters, about a thousand short dialogues. It repeats what it was shown and \
         makes up the rest.\nWhat next:\n",
    );
    let eval = args.dir.join("data/eval");
    for (command, what) in [
        (format!("parlor chat -m {model}"), "talks with it again"),
        (format!("parlor info -m {model}"), "says what it is"),
        (format!("parlor eval -m {model} --data {}", eval.display()), "measures it"),
        ("parlor init".to_owned(), "writes a config.yaml for data of your own; then: parlor train"),
    ] {
        out.push_str(&format!("  {command}\n      {what}\n"));
    }
    out
}
