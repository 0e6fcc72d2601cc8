//! A training run: configuration, artifacts and data in one owner.
//!
//! [`Run::prepare`] refuses everything that can be refused before anything in the output directory is
//! changed, and makes or reads the weights. [`Run::train`] lends the run to the loop. [`plan`] stops before
//! the weights.

mod identity;
mod info;
mod open;
mod output_dir;
mod request;
mod resume;
mod summary;
mod weights;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use parlor_model::{Decoder, GenerationConfig, ModelConfig, memory};
use parlor_text::{ChatTemplate, DataConfig, Tokenizer};
use parlor_track::MonitoringConfig;

use crate::artifacts::{ModelArtifacts, TextArtifacts, attach};
use crate::checkpoint::{Checkpoint, Totals, checkpoint_name};
use crate::config::{TrainingConfig, TrainingType};
use crate::data::{ExampleSource, Examples, TrainingData};
use crate::error::TrainError;
use crate::event::{Flow, Outcome, TrainEvent};
use crate::forecast::{Fix, Forecast, TooLarge};
use crate::objectives::CrossEntropy;
use crate::plan::{FixSearch, MemoryModel, PassSizes, seconds_estimate};
use crate::record::{NoRecord, Recorder, RunRecord, SampleGenerator, SampleWriter, drop_later_samples};
use crate::reference::{Reference, ReferencePasses, ReferenceSetup, WEIGHTS};
use crate::steps::StepPlan;
use crate::trainer::{BEST, Finished, LoopConfig, LoopExamples, LoopHooks, train};
pub use output_dir::{OutputDir, Start};
use parlor_files::{WriteError, atomic_dir, atomic_file};
use request::Purpose;
pub use request::TrainRequest;
use resume::clear_leftovers;
pub use summary::TrainSummary;
use weights::materialize;

/// A training run that is ready to start.
#[derive(Debug)]
pub struct Run {
    config: LoopConfig,
    model: ModelConfig,
    data_config: DataConfig,
    monitoring: MonitoringConfig,
    resolved_config: String,
    /// Whether the run replaces an earlier one.
    overwrite: bool,
    output: OutputDir,
    decoder: Decoder,
    artifacts: ModelArtifacts,
    text: TextArtifacts,
    /// Whether some training row is a conversation.
    has_conversations: bool,
    data: TrainingData,
    plan: StepPlan,
    passes: PassSizes,
    /// Bytes of weights that opening the run has converted already.
    converted_bytes: u64,
    reference: Option<Reference>,
    warnings: Vec<String>,
}

/// How a caller follows a run, and stops it.
pub struct TrainHooks<'a> {
    /// Takes events, and may ask to save or to stop.
    pub observer: &'a mut dyn FnMut(TrainEvent) -> Flow,
    /// Set from another thread to stop after the step in progress, with a checkpoint.
    pub stop: &'a AtomicBool,
    /// Completes `training.sample_prompts`. Without it they are left alone, with a warning.
    pub samples: Option<SampleGenerator>,
}

impl<'a> TrainHooks<'a> {
    /// Hooks without samples.
    pub fn new(observer: &'a mut dyn FnMut(TrainEvent) -> Flow, stop: &'a AtomicBool) -> Self {
        Self { observer, stop, samples: None }
    }
}

/// What a run would need.
#[derive(Clone, Debug)]
pub struct RunPlan {
    /// Memory, tokens and steps.
    pub forecast: Forecast,
    /// Seconds of training, from a short measurement on this machine.
    pub seconds_estimate: f64,
    /// Changes that would make the run fit, cheapest first; none when it fits, or no change is known.
    pub fixes: Vec<Fix>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
}

/// Forecasts a run: reads the data and the model's shape, measures for half a second, and changes nothing.
///
/// # Errors
/// [`TrainError`]: what makes the run impossible, but for memory.
///
/// # Examples
/// ```no_run
/// # fn example(request: parlor_train::TrainRequest) -> Result<(), parlor_train::TrainError> {
/// let planned = parlor_train::plan(request)?;
/// let total = planned.forecast.memory.total;
/// println!("{} steps, {total} bytes, {:.0} s", planned.forecast.steps, planned.seconds_estimate);
/// # Ok(())
/// # }
/// ```
pub fn plan(request: TrainRequest) -> Result<RunPlan, TrainError> {
    let run = Run::open(request, Purpose::Forecast, &mut |_| {})?;
    let model = run.memory_model();
    let forecast = model.forecast();
    let fixes = if forecast.memory.fits() { Vec::new() } else { run.fixes()? };
    let seconds_estimate =
        seconds_estimate(&model, run.artifacts.architecture, &run.model.name).map_err(TrainError::Model)?;
    Ok(RunPlan { forecast, seconds_estimate, fixes, warnings: run.warnings })
}

impl Run {
    /// Prepares the run that `request` describes.
    ///
    /// # Errors
    /// [`TrainError`]: everything that makes the run impossible. Nothing was changed then, except that the output
    /// directory may have been created, and tokens cached in it.
    ///
    /// # Examples
    /// ```no_run
    /// use std::sync::atomic::AtomicBool;
    /// use std::sync::Arc;
    ///
    /// use parlor_model::{MaxLength, ModelConfig};
    /// use parlor_text::DataConfig;
    /// use parlor_track::MonitoringConfig;
    /// use parlor_train::distributed::Alone;
    /// use parlor_train::{Flow, Run, Start, TrainEvent, TrainHooks, TrainRequest, TrainingConfig};
    ///
    /// let request = TrainRequest {
    ///     training: TrainingConfig { output_dir: "models/mine".into(), ..TrainingConfig::default() },
    ///     model: ModelConfig::default(),
    ///     max_length: MaxLength::AtMost(2048),
    ///     data: DataConfig { train_data_path: "train.jsonl".to_owned(), ..DataConfig::default() },
    ///     eval_data_path: None,
    ///     start: Start::New,
    ///     max_steps: None,
    ///     monitoring: MonitoringConfig::default(),
    ///     resolved_config: String::new(),
    ///     collective: Arc::new(Alone),
    /// };
    /// let mut observer = |event| {
    ///     if let TrainEvent::Step(step) = event {
    ///         println!("{}: {:.4}", step.step, step.loss);
    ///     }
    ///     Flow::Continue
    /// };
    /// let stop = AtomicBool::new(false);
    /// let summary = Run::prepare(request)?.train(TrainHooks::new(&mut observer, &stop))?;
    /// println!("{} after {} steps", summary.model_dir.display(), summary.steps);
    /// # Ok::<(), parlor_train::TrainError>(())
    /// ```
    pub fn prepare(request: TrainRequest) -> Result<Self, TrainError> {
        Self::prepare_observed(request, &mut |_| {})
    }

    /// The same, and tells `observer` of the progress of tokenization.
    ///
    /// # Errors
    /// Those of [`Self::prepare`].
    pub fn prepare_observed(
        request: TrainRequest,
        observer: &mut dyn FnMut(TrainEvent),
    ) -> Result<Self, TrainError> {
        let mut run = Self::open(request, Purpose::Train, observer)?;
        let memory = run.memory_model().memory();
        if !memory.fits() {
            let fixes = run.fixes()?;
            return Err(TrainError::TooLarge(Box::new(TooLarge { memory, fixes })));
        }
        let is_new = run.artifacts.is_new();
        run.decoder = materialize(run.decoder, is_new, &run.config.training)?;
        if is_new {
            run.artifacts.text_files = run.text.files(run.output.path())?;
        }
        run.identify()?;
        Ok(run)
    }

    /// Sets the identity, compares it with the checkpoint's, and finds the reference model.
    fn identify(&mut self) -> Result<(), TrainError> {
        let setup = ReferenceSetup {
            training: &self.config.training,
            model: &self.model,
            text: &self.text,
            decoder: &self.decoder,
            resume: self.config.resume.as_ref(),
        };
        let reference = setup.reference_model()?;
        let mut identity = self.identity();
        if let Some(reference) = &reference {
            identity.add(WEIGHTS, &reference.weights);
        }
        if let Some(checkpoint) = &self.config.resume {
            let differences = identity.differences(&checkpoint.state.identity);
            if !differences.is_empty() {
                return Err(TrainError::Changed { checkpoint: checkpoint.path.clone(), differences });
            }
        }
        if let Some(reference) = reference {
            let found =
                Reference::find(&setup, reference, &self.data, self.output.path(), &mut self.warnings)?;
            self.reference = Some(found);
        }
        self.config.identity = identity;
        Ok(())
    }

    /// Counts of steps and examples.
    pub fn step_plan(&self) -> &StepPlan {
        &self.plan
    }

    /// Section `training:`.
    pub fn training(&self) -> &TrainingConfig {
        &self.config.training
    }

    /// The model before training, or the checkpoint's.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Examples and their counts.
    pub fn data(&self) -> &TrainingData {
        &self.data
    }

    /// The checkpoint that the run resumes from.
    pub fn resumes_from(&self) -> Option<&Checkpoint> {
        self.config.resume.as_ref()
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.text.tokenizer
    }

    /// Notes for the user, a sentence each: the share of trained tokens, and the date that the chat template
    /// reads.
    pub fn notes(&self) -> Vec<String> {
        let share = self.data.train_report.as_ref().map(|report| {
            let (trained, total) = (report.trained_tokens, report.total_tokens);
            let percent = 100.0 * trained as f64 / total.max(1) as f64;
            format!("{trained} of {total} tokens are trained ({percent:.0}%)")
        });
        let date = self.text.template_date().map(|date| {
            format!("the chat template reads the date: in this run, also when it is resumed, it is {date}")
        });
        share.into_iter().chain(date).collect()
    }

    /// The chat template for sample prompts; none when all training data is plain text.
    pub fn sample_template(&self) -> Option<&ChatTemplate> {
        self.text.template.as_ref().filter(|_| self.has_conversations)
    }

    /// Special tokens and sampling defaults of the model.
    pub fn generation(&self) -> &GenerationConfig {
        &self.artifacts.generation
    }

    /// Warnings for the user; [`Self::train`] sends them as events.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Trains, and leaves the model in the output directory.
    ///
    /// # Errors
    /// [`TrainError`]; the newest checkpoint is intact then.
    pub fn train(mut self, mut hooks: TrainHooks<'_>) -> Result<TrainSummary, TrainError> {
        // A barrier: every rank has read what it resumes from before rank 0 writes anything.
        self.config.collective.sum_f64(&mut [0.0]);
        let directory = self.output.path().to_owned();
        if self.config.collective.rank() > 0 {
            let finished = self.run_loop(&mut NoRecord, &mut hooks)?;
            return Ok(TrainSummary::of(directory, finished.steps, &finished));
        }
        let resume = self.config.resume.as_ref();
        let cleared = clear_leftovers(&self.output, resume, self.overwrite, self.reference.is_some());
        for warning in cleared.into_iter().chain(std::mem::take(&mut self.warnings)) {
            // Nothing is running yet that the answer could stop.
            let _ = (hooks.observer)(TrainEvent::Warning(warning));
        }
        atomic_file::write(&directory.join("config.resolved.yaml"), self.resolved_config.as_bytes())?;
        let state = resume.map(|checkpoint| &checkpoint.state);
        let mut record = RunRecord::start(&directory, self.info(), &self.monitoring, state)?;
        let result = self
            .run_loop(&mut record, &mut hooks)
            .and_then(|finished| self.conclude(&finished, hooks.observer));
        match &result {
            Ok(summary) => record.finish(summary.outcome)?,
            Err(_) => record.fail(),
        }
        result
    }

    /// Computes the reference, and runs the loop on the examples.
    fn run_loop(
        &mut self,
        recorder: &mut dyn Recorder,
        hooks: &mut TrainHooks<'_>,
    ) -> Result<Finished, TrainError> {
        let Self { config, decoder, artifacts, data, reference, .. } = self;
        let (directory, collective) = (self.output.path(), &*config.collective);
        if let Some(reference) = reference.take() {
            let mut passes = ReferencePasses {
                decoder,
                batch_size: config.hyper.per_device_eval_batch_size,
                observer: hooks.observer,
                stop: hooks.stop,
                collective,
            };
            if !reference.fill(&mut data.examples, &mut passes)? {
                return Ok(not_begun(config.resume.as_ref()));
            }
        }
        if let Some(resume) = &config.resume {
            drop_later_samples(directory, &resume.state)?;
        }
        let leads = collective.rank() == 0;
        if leads && hooks.samples.is_none() && !config.training.sample_prompts.is_empty() {
            let text = "there is no generator for `training.sample_prompts`: they are left alone";
            let _ = (hooks.observer)(TrainEvent::Warning(text.to_owned()));
        }
        let generator = hooks.samples.take().filter(|_| leads);
        let mut samples = generator.map(|generator| SampleWriter::new(directory, generator));
        let hooks = LoopHooks {
            save_model: &|decoder, directory| artifacts.save(decoder, directory),
            recorder,
            samples: samples.as_mut(),
            observer: hooks.observer,
            stop: hooks.stop,
        };
        match &data.examples {
            Examples::Tokens(set) => train(decoder, config, LoopExamples::from(set), hooks),
            Examples::Pairs(set) => train(decoder, config, LoopExamples::from(set), hooks),
            Examples::Unpaired(set) => train(decoder, config, LoopExamples::from(set), hooks),
            Examples::Stream(streamed) => {
                let done = config.resume.as_ref().map_or(0, |resume| resume.state.step);
                let mut stream = streamed.train.start(self.plan.places(done).start)?;
                let source = ExampleSource::Stream {
                    examples: streamed.train.examples,
                    next: Box::new(move |count| stream.next(count)),
                };
                let examples = LoopExamples { objective: &CrossEntropy, train: source, eval: &streamed.eval };
                train(decoder, config, examples, hooks)
            }
        }
    }

    /// Leaves the model of a loop that ended.
    fn conclude(
        &self,
        finished: &Finished,
        observer: &mut dyn FnMut(TrainEvent) -> Flow,
    ) -> Result<TrainSummary, TrainError> {
        let directory = self.output.path().to_owned();
        if finished.outcome == Outcome::Interrupted {
            let model_dir = match finished.steps {
                0 => directory,
                steps => directory.join(checkpoint_name(steps)),
            };
            return Ok(TrainSummary::of(model_dir, finished.steps, finished));
        }
        let model_step = self.save_result(finished, &directory, observer)?;
        Ok(TrainSummary::of(directory, model_step, finished))
    }

    /// Writes the trained model, that of the last step or of the best evaluation. Returns its step.
    fn save_result(
        &self,
        finished: &Finished,
        directory: &Path,
        observer: &mut dyn FnMut(TrainEvent) -> Flow,
    ) -> Result<u64, TrainError> {
        if let Some(best) = finished.best.filter(|_| self.config.training.load_best_model_at_end) {
            let path = directory.join(BEST);
            if path.is_dir() {
                atomic_dir::copy_files(&path, directory)?;
                return Ok(best.step);
            }
            // Possible when a run resumes in another directory than the one it began in.
            let text = format!("there is no {}: the model is that of the last step", path.display());
            let _ = observer(TrainEvent::Warning(text));
        }
        let saved = self.artifacts.save(&self.decoder, directory);
        saved.map_err(|error| WriteError::new(directory, error))?;
        Ok(finished.steps)
    }

    /// The memory model of this run.
    fn memory_model(&self) -> MemoryModel<'_> {
        let held = memory::resident_bytes().unwrap_or(0);
        MemoryModel {
            decoder: &self.decoder,
            training: &self.config.training,
            hyper: &self.config.hyper,
            plan: &self.plan,
            passes: self.passes,
            program: held.saturating_sub(self.converted_bytes) + self.data.examples.bytes_to_come(),
            available: memory::available_bytes().map(|free| held + free),
        }
    }

    /// Changes that make this run fit.
    ///
    /// # Errors
    /// When the adapter of the config does not fit the model.
    fn fixes(&self) -> Result<Vec<Fix>, TrainError> {
        let training = &self.config.training;
        let could_adapt = matches!(training.training_type, TrainingType::Sft | TrainingType::Dpo)
            && training.adapter().is_none()
            && self.config.resume.is_none();
        let mut with_adapter = None;
        if could_adapt {
            let mut training = training.clone();
            training.lora.enabled = true;
            if let Some(section) = training.adapter() {
                let mut decoder = self.decoder.clone();
                let adapter = section.adapter(&self.model.name);
                attach(&mut decoder, self.artifacts.architecture, adapter, training.seed, None)?;
                with_adapter = Some(decoder);
            }
        }
        let search =
            FixSearch { memory_model: self.memory_model(), examples: &self.data.examples, with_adapter };
        Ok(search.fixes())
    }
}

/// The end of a run that was stopped before its first step.
fn not_begun(resume: Option<&Checkpoint>) -> Finished {
    let (steps, totals, eval_loss) = match resume {
        Some(resume) => (resume.state.step, resume.state.totals, resume.state.eval_loss),
        None => (0, Totals::default(), None),
    };
    let train_loss = totals.loss_sum / totals.weight.max(f64::MIN_POSITIVE);
    Finished { outcome: Outcome::Interrupted, steps, totals, train_loss, eval_loss, best: None }
}
