//! The one training loop: steps, evaluation, checkpoints. What is trained and on what is the [`Objective`]'s.
//!
//! A step sums gradients over its micro-batches and divides once by the weight of them all, so 1x8 equals 8x1 to
//! rounding. After each step, in this order: a row of metrics, the evaluation that is due, the checkpoint that is
//! due. A checkpoint holds the state after all three, so a run that goes on from it repeats none of them.

mod after_step;
mod step;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parlor_model::memory::FreeMemory;
use parlor_model::{Decoder, Gradients, PassOptions, Workspace};
use serde_json::{Map, Value, json};

use crate::checkpoint::{Checkpoint, OPTIMIZER_STATE, checkpoint_name, list_checkpoints};
use crate::config::{Hyperparameters, TrainingConfig};
use crate::distributed::{Collective, Shards};
use crate::error::TrainError;
use crate::event::{Flow, Outcome, StepReport, TrainEvent};
use crate::identity::Identity;
use crate::objective::Objective;
use crate::optimizer::Optimizer;
use crate::parlor_state::{Best, Totals};
use crate::recorder::Recorder;
use crate::schedule::Schedule;
use crate::steps::StepPlan;
use crate::storage::FillError;
use crate::supply::ExampleSource;
use step::StepResult;

/// Name of the directory of the model with the lowest evaluation loss.
pub const BEST: &str = "best";

/// Answers a prompt with the decoder as it is after so many steps, and keeps the answer; none when nobody answers.
pub type Sample<'a> = dyn FnMut(&Decoder, u64, &str) -> Result<Option<String>, FillError> + 'a;

/// Everything a run of the loop needs.
pub struct Job<'a, O: Objective> {
    /// What is minimised.
    pub objective: &'a O,
    /// Training examples, at least one.
    pub train: ExampleSource<'a, O::Example>,
    /// Evaluation examples; none means no evaluation.
    pub eval: &'a [O::Example],
    /// Shared keys of the training type.
    pub hyper: &'a Hyperparameters,
    /// Optimizer, schedule, seed, and what else all training types share.
    pub training: &'a TrainingConfig,
    /// Where checkpoints and `best/` go.
    pub output_dir: &'a Path,
    /// What a checkpoint must agree on to be resumed.
    pub identity: &'a Identity,
    /// Writes the model into a directory in HF layout.
    pub save_model: &'a dyn Fn(&Decoder, &Path) -> Result<(), FillError>,
    /// The ranks that train together; only rank 0 writes and is heard.
    pub collective: &'a dyn Collective,
    /// Takes metrics.
    pub recorder: &'a mut dyn Recorder,
    /// Answers `training.sample_prompts`.
    pub sample: &'a mut Sample<'a>,
    /// Takes events, and may ask to stop.
    pub observer: &'a mut dyn FnMut(TrainEvent) -> Flow,
    /// Says how much memory is left.
    pub free_memory: FreeMemory,
    /// Set from another thread to stop after the current step.
    pub stop: &'a AtomicBool,
    /// Checkpoint to go on from, verified and of the same identity; the decoder holds its weights.
    pub resume: Option<Checkpoint>,
}

/// How the loop ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// Completed, stopped early, or interrupted.
    pub outcome: Outcome,
    /// Steps done in all.
    pub steps: u64,
    /// Sums over all steps.
    pub totals: Totals,
    /// Mean loss per trained token over all steps.
    pub train_loss: f64,
    /// Newest evaluation loss.
    pub eval_loss: Option<f64>,
    /// Best evaluation.
    pub best: Option<Best>,
}

/// Runs the loop on `decoder`, whose parameters must be f32 in memory of their own.
///
/// # Errors
/// [`TrainError`]: a loss or gradient that is not finite, a batch that does not fit, a disk that does not take a
/// checkpoint. Earlier checkpoints are intact then.
pub fn train<O: Objective>(decoder: &mut Decoder, job: Job<'_, O>) -> Result<Finished, TrainError> {
    Trainer::new(decoder, job)?.run()
}

struct Trainer<'d, 'a, O: Objective> {
    job: Job<'a, O>,
    decoder: &'d mut Decoder,
    plan: StepPlan,
    schedule: Schedule,
    optimizer: Optimizer,
    gradients: Gradients,
    pass_options: PassOptions,
    saved: Workspace,
    order: (u64, Vec<usize>),
    /// Examples in a pass: the plan's, or fewer when memory ran out.
    micro_batch: usize,
    step: u64,
    totals: Totals,
    best: Option<Best>,
    eval_loss: Option<f64>,
    evaluations_without_improvement: u32,
    evaluation_pending: bool,
    log_history: Vec<Map<String, Value>>,
    started: Instant,
    seconds_before: f64,
    steps_before: u64,
    last_log: (Instant, u64),
    stop_asked: bool,
    save_asked: bool,
    high_losses: u32,
}

impl<'d, 'a, O: Objective> Trainer<'d, 'a, O> {
    fn new(decoder: &'d mut Decoder, mut job: Job<'a, O>) -> Result<Self, TrainError> {
        if job.train.len() == 0 {
            return Err(TrainError::Nothing("there is no training example".to_owned()));
        }
        let plan = StepPlan::new(job.train.len(), job.hyper, job.collective.world_size());
        let schedule = Schedule {
            kind: job.training.lr_scheduler_type,
            kwargs: job.training.lr_scheduler_kwargs,
            learning_rate: job.hyper.learning_rate,
            warmup_steps: plan.warmup_steps,
            total_steps: plan.total_steps,
        };
        let shards = Shards::new(decoder, job.collective.rank(), job.collective.world_size());
        let mut optimizer = Optimizer::sharded(job.training, job.hyper, decoder, shards)
            .map_err(|problem| TrainError::Config(vec![problem]))?;
        let now = Instant::now();
        let resume = job.resume.take();
        if let Some(checkpoint) = &resume {
            let path = checkpoint.path.join(OPTIMIZER_STATE);
            optimizer.load(&path, decoder, checkpoint.state.step)?;
        }
        let gradients = Gradients::zeros(decoder);
        let mut saved = Workspace::default();
        let mut pass_options =
            PassOptions { checkpointing: job.training.gradient_checkpointing.0, ..PassOptions::default() };
        saved.arithmetic = job.training.arithmetic();
        saved.free_memory = job.free_memory;
        pass_options.neftune_noise_alpha = job.training.neftune_noise_alpha.unwrap_or(0.0) as f32;
        let mut trainer = Self {
            job,
            decoder,
            plan,
            schedule,
            optimizer,
            gradients,
            pass_options,
            saved,
            order: (u64::MAX, Vec::new()),
            micro_batch: plan.batch_size,
            step: 0,
            totals: Totals::default(),
            best: None,
            eval_loss: None,
            evaluations_without_improvement: 0,
            evaluation_pending: false,
            log_history: Vec::new(),
            started: now,
            seconds_before: 0.0,
            steps_before: 0,
            last_log: (now, 0),
            stop_asked: false,
            save_asked: false,
            high_losses: 0,
        };
        if let Some(Checkpoint { state, trainer_state, .. }) = resume {
            trainer.step = state.step;
            trainer.steps_before = state.step;
            trainer.totals = state.totals;
            trainer.seconds_before = state.totals.seconds;
            trainer.last_log.1 = state.totals.tokens;
            trainer.best = state.best;
            trainer.eval_loss = state.eval_loss;
            trainer.evaluations_without_improvement = state.evaluations_without_improvement;
            trainer.evaluation_pending = state.evaluation_pending;
            trainer.high_losses = state.high_losses;
            trainer.log_history = trainer_state.log_history;
        }
        Ok(trainer)
    }

    fn run(mut self) -> Result<Finished, TrainError> {
        match self.go() {
            Ok(outcome) => Ok(self.finished(outcome)),
            Err(error) => {
                if error.is_out_of_memory() {
                    self.keep_what_there_is();
                }
                Err(error)
            }
        }
    }

    fn go(&mut self) -> Result<Outcome, TrainError> {
        let started = TrainEvent::Started {
            plan: self.plan,
            resumed_at: (self.step > 0).then_some(self.step),
            parameters: self.decoder.trainable_parameters(),
            eval_examples: self.job.eval.len(),
        };
        self.tell(started);
        if self.evaluation_pending && !self.evaluate()? {
            return Ok(Outcome::Interrupted);
        }
        while self.step < self.plan.total_steps && !self.out_of_patience() {
            self.agree();
            if self.stopping() && self.step == self.steps_before {
                return Ok(Outcome::Interrupted);
            }
            let result = self.take_step()?;
            self.report(&result)?;
            self.watch_loss(result.loss)?;
            self.agree();
            self.evaluation_pending = self.evaluation_due();
            let interrupted = self.stopping() || (self.evaluation_pending && !self.evaluate()?);
            let last = self.step == self.plan.total_steps || self.out_of_patience();
            let every = self.job.hyper.save_steps;
            let asked = std::mem::take(&mut self.save_asked);
            if interrupted || last || asked || (every > 0 && self.step.is_multiple_of(every)) {
                self.save(last)?;
            }
            // An interruption in the very last step has nothing left to interrupt.
            if interrupted && (!last || self.evaluation_pending) {
                return Ok(Outcome::Interrupted);
            }
        }
        Ok(if self.step < self.plan.total_steps { Outcome::StoppedEarly } else { Outcome::Completed })
    }

    fn finished(mut self, outcome: Outcome) -> Finished {
        self.totals.seconds = self.seconds();
        Finished {
            outcome,
            steps: self.step,
            totals: self.totals,
            train_loss: self.totals.loss_sum / self.totals.weight,
            eval_loss: self.eval_loss,
            best: self.best,
        }
    }

    fn tell(&mut self, event: TrainEvent) {
        match (self.job.observer)(event) {
            Flow::Continue => {}
            Flow::Save => self.save_asked = true,
            Flow::Stop => self.stop_asked = true,
        }
    }

    /// Whether to stop. Of several ranks none does so alone: what [`Self::agree`] found counts.
    fn stopping(&self) -> bool {
        self.stop_asked || (self.plan.world_size == 1 && self.job.stop.load(Ordering::Relaxed))
    }

    /// Makes what one rank was asked for, to stop or to save, the wish of all.
    fn agree(&mut self) {
        if self.plan.world_size > 1 {
            let stop = self.stop_asked || self.job.stop.load(Ordering::Relaxed);
            let mut wishes = [f64::from(u8::from(stop)), f64::from(u8::from(self.save_asked))];
            self.job.collective.sum_f64(&mut wishes);
            [self.stop_asked, self.save_asked] = wishes.map(|count| count > 0.0);
        }
    }

    fn collective(&self) -> &'a dyn Collective {
        self.job.collective
    }

    fn seconds(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
    }

    fn out_of_patience(&self) -> bool {
        let patience = self.job.hyper.early_stopping_patience;
        patience.is_some_and(|patience| self.evaluations_without_improvement >= patience)
    }

    fn evaluation_due(&self) -> bool {
        let due = match self.job.hyper.eval_steps {
            0 => self.plan.ends_epoch(self.step),
            every => self.step.is_multiple_of(every),
        };
        let anything = !self.job.eval.is_empty() || !self.job.training.sample_prompts.is_empty();
        anything && (due || self.step == self.plan.total_steps)
    }

    /// Stops a run whose loss has been high for too long.
    fn watch_loss(&mut self, loss: f64) -> Result<(), TrainError> {
        let Some(threshold) = self.job.training.loss_watchdog_threshold else { return Ok(()) };
        self.high_losses = if loss > threshold { self.high_losses + 1 } else { 0 };
        if self.high_losses < self.job.training.loss_watchdog_patience {
            return Ok(());
        }
        Err(TrainError::HighLoss {
            step: self.step,
            loss,
            steps: self.high_losses,
            threshold,
            last_checkpoint: self.last_checkpoint(),
        })
    }

    /// Saves the run as it was before that for which there is no memory, so that it can go on where there is more. Of
    /// several ranks none can alone: their last checkpoint counts.
    fn keep_what_there_is(&mut self) {
        self.saved.release();
        let there = self.job.output_dir.join(checkpoint_name(self.step)).exists();
        if self.plan.world_size > 1 || self.step == self.steps_before || there {
            return;
        }
        // What ended the run is the error to report.
        if let Err(also) = self.save(false) {
            self.tell(TrainEvent::Warning(format!("the run could not be saved: {also}")));
        }
    }

    fn last_checkpoint(&self) -> Option<PathBuf> {
        list_checkpoints(self.job.output_dir).pop().map(|(_, path)| path)
    }

    /// Tells of the step, and records its row when it is one to log.
    fn report(&mut self, result: &StepResult) -> Result<(), TrainError> {
        let step = self.step;
        let logged = step == 1
            || step == self.plan.total_steps
            || step.is_multiple_of(self.job.hyper.logging_steps.max(1));
        let (since, tokens_then) = self.last_log;
        let tokens_per_second =
            (self.totals.tokens - tokens_then) as f64 / since.elapsed().as_secs_f64().max(1e-9);
        let pace = self.started.elapsed().as_secs_f64() / (step - self.steps_before).max(1) as f64;
        let report = StepReport {
            step,
            total_steps: self.plan.total_steps,
            epoch: self.plan.epochs_done(step),
            loss: result.loss,
            learning_rate: result.learning_rate,
            grad_norm: result.grad_norm,
            tokens: self.totals.tokens,
            tokens_per_second,
            memory_bytes: parlor_model::memory::resident_bytes().unwrap_or(0),
            eta_seconds: pace * (self.plan.total_steps - step) as f64,
            logged,
        };
        if logged {
            let mut row = row(json!({
                "step": step,
                "epoch": report.epoch,
                "loss": report.loss,
                "learning_rate": report.learning_rate,
                "grad_norm": report.grad_norm,
                "tokens": report.tokens,
                "tokens_per_second": report.tokens_per_second,
                "memory_bytes": report.memory_bytes,
            }));
            for (name, value) in &result.metrics {
                row.insert((*name).to_owned(), json!(value));
            }
            self.record(row)?;
            self.last_log = (Instant::now(), self.totals.tokens);
        }
        self.tell(TrainEvent::Step(report));
        Ok(())
    }

    /// Hands a row to the recorder, and what HF has of it to HF's history.
    fn record(&mut self, row: Map<String, Value>) -> Result<(), TrainError> {
        self.job.recorder.record(&row).map_err(TrainError::Record)?;
        let own = ["tokens", "tokens_per_second", "memory_bytes"];
        self.log_history.push(row.into_iter().filter(|(key, _)| !own.contains(&key.as_str())).collect());
        Ok(())
    }
}

fn row(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
