//! Progress of a run: a bar on a terminal, a line per logged step elsewhere. Never on stdout.

use std::cell::Cell;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use parlor::model::TrainableParameters;
use parlor::train::{StepReport, TrainEvent};

use crate::output::note;

/// Shows a run's events.
pub(crate) struct Progress {
    style: Style,
    /// Time of the last line about the progress of tokenising.
    told: Cell<Instant>,
}

/// Minimum time between such lines.
const TOKENIZING: Duration = Duration::from_secs(10);

enum Style {
    Bar(ProgressBar),
    Lines,
    Quiet,
}

impl Progress {
    /// A bar when stderr is a terminal, else lines; warnings only when `quiet`.
    pub(crate) fn new(quiet: bool) -> Self {
        let style = if quiet {
            Style::Quiet
        } else if io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(8));
            if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len}  {msg}") {
                bar.set_style(style);
            }
            Style::Bar(bar)
        } else {
            Style::Lines
        };
        Self { style, told: Cell::new(Instant::now()) }
    }

    /// Shows one event.
    pub(crate) fn event(&self, event: &TrainEvent) {
        match event {
            TrainEvent::Started { plan, resumed_at, parameters, eval_examples } => {
                if let Style::Bar(bar) = &self.style {
                    bar.set_length(plan.total_steps);
                    bar.set_position(resumed_at.unwrap_or(0));
                }
                let resumed = resumed_at.map(|step| format!(", going on after step {step}"));
                self.say(&format!(
                    "{}, {} examples ({eval_examples} to evaluate on), {}{}",
                    parameters_text(*parameters),
                    plan.examples,
                    steps_text(plan.total_steps),
                    resumed.unwrap_or_default()
                ));
            }
            TrainEvent::Tokenized { done, total } => match &self.style {
                Style::Bar(bar) => {
                    bar.set_length(*total as u64);
                    bar.set_position(*done as u64);
                    bar.set_message("rows tokenised");
                }
                Style::Lines if self.told.get().elapsed() > TOKENIZING => {
                    self.told.set(Instant::now());
                    note(&format!("tokenised {} of {} rows", grouped(*done as u64), grouped(*total as u64)));
                }
                Style::Lines | Style::Quiet => {}
            },
            TrainEvent::Note(text) => self.say(text),
            TrainEvent::Reference { done, total } => {
                let text = format!("reference model: {done} of {total} examples");
                match &self.style {
                    Style::Bar(bar) => bar.set_message(text),
                    Style::Lines if done == total => note(&text),
                    Style::Lines | Style::Quiet => {}
                }
            }
            TrainEvent::Step(report) => match &self.style {
                Style::Bar(bar) => {
                    bar.set_message(numbers(report));
                    bar.set_position(report.step);
                }
                Style::Lines if report.logged => {
                    note(&format!("step {}/{}  {}", report.step, report.total_steps, numbers(report)));
                }
                Style::Lines | Style::Quiet => {}
            },
            TrainEvent::Evaluated { step, loss, perplexity, best } => {
                let best = if *best { ", the best so far" } else { "" };
                let perplexity = perplexity.map(|perplexity| format!(", perplexity {perplexity:.3}"));
                let perplexity = perplexity.unwrap_or_default();
                self.say(&format!("step {step}: evaluation loss {loss:.4}{perplexity}{best}"));
            }
            TrainEvent::Sampled { step, prompt, text } => {
                self.say(&format!("step {step}: {prompt}\n  {}", text.trim().replace('\n', "\n  ")));
            }
            TrainEvent::Saved { step, path } => {
                tracing::debug!(step, path = %path.display(), "checkpoint saved");
            }
            TrainEvent::Warning(text) => self.print(&format!("warning: {text}")),
        }
    }

    /// Removes the bar; printed lines stay.
    pub(crate) fn finish(&self) {
        if let Style::Bar(bar) = &self.style {
            bar.finish_and_clear();
        }
    }

    /// Prints a line, unless `quiet`.
    pub(crate) fn say(&self, text: &str) {
        if !matches!(self.style, Style::Quiet) {
            self.print(text);
        }
    }

    fn print(&self, text: &str) {
        match &self.style {
            // Above the bar, which is redrawn.
            Style::Bar(bar) => bar.suspend(|| note(text)),
            Style::Lines | Style::Quiet => note(text),
        }
    }
}

/// The number of trained parameters, in PEFT's format when not all are trained.
pub(crate) fn parameters_text(parameters: TrainableParameters) -> String {
    let TrainableParameters { trainable, all, percent } = parameters;
    match trainable == all {
        true => format!("{} parameters", grouped(all as u64)),
        false => format!(
            "trainable params: {} || all params: {} || trainable%: {percent:.4}",
            grouped(trainable as u64),
            grouped(all as u64)
        ),
    }
}

fn numbers(report: &StepReport) -> String {
    let eta = Duration::try_from_secs_f64(report.eta_seconds.max(0.0).round()).unwrap_or_default();
    format!(
        "loss {:.4}  {} tokens/s  ETA {}  {}",
        report.loss,
        grouped(report.tokens_per_second.max(0.0).round() as u64),
        HumanDuration(eta),
        HumanBytes(report.memory_bytes)
    )
}

/// A number of steps, in words.
pub(crate) fn steps_text(steps: u64) -> String {
    format!("{} {}", grouped(steps), if steps == 1 { "step" } else { "steps" })
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
