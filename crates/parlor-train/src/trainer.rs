//! The one training loop: steps, evaluation, checkpoints. What is trained and on what is the [`Objective`]'s.
//!
//! A step sums gradients over its micro-batches and divides once by the weight of them all, so 1x8 equals 8x1 to
//! rounding. After each step, in this order: a row of metrics, the evaluation that is due, the checkpoint that is
//! due. A checkpoint holds the state after all three, so a run that goes on from it repeats none of them.

mod after_step;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parlor_kernels::Arithmetic;
use parlor_model::{Decoder, DecoderError, Gradients, Saved};
use parlor_text::epoch_order;
use serde_json::{Map, Value, json};

use crate::checkpoint::{Checkpoint, OPTIMIZER_STATE, list_checkpoints};
use crate::clip::{clip_factor, group_norms};
use crate::config::{Hyperparameters, TrainingConfig};
use crate::error::{NonFinite, TrainError};
use crate::event::{Flow, Outcome, StepReport, TrainEvent};
use crate::identity::Identity;
use crate::objective::{MetricSums, Objective};
use crate::optimizer::Optimizer;
use crate::parlor_state::{Best, Totals};
use crate::recorder::Recorder;
use crate::schedule::Schedule;
use crate::steps::StepPlan;
use crate::storage::FillError;

/// Name of the directory of the model with the lowest evaluation loss.
pub const BEST: &str = "best";

/// Answers a prompt with the decoder as it is after so many steps, and keeps the answer; none when nobody answers.
pub type Sample<'a> = dyn FnMut(&Decoder, u64, &str) -> Result<Option<String>, FillError> + 'a;

/// Everything a run of the loop needs.
pub struct Job<'a, O: Objective> {
    /// What is minimised.
    pub objective: &'a O,
    /// Training examples, at least one.
    pub train: &'a [O::Example],
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
    /// Takes metrics.
    pub recorder: &'a mut dyn Recorder,
    /// Answers `training.sample_prompts`.
    pub sample: &'a mut Sample<'a>,
    /// Takes events, and may ask to stop.
    pub observer: &'a mut dyn FnMut(TrainEvent) -> Flow,
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
    saved: Saved,
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

/// Numbers of a step, before they are reported.
struct StepResult {
    loss: f64,
    learning_rate: f64,
    grad_norm: f64,
    metrics: Vec<(&'static str, f64)>,
}

impl<'d, 'a, O: Objective> Trainer<'d, 'a, O> {
    fn new(decoder: &'d mut Decoder, mut job: Job<'a, O>) -> Result<Self, TrainError> {
        if job.train.is_empty() {
            return Err(TrainError::Nothing("there is no training example".to_owned()));
        }
        let plan = StepPlan::new(job.train.len(), job.hyper);
        let schedule = Schedule {
            kind: job.training.lr_scheduler_type,
            kwargs: job.training.lr_scheduler_kwargs,
            learning_rate: job.hyper.learning_rate,
            warmup_steps: plan.warmup_steps,
            total_steps: plan.total_steps,
        };
        let mut optimizer = Optimizer::new(job.training, job.hyper, decoder)
            .map_err(|problem| TrainError::Config(vec![problem]))?;
        let now = Instant::now();
        let resume = job.resume.take();
        if let Some(checkpoint) = &resume {
            let path = checkpoint.path.join(OPTIMIZER_STATE);
            optimizer.load(&path, decoder, checkpoint.state.step)?;
        }
        let gradients = Gradients::zeros(decoder);
        let mut saved = Saved::default();
        saved.checkpointing = job.training.gradient_checkpointing.0;
        saved.arithmetic = if job.training.bf16 { Arithmetic::Bf16 } else { Arithmetic::F32 };
        saved.neftune_noise_alpha = job.training.neftune_noise_alpha.unwrap_or(0.0) as f32;
        let mut trainer = Self {
            job,
            decoder,
            plan,
            schedule,
            optimizer,
            gradients,
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
        let started = TrainEvent::Started {
            plan: self.plan,
            resumed_at: (self.step > 0).then_some(self.step),
            parameters: self.decoder.trainable_parameters(),
            eval_examples: self.job.eval.len(),
        };
        self.tell(started);
        if self.evaluation_pending && !self.evaluate()? {
            return Ok(self.finished(Outcome::Interrupted));
        }
        while self.step < self.plan.total_steps && !self.out_of_patience() {
            if self.stopping() && self.step == self.steps_before {
                return Ok(self.finished(Outcome::Interrupted));
            }
            let result = self.take_step()?;
            self.report(&result)?;
            self.watch_loss(result.loss)?;
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
                return Ok(self.finished(Outcome::Interrupted));
            }
        }
        let outcome =
            if self.step < self.plan.total_steps { Outcome::StoppedEarly } else { Outcome::Completed };
        Ok(self.finished(outcome))
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

    fn stopping(&self) -> bool {
        self.stop_asked || self.job.stop.load(Ordering::Relaxed)
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

    /// Forward and backward over the step's examples, and the update.
    fn take_step(&mut self) -> Result<StepResult, TrainError> {
        let epoch = self.plan.epoch(self.step);
        if self.order.0 != epoch {
            self.order = (epoch, epoch_order(self.job.train.len(), self.job.training.seed, epoch));
        }
        let chosen: Vec<&'a O::Example> =
            self.order.1[self.plan.places(self.step)].iter().map(|&place| &self.job.train[place]).collect();
        let learning_rate = self.schedule.at(self.step);
        let (mut sum, mut weight, mut tokens) = (0.0, 0.0, 0);
        let mut metrics = MetricSums::default();
        self.gradients.zero();
        let (mut rest, mut index) = (&chosen[..], 0);
        while !rest.is_empty() {
            let (examples, after) = rest.split_at(rest.len().min(self.micro_batch));
            // A mask of its own for every pass, and the same one when the step is made again.
            self.saved.seed = Some(pass_seed(self.job.training.seed, self.step, index));
            let micro = self.job.objective.collate(examples, &chosen);
            let objective = self.job.objective;
            let refused = |source: DecoderError| TrainError::Batch {
                rows: sources(objective, examples),
                source: Box::new(source),
            };
            let logp = match self.decoder.logprobs(&micro.batch, &micro.targets, &mut self.saved) {
                Err(error @ DecoderError::OutOfMemory { .. }) if examples.len() > 1 => {
                    self.halve(&error);
                    continue;
                }
                result => result.map_err(refused)?,
            };
            let loss = objective.loss(&micro, &logp);
            self.decoder
                .backward(&loss.d_logp, &micro.batch, &micro.targets, &mut self.saved, &mut self.gradients)
                .map_err(refused)?;
            sum += loss.sum;
            weight += loss.weight;
            tokens += micro.batch.len() as u64;
            metrics.add(loss.metrics);
            if !loss.sum.is_finite() {
                let broken = examples.iter().zip(&micro.rows).filter(|(_, rows)| {
                    logp.get((*rows).clone()).is_some_and(|logp| logp.iter().any(|logp| !logp.is_finite()))
                });
                let mut culprits: Vec<&O::Example> = broken.map(|(example, _)| *example).collect();
                if culprits.is_empty() {
                    culprits = examples.to_vec();
                }
                return Err(self.not_finite("loss", loss.sum, &culprits, weight));
            }
            (rest, index) = (after, index + 1);
        }
        let mean = if weight > 0.0 { 1.0 / weight } else { 0.0 };
        let grad_norm = self.gradients.global_norm() * mean;
        if !grad_norm.is_finite() {
            return Err(self.not_finite("gradient norm", grad_norm, &chosen, weight));
        }
        let scale = clip_factor(grad_norm, self.job.hyper.max_grad_norm) * mean;
        let factor = self.schedule.factor(self.step);
        self.optimizer.update(self.decoder, &self.gradients, scale as f32, factor)?;
        self.step += 1;
        self.totals.tokens += tokens;
        self.totals.loss_sum += sum;
        self.totals.weight += weight;
        let metrics = metrics.means(self.job.objective);
        Ok(StepResult { loss: sum * mean, learning_rate, grad_norm, metrics })
    }

    /// Goes on with half as many examples in a pass and twice as many passes: the same sums in less memory.
    fn halve(&mut self, error: &DecoderError) {
        self.micro_batch = (self.micro_batch / 2).max(1);
        self.saved.release();
        let text = format!("{error}; going on with {} examples in a pass, and more passes", self.micro_batch);
        self.tell(TrainEvent::Warning(text));
    }

    fn not_finite(
        &self,
        what: &'static str,
        value: f64,
        examples: &[&O::Example],
        weight: f64,
    ) -> TrainError {
        TrainError::NonFinite(Box::new(NonFinite {
            step: self.step + 1,
            what,
            value,
            rows: sources(self.job.objective, examples),
            gradient_norms: group_norms(self.decoder, &self.gradients, 1.0 / weight.max(1.0)),
            learning_rate: self.schedule.at(self.step),
            last_checkpoint: self.last_checkpoint(),
        }))
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

fn sources<O: Objective>(objective: &O, examples: &[&O::Example]) -> Vec<String> {
    examples.iter().map(|example| objective.source(example)).collect()
}

/// Seed of the dropout masks and the noise of one pass.
fn pass_seed(seed: u64, step: u64, pass: usize) -> u64 {
    let bytes: Vec<u8> = [seed, step, pass as u64].iter().flat_map(|part| part.to_le_bytes()).collect();
    let digest = <sha2::Sha256 as sha2::Digest>::digest(&bytes);
    digest.iter().take(8).fold(0, |all, byte| all << 8 | u64::from(*byte))
}

fn row(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
