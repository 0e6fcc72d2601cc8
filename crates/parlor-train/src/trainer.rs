//! The one training loop: steps, evaluations, checkpoints. The [`Objective`] decides what is trained and on what.
//!
//! A step sums gradients over its passes and divides once by the weight of them all, so 1x8 equals 8x1 to
//! rounding. After each step come, in this order: a row of metrics, the evaluation that is due, the
//! checkpoint that is due. A checkpoint holds the state after all three, so a run that resumes from it
//! repeats none of them.

mod clip;
mod evaluate;
mod report;
mod save;
mod step;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parlor_model::memory::FreeMemory;
use parlor_model::{Decoder, Gradients, PassOptions, Workspace};
use serde_json::{Map, Value};

use crate::checkpoint::{
    Best, Checkpoint, Identity, OPTIMIZER_STATE, Totals, checkpoint_name, list_checkpoints,
};
use crate::config::{Hyperparameters, TrainingConfig};
use crate::data::{ExampleSet, ExampleSource};
use crate::distributed::{Collective, Shards};
use crate::error::TrainError;
use crate::event::{Flow, Outcome, TrainEvent};
use crate::objective::Objective;
use crate::optim::Optimizer;
use crate::record::{Recorder, SampleWriter};
use crate::schedule::Schedule;
use crate::steps::StepPlan;
use parlor_files::FillError;

/// Name of the directory of the model with the best evaluation.
pub const BEST: &str = "best";

/// Settings of a run, owned by the caller and borrowed by the loop.
#[derive(Clone, Debug)]
pub struct LoopConfig {
    /// Section `training:`. Checkpoints and `best/` go to its `output_dir`.
    pub training: TrainingConfig,
    /// The shared keys of the training type in force.
    pub hyper: Hyperparameters,
    /// What a checkpoint must agree on to be resumed.
    pub identity: Identity,
    /// The ranks that train together; only rank 0 writes and reports.
    pub collective: Arc<dyn Collective>,
    /// Reports how much memory is left.
    pub free_memory: FreeMemory,
    /// The checkpoint to resume from, verified and of the same identity; the decoder holds its weights.
    pub resume: Option<Checkpoint>,
}

/// What the loop trains and evaluates on.
pub struct LoopExamples<'a, O: Objective> {
    /// What is minimised.
    pub objective: &'a O,
    /// Training examples, at least one.
    pub train: ExampleSource<'a, O::Example>,
    /// Evaluation examples; none means no evaluation.
    pub eval: &'a [O::Example],
}

impl<'a, O: Objective> From<&'a ExampleSet<O>> for LoopExamples<'a, O> {
    fn from(set: &'a ExampleSet<O>) -> Self {
        Self { objective: &set.objective, train: ExampleSource::InMemory(&set.train), eval: &set.eval }
    }
}

/// Where the loop's results go, and how it is stopped.
pub struct LoopHooks<'a> {
    /// Writes the model into a directory.
    pub save_model: &'a dyn Fn(&Decoder, &Path) -> Result<(), FillError>,
    /// Takes metrics.
    pub recorder: &'a mut dyn Recorder,
    /// Completes `training.sample_prompts`; none leaves them alone.
    pub samples: Option<&'a mut SampleWriter>,
    /// Takes events, and may ask to save or to stop.
    pub observer: &'a mut dyn FnMut(TrainEvent) -> Flow,
    /// Set from another thread to stop after the step in progress.
    pub stop: &'a AtomicBool,
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
    /// Mean loss over all steps: per token, or per example.
    pub train_loss: f64,
    /// Loss of the newest evaluation.
    pub eval_loss: Option<f64>,
    /// The best evaluation.
    pub best: Option<Best>,
}

/// Runs the loop on `decoder`, whose trained parameters are f32 or bf16 in memory of their own.
///
/// # Errors
/// [`TrainError`]: a loss or gradient that is not finite, a batch that does not fit, a disk that does not take a
/// checkpoint. Earlier checkpoints are intact then.
pub fn train<'a, O: Objective>(
    decoder: &'a mut Decoder,
    config: &'a LoopConfig,
    examples: LoopExamples<'a, O>,
    hooks: LoopHooks<'a>,
) -> Result<Finished, TrainError> {
    Trainer::new(decoder, config, examples, hooks)?.run()
}

/// The state of the loop.
struct Trainer<'a, O: Objective> {
    config: &'a LoopConfig,
    examples: LoopExamples<'a, O>,
    hooks: LoopHooks<'a>,
    decoder: &'a mut Decoder,
    plan: StepPlan,
    schedule: Schedule,
    optimizer: Optimizer,
    gradients: Gradients,
    pass_options: PassOptions,
    workspace: Workspace,
    /// An epoch, and the order of the examples in it.
    order: (u64, Vec<usize>),
    /// Examples of a pass: the plan's batch size, or fewer once memory ran out.
    micro_batch: usize,
    /// Steps done.
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
    /// When the last row was logged, and the tokens until then.
    last_log: (Instant, u64),
    stop_requested: bool,
    save_requested: bool,
    /// Steps in a row with a loss above the watchdog's threshold.
    high_losses: u32,
}

impl<'a, O: Objective> Trainer<'a, O> {
    fn new(
        decoder: &'a mut Decoder,
        config: &'a LoopConfig,
        examples: LoopExamples<'a, O>,
        hooks: LoopHooks<'a>,
    ) -> Result<Self, TrainError> {
        if examples.train.len() == 0 {
            return Err(TrainError::Nothing("there is no training example".to_owned()));
        }
        let LoopConfig { training, hyper, collective, .. } = config;
        let plan = StepPlan::new(examples.train.len(), hyper, collective.world_size());
        let schedule = Schedule {
            kind: training.lr_scheduler_type,
            kwargs: training.lr_scheduler_kwargs,
            learning_rate: hyper.learning_rate,
            warmup_steps: plan.warmup_steps,
            total_steps: plan.total_steps,
        };
        let shards = Shards::new(decoder, collective.rank(), collective.world_size());
        let mut optimizer = Optimizer::sharded(training, hyper, decoder, shards)
            .map_err(|problem| TrainError::Config(vec![problem]))?;
        let now = Instant::now();
        if let Some(checkpoint) = &config.resume {
            let path = checkpoint.path.join(OPTIMIZER_STATE);
            optimizer.load(&path, decoder, checkpoint.state.step)?;
        }
        let gradients = Gradients::zeros(decoder);
        let pass_options = PassOptions {
            checkpointing: training.gradient_checkpointing.0,
            neftune_noise_alpha: training.neftune_noise_alpha.unwrap_or(0.0) as f32,
            ..PassOptions::default()
        };
        let mut workspace = Workspace::default();
        workspace.arithmetic = training.arithmetic();
        workspace.free_memory = config.free_memory;
        let mut trainer = Self {
            config,
            examples,
            hooks,
            decoder,
            plan,
            schedule,
            optimizer,
            gradients,
            pass_options,
            workspace,
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
            stop_requested: false,
            save_requested: false,
            high_losses: 0,
        };
        if let Some(Checkpoint { state, trainer_state, .. }) = &config.resume {
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
            trainer.log_history.clone_from(&trainer_state.log_history);
        }
        Ok(trainer)
    }

    fn run(mut self) -> Result<Finished, TrainError> {
        match self.take_steps() {
            Ok(outcome) => Ok(self.finished(outcome)),
            Err(error) => {
                if error.is_out_of_memory() {
                    self.save_after_out_of_memory();
                }
                Err(error)
            }
        }
    }

    fn take_steps(&mut self) -> Result<Outcome, TrainError> {
        let started = TrainEvent::Started {
            plan: self.plan,
            resumed_at: (self.step > 0).then_some(self.step),
            parameters: self.decoder.trainable_parameters(),
            eval_examples: self.examples.eval.len(),
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
            let every = self.config.hyper.save_steps;
            let requested = std::mem::take(&mut self.save_requested);
            if interrupted || last || requested || (every > 0 && self.step.is_multiple_of(every)) {
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
        match (self.hooks.observer)(event) {
            Flow::Continue => {}
            Flow::Save => self.save_requested = true,
            Flow::Stop => self.stop_requested = true,
        }
    }

    /// Whether to stop. Several ranks stop together only, after [`Self::agree`].
    fn stopping(&self) -> bool {
        self.stop_requested || (self.plan.world_size == 1 && self.hooks.stop.load(Ordering::Relaxed))
    }

    /// Makes a request of one rank, to stop or to save, a request of all.
    fn agree(&mut self) {
        if self.plan.world_size > 1 {
            let stop = self.stop_requested || self.hooks.stop.load(Ordering::Relaxed);
            let mut requests = [f64::from(u8::from(stop)), f64::from(u8::from(self.save_requested))];
            self.config.collective.sum_f64(&mut requests);
            [self.stop_requested, self.save_requested] = requests.map(|count| count > 0.0);
        }
    }

    fn collective(&self) -> &'a dyn Collective {
        &*self.config.collective
    }

    fn output_dir(&self) -> &'a Path {
        &self.config.training.output_dir
    }

    /// Seconds of training, over all parts of an interrupted run.
    fn seconds(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
    }

    /// Whether early stopping applies.
    fn out_of_patience(&self) -> bool {
        let patience = self.config.hyper.early_stopping_patience;
        patience.is_some_and(|patience| self.evaluations_without_improvement >= patience)
    }

    fn evaluation_due(&self) -> bool {
        let due = match self.config.hyper.eval_steps {
            0 => self.plan.ends_epoch(self.step),
            every => self.step.is_multiple_of(every),
        };
        let anything = !self.examples.eval.is_empty() || !self.config.training.sample_prompts.is_empty();
        anything && (due || self.step == self.plan.total_steps)
    }

    fn last_checkpoint(&self) -> Option<PathBuf> {
        list_checkpoints(self.output_dir()).pop().map(|(_, path)| path)
    }

    /// Saves the run as it was before the pass that ran out of memory, so that it can be resumed where there
    /// is more. Several ranks keep their last checkpoint instead, since saving takes all of them.
    fn save_after_out_of_memory(&mut self) {
        self.workspace.release();
        let exists = self.output_dir().join(checkpoint_name(self.step)).exists();
        if self.plan.world_size > 1 || self.step == self.steps_before || exists {
            return;
        }
        // The caller reports the error that ended the run; this one is only a warning.
        if let Err(second) = self.save(false) {
            self.tell(TrainEvent::Warning(format!("the run could not be saved: {second}")));
        }
    }
}
