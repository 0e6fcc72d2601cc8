//! A run that is ready: what it will do, and doing it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parlor_model::memory::FreeMemory;
use parlor_model::{Decoder, GenerationConfig};
use parlor_text::{ChatTemplate, Tokenizer};
use parlor_track::MonitoringConfig;
use serde::Serialize;
use serde_json::Value;

use crate::checkpoint::{Checkpoint, checkpoint_name, list_checkpoints, remove_temporaries};
use crate::config::{Hyperparameters, TrainingConfig};
use crate::distributed::Collective;
use crate::error::TrainError;
use crate::event::{Flow, Outcome, TrainEvent};
use crate::identity::Identity;
use crate::materials::TextArtifacts;
use crate::objective::Objective;
use crate::objectives::CrossEntropy;
use crate::output_dir::OutputDir;
use crate::parlor_state::Totals;
use crate::recorder::{Recorder, Unrecorded};
use crate::reference::{Computing, Reference};
use crate::reference_cache::REFERENCE;
use crate::run_record::RunRecord;
use crate::samples::{SampleFile, SampleGenerator};
use crate::steps::StepPlan;
use crate::storage::{FillError, StorageError, copy_files, remove, write_file};
use crate::supply::ExampleSource;
use crate::surroundings::ModelArtifacts;
use crate::trainer::{BEST, Finished, Job, Sample, train};
use crate::work::{ExampleSet, Examples, Streamed, TrainingData};

/// A run that [`prepare`](crate::prepare) has checked.
#[derive(Debug)]
pub struct Prepared {
    pub(crate) training: TrainingConfig,
    pub(crate) hyper: Hyperparameters,
    pub(crate) plan: StepPlan,
    pub(crate) data: TrainingData,
    pub(crate) reference: Option<Reference>,
    pub(crate) decoder: Decoder,
    pub(crate) surroundings: ModelArtifacts,
    pub(crate) tokenizer_sha256: String,
    pub(crate) template_sha256: Option<String>,
    pub(crate) output: OutputDir,
    pub(crate) overwrite: bool,
    pub(crate) resume: Option<Checkpoint>,
    pub(crate) identity: Identity,
    pub(crate) warnings: Vec<String>,
    pub(crate) resolved_config: String,
    pub(crate) monitoring: MonitoringConfig,
    /// Sections `model:` and `data:`, for the record.
    pub(crate) sections: (Value, Value),
    pub(crate) text: TextArtifacts,
    /// Whether some training row is a conversation.
    pub(crate) has_conversations: bool,
    pub(crate) sampler: Option<SampleGenerator>,
    pub(crate) collective: Arc<dyn Collective>,
}

/// What `parlor train --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainSummary {
    /// The trained model; of an interrupted run its newest checkpoint.
    pub model_dir: PathBuf,
    /// Optimizer steps, those of earlier parts of the run included.
    pub steps: u64,
    /// The step that the model is of: the last one, or with `load_best_model_at_end` that of the best evaluation.
    pub model_step: u64,
    /// Seconds of training, likewise.
    pub seconds: f64,
    /// Tokens that went through the model in training, likewise.
    pub tokens: u64,
    /// `tokens / seconds`.
    pub tokens_per_second: f64,
    /// Mean loss over all steps (as HF's `train_loss`): per trained token, or per example of judged answers.
    pub train_loss: f64,
    /// Loss of the newest evaluation.
    pub eval_loss: Option<f64>,
    /// Most resident memory of this process, in bytes.
    pub peak_memory_bytes: u64,
    /// Completed, stopped early, or interrupted.
    pub outcome: Outcome,
}

impl Prepared {
    /// Counts of steps and examples.
    pub fn plan(&self) -> &StepPlan {
        &self.plan
    }

    /// Section `training:`.
    pub fn training(&self) -> &TrainingConfig {
        &self.training
    }

    /// The model before training (or as the checkpoint has it).
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Examples and their counts.
    pub fn data(&self) -> &TrainingData {
        &self.data
    }

    /// The checkpoint that the run goes on from.
    pub fn resumes_from(&self) -> Option<&Checkpoint> {
        self.resume.as_ref()
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.text.tokenizer
    }

    /// What is trained, in a sentence each: the share of the tokens, and the date that the chat template reads.
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

    /// The template that the prompts of samples belong in; none when all training data is plain text.
    pub fn sample_template(&self) -> Option<&ChatTemplate> {
        self.text.template.as_ref().filter(|_| self.has_conversations)
    }

    /// Special tokens and sampling defaults of the model.
    pub fn generation(&self) -> &GenerationConfig {
        &self.surroundings.generation
    }

    /// Who answers `training.sample_prompts`. Without one they are left unanswered, with a warning.
    pub fn with_sampler(mut self, sampler: SampleGenerator) -> Self {
        self.sampler = Some(sampler);
        self
    }

    /// What the user should know; [`Self::run`] sends it as events.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Trains. `stop` ends the run after the step in progress, with a checkpoint.
    ///
    /// # Errors
    /// [`TrainError`]; the newest checkpoint is intact then.
    pub fn run(
        mut self,
        observer: &mut dyn FnMut(TrainEvent) -> Flow,
        stop: &AtomicBool,
    ) -> Result<TrainSummary, TrainError> {
        // Before anything is written, every rank has read what it goes on from.
        self.collective.sum_f64(&mut [0.0]);
        if self.collective.rank() > 0 {
            let finished = self.train(&mut Unrecorded, observer, stop)?;
            let directory = self.output.path().to_owned();
            return Ok(summary(directory, finished.steps, &finished));
        }
        self.clear_output(observer)?;
        for warning in std::mem::take(&mut self.warnings) {
            // Nothing is running yet that a warning could stop.
            let _ = observer(TrainEvent::Warning(warning));
        }
        let directory = self.output.path().to_owned();
        write_file(&directory.join("config.resolved.yaml"), self.resolved_config.as_bytes())?;
        let mut record = RunRecord::start(&self, &self.monitoring)?;
        let result =
            self.train(&mut record, observer, stop).and_then(|finished| self.conclude(&finished, observer));
        match &result {
            Ok(summary) => record.finish(summary)?,
            Err(_) => record.fail(),
        }
        result
    }

    fn train(
        &mut self,
        recorder: &mut dyn Recorder,
        observer: &mut dyn FnMut(TrainEvent) -> Flow,
        stop: &AtomicBool,
    ) -> Result<Finished, TrainError> {
        let directory = self.output.path().to_owned();
        if let Some(reference) = self.reference.take() {
            let batch_size = self.hyper.per_device_eval_batch_size;
            let collective = &*self.collective;
            let mut computing = Computing { decoder: &self.decoder, batch_size, observer, stop, collective };
            if !reference.fill(&mut self.data.examples, &mut computing)? {
                return Ok(self.not_begun());
            }
        }
        let mut samples = SampleFile::open(&directory, self.resume.as_ref().map(|resume| &resume.state))?;
        let sampler = &mut self.sampler;
        let prompts = &self.training.sample_prompts;
        let leads = self.collective.rank() == 0;
        if !prompts.is_empty() && sampler.is_none() && leads {
            let text = "nobody was named to answer `training.sample_prompts`: they are left alone";
            let _ = observer(TrainEvent::Warning(text.to_owned()));
        }
        let mut sample = |decoder: &Decoder, step: u64, prompt: &str| -> Result<Option<String>, FillError> {
            let Some(sampler) = sampler.as_mut().filter(|_| leads) else { return Ok(None) };
            let answer = sampler.answer(decoder, prompt)?;
            samples.append(step, prompt, &answer)?;
            Ok(Some(answer))
        };
        let steps = Steps {
            hyper: &self.hyper,
            training: &self.training,
            output_dir: &directory,
            identity: &self.identity,
            surroundings: &self.surroundings,
            collective: &*self.collective,
            recorder,
            sample: &mut sample,
            observer,
            stop,
            resume: self.resume.take(),
        };
        match &self.data.examples {
            Examples::Tokens(examples) => steps.hold(&mut self.decoder, examples),
            Examples::Pairs(examples) => steps.hold(&mut self.decoder, examples),
            Examples::Unpaired(examples) => steps.hold(&mut self.decoder, examples),
            Examples::Stream(streamed) => {
                let Streamed { streaming, eval } = &**streamed;
                let done = steps.resume.as_ref().map_or(0, |resume| resume.state.step);
                let mut stream = streaming.start(self.plan.places(done).start)?;
                let supply = ExampleSource::Stream {
                    examples: streaming.examples,
                    next: Box::new(move |count| stream.next(count)),
                };
                steps.take(&mut self.decoder, &CrossEntropy, supply, eval)
            }
        }
    }

    /// Leaves the model of a run that ended.
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
            return Ok(summary(model_dir, finished.steps, finished));
        }
        let model_step = self.save_result(finished, &directory, observer)?;
        Ok(summary(directory, model_step, finished))
    }

    /// Writes the trained model: the last step's, or that of the best evaluation. Returns the step that it is of.
    fn save_result(
        &self,
        finished: &Finished,
        directory: &Path,
        observer: &mut dyn FnMut(TrainEvent) -> Flow,
    ) -> Result<u64, TrainError> {
        if let Some(best) = finished.best.filter(|_| self.training.load_best_model_at_end) {
            let path = directory.join(BEST);
            if path.is_dir() {
                copy_files(&path, directory)?;
                return Ok(best.step);
            }
            // Possible when the run goes on in another directory than the one it began in.
            let text = format!("there is no {}: the model is that of the last step", path.display());
            let _ = observer(TrainEvent::Warning(text));
        }
        let saved = self.surroundings.save(&self.decoder, directory);
        saved.map_err(|error| StorageError::new(directory, error))?;
        Ok(finished.steps)
    }

    /// The end of a run that was stopped before its first step.
    fn not_begun(&self) -> Finished {
        let (steps, totals, eval_loss) = match &self.resume {
            Some(resume) => (resume.state.step, resume.state.totals, resume.state.eval_loss),
            None => (0, Totals::default(), None),
        };
        let train_loss = totals.loss_sum / totals.weight.max(f64::MIN_POSITIVE);
        Finished { outcome: Outcome::Interrupted, steps, totals, train_loss, eval_loss, best: None }
    }

    /// Removes what an earlier run (`--overwrite`), a killed one, or a later part of this one left behind.
    fn clear_output(&self, observer: &mut dyn FnMut(TrainEvent) -> Flow) -> Result<(), TrainError> {
        let mut tell = |text: String| {
            let _ = observer(TrainEvent::Warning(text));
        };
        let directory = self.output.path();
        let removed = remove_temporaries(directory);
        if !removed.is_empty() {
            tell(format!("removed what a killed run was still writing: {}", removed.join(", ")));
        }
        let Some(checkpoint) = &self.resume else {
            // A resume that found no checkpoint starts again; `New` found nothing to clear.
            if self.overwrite || list_checkpoints(directory).is_empty() {
                self.output.clear();
            }
            // Kept otherwise: what is in it is used for the same model and examples only.
            if self.reference.is_none() {
                remove(&directory.join(REFERENCE));
            }
            return Ok(());
        };
        // Checkpoints after the one in use are damaged or of a part that is done again.
        for (step, path) in list_checkpoints(directory) {
            if step > checkpoint.state.step {
                remove(&path);
                tell(format!("removed {}, which comes after the checkpoint in use", path.display()));
            }
        }
        Ok(())
    }
}

/// What the loop borrows of a run, beside the decoder and the examples.
struct Steps<'a> {
    hyper: &'a Hyperparameters,
    training: &'a TrainingConfig,
    output_dir: &'a Path,
    identity: &'a Identity,
    surroundings: &'a ModelArtifacts,
    collective: &'a dyn Collective,
    recorder: &'a mut dyn Recorder,
    sample: &'a mut Sample<'a>,
    observer: &'a mut dyn FnMut(TrainEvent) -> Flow,
    stop: &'a AtomicBool,
    resume: Option<Checkpoint>,
}

impl Steps<'_> {
    fn hold<O: Objective>(
        self,
        decoder: &mut Decoder,
        examples: &ExampleSet<O>,
    ) -> Result<Finished, TrainError> {
        self.take(decoder, &examples.objective, ExampleSource::InMemory(&examples.train), &examples.eval)
    }

    fn take<O: Objective>(
        self,
        decoder: &mut Decoder,
        objective: &O,
        supply: ExampleSource<'_, O::Example>,
        eval: &[O::Example],
    ) -> Result<Finished, TrainError> {
        train(
            decoder,
            Job {
                objective,
                train: supply,
                eval,
                hyper: self.hyper,
                training: self.training,
                output_dir: self.output_dir,
                identity: self.identity,
                save_model: &|decoder, directory| self.surroundings.save(decoder, directory),
                collective: self.collective,
                recorder: self.recorder,
                sample: self.sample,
                observer: self.observer,
                free_memory: FreeMemory::default(),
                stop: self.stop,
                resume: self.resume,
            },
        )
    }
}

fn summary(model_dir: PathBuf, model_step: u64, finished: &Finished) -> TrainSummary {
    let totals = finished.totals;
    TrainSummary {
        model_dir,
        steps: finished.steps,
        model_step,
        seconds: totals.seconds,
        tokens: totals.tokens,
        tokens_per_second: totals.tokens as f64 / totals.seconds.max(1e-9),
        train_loss: finished.train_loss,
        eval_loss: finished.eval_loss,
        peak_memory_bytes: parlor_model::memory::peak_resident_bytes().unwrap_or(0),
        outcome: finished.outcome,
    }
}
