//! Everything about a run that can be known before its weights are in memory: the data as examples, the model's shape, the
//! counts of steps.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parlor_kernels::memory::allocator;
use parlor_model::arch::Architecture;
use parlor_model::{Decoder, LoadOptions, MaxLength, ModelConfig, ModelManager, load_path, memory};
use parlor_text::DataConfig;
use parlor_track::MonitoringConfig;

use crate::adapter::attach;
use crate::checkpoint::{Checkpoint, list_checkpoints, newest_checkpoint, open_checkpoint};
use crate::config::{Hyperparameters, Problem, TrainingConfig, TrainingType, problems, unsupported};
use crate::distributed::Collective;
use crate::error::TrainError;
use crate::event::TrainEvent;
use crate::fixes::{Alternatives, Fix};
use crate::forecast::{Outlook, Passes};
use crate::materials::{TextSide, new_text_side};
use crate::optimizer::rates;
use crate::output_dir::{OutputDir, Start};
use crate::row_feed::{RowFeed, alone};
use crate::run::TrainRequest;
use crate::run_date::TEMPLATE_DATE;
use crate::steps::StepPlan;
use crate::surroundings::Surroundings;
use crate::token_cache::{Access, Slot};
use crate::work::{Encoding, RunData};

/// What the groundwork is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A run, whose directory it holds.
    Run,
    /// A forecast, which leaves the directory alone.
    Forecast,
}

/// A run without its weights.
#[derive(Debug)]
pub(crate) struct Groundwork {
    pub(crate) training: TrainingConfig,
    pub(crate) model: ModelConfig,
    pub(crate) data: DataConfig,
    pub(crate) hyper: Hyperparameters,
    pub(crate) start: Start,
    pub(crate) monitoring: MonitoringConfig,
    pub(crate) resolved_config: String,
    pub(crate) collective: Arc<dyn Collective>,
    pub(crate) output: OutputDir,
    pub(crate) resume: Option<Checkpoint>,
    pub(crate) warnings: Vec<String>,
    /// Of the right shapes; its weights are in mapped files, or zeros.
    pub(crate) decoder: Decoder,
    pub(crate) architecture: Architecture,
    /// None of a new model.
    pub(crate) surroundings: Option<Surroundings>,
    pub(crate) text: TextSide,
    /// Whether some training row is a conversation.
    pub(crate) converses: bool,
    pub(crate) run_data: RunData,
    pub(crate) plan: StepPlan,
    passes: Passes,
    /// Bytes of weights that are in memory already.
    converted: u64,
}

impl Groundwork {
    /// Lays it.
    ///
    /// # Errors
    /// [`TrainError`]: everything that makes the run impossible, but for memory.
    pub(crate) fn lay(
        request: TrainRequest,
        purpose: Purpose,
        observer: &mut dyn FnMut(TrainEvent),
    ) -> Result<Self, TrainError> {
        let TrainRequest {
            training,
            model,
            max_length,
            data,
            eval_data_path,
            start,
            max_steps,
            monitoring,
            resolved_config,
            collective,
        } = request;
        require_possible(&training, &model, &monitoring, max_steps)?;
        let mut hyper = training.hyperparameters();
        if let Some(steps) = max_steps {
            hyper.max_steps = i64::try_from(steps).unwrap_or(i64::MAX);
        }
        if let Some(problem) = data.streaming.then(|| unstreamable(&training, &hyper)).flatten() {
            return Err(TrainError::Config(vec![problem]));
        }
        let start = match (&training.resume_from_checkpoint, start) {
            (Some(path), Start::New) => Start::ResumeFrom(path.clone()),
            (_, start) => start,
        };
        let output = match (purpose, collective.rank()) {
            (Purpose::Run, 0) => OutputDir::hold(&training.output_dir)?,
            _ => OutputDir::unheld(&training.output_dir),
        };
        refuse_own_source(&training, &model, output.path())?;
        let mut warnings = Vec::new();
        let resume = find_checkpoint(&output, &start, &mut warnings)?;

        let access = match (purpose, collective.rank()) {
            (Purpose::Run, 0) if training.training_type != TrainingType::Dpo => Access::ReadWrite,
            _ => Access::Read,
        };
        let slot = |name: &str, data: &DataConfig| Slot::open(output.path(), name, access, data);
        let open_train = || if data.streaming { Slot::unused() } else { slot("train", &data) };
        let mut train_slot = open_train();
        let (rows, kept) = match data.streaming {
            true => RowFeed::stream(&data)?,
            false => RowFeed::open(&data, train_slot.survey())?,
        };
        warnings.extend(rows.survey.warnings.clone());
        let loaded = match &resume {
            // A checkpoint of an adapter holds no model: the base is loaded, as for a new run.
            Some(checkpoint) if training.adapter().is_none() => Some(mapped(&checkpoint.path)?),
            _ if training.training_type == TrainingType::FromScratch => None,
            _ => Some(base_model(&training, &model, max_length, &mut warnings)?),
        };
        let (mut decoder, architecture, mut surroundings, text) = match loaded {
            Some((decoder, surroundings, text)) => {
                (decoder, surroundings.architecture, Some(surroundings), text)
            }
            None => {
                let text = new_text_side(&training.from_scratch, &rows, &mut warnings)?;
                let (architecture, decoder) = outline(&training, &text)?;
                (decoder, architecture, None, text)
            }
        };
        let recorded =
            resume.as_ref().and_then(|checkpoint| checkpoint.state.identity.get(TEMPLATE_DATE)).cloned();
        let text = text.with_template_kwargs(&model.template_kwargs()).with_date(&model, recorded.as_deref());
        // Zeros take no memory, what was converted while it was loaded does.
        let owned = |decoder: &Decoder| {
            decoder.parameters().iter().map(|parameter| parameter.tensor.owned_bytes() as u64).sum::<u64>()
        };
        let converted = if surroundings.is_some() { owned(&decoder) } else { 0 };
        if let (Some(section), Some(surroundings)) = (training.adapter(), &mut surroundings) {
            let from = resume.as_ref().map(|checkpoint| checkpoint.path.as_path());
            let (id, found) =
                attach(&mut decoder, architecture, (&section, &model.name), training.seed, from)?;
            surroundings.adapter = Some(id);
            warnings.extend(found);
        }
        rates(&training, &hyper, &decoder).map_err(|problem| TrainError::Config(vec![problem]))?;

        let limit = decoder.config().max_position_embeddings;
        if data.max_length > limit {
            warnings.push(format!(
                "`data.max_length` is {}, but the model takes {limit} tokens: examples are cut there",
                data.max_length
            ));
        }
        // What rank 0 keeps the others read, where they see its files.
        if collective.rank() > 0 {
            collective.sum_f64(&mut [0.0]);
            train_slot = open_train();
        }
        let mut eval = match eval_path(eval_data_path, &data, &mut warnings) {
            _ if kept.survey.rows > 0 => Some((kept, slot("eval", &data))),
            Some(path) => {
                let slot = slot("eval", &alone(&path, &data));
                let rows = RowFeed::open_path(&path, &data, slot.survey())?;
                warnings.extend(rows.survey.warnings.clone());
                Some((rows, slot))
            }
            None => None,
        };
        let max_length = data.max_length.min(limit);
        let mut encoding = Encoding {
            training: &training,
            text: &text,
            max_length,
            data: &data,
            streamed_examples: StepPlan::examples_of(&hyper, collective.world_size()),
            observer,
            warnings: &mut warnings,
        };
        let run_data =
            encoding.encode((&rows, &mut train_slot), eval.as_mut().map(|(rows, slot)| (&*rows, slot)))?;
        if collective.rank() == 0 {
            collective.sum_f64(&mut [0.0]);
        }
        let report = run_data.train_report.clone().unwrap_or_default();
        for (count, what) in [
            (report.truncated, "rows are cut at the longest length (`max_length`)"),
            (report.dropped, "rows are left out because they are longer than `max_length`"),
        ] {
            if count > 0 {
                warnings.push(format!("{count} {what}"));
            }
        }
        if training.load_best_model_at_end && run_data.eval_examples == 0 {
            let message =
                "it is true, but nothing is evaluated; name data in `data.eval_data_path`".to_owned();
            let key = "training.load_best_model_at_end".to_owned();
            return Err(TrainError::Config(vec![Problem { key, message }]));
        }
        let plan = StepPlan::new(run_data.work.train_examples(), &hyper, collective.world_size());
        let passes = Passes::of(&run_data.work, &plan, &hyper, training.seed);
        let converses = rows.survey.converses;
        // What loading and attaching read of mapped files, and the rows as they were written, is needed no more.
        decoder.release();
        drop((rows, eval));
        allocator::trim();
        Ok(Self {
            training,
            model,
            data,
            hyper,
            start,
            monitoring,
            resolved_config,
            collective,
            output,
            resume,
            warnings,
            decoder,
            architecture,
            surroundings,
            text,
            converses,
            run_data,
            plan,
            passes,
            converted,
        })
    }

    /// Sizes of its passes.
    pub(crate) fn passes(&self) -> Passes {
        self.passes
    }

    /// What the run will need.
    pub(crate) fn outlook(&self) -> Outlook<'_> {
        let held = memory::resident_bytes().unwrap_or(0);
        Outlook {
            decoder: &self.decoder,
            training: &self.training,
            hyper: &self.hyper,
            plan: &self.plan,
            passes: self.passes,
            program: held.saturating_sub(self.converted) + self.run_data.work.bytes_to_come(),
            available: memory::available_bytes().map(|free| held + free),
        }
    }

    /// What would make it fit.
    ///
    /// # Errors
    /// When the adapter of the config does not fit the model.
    pub(crate) fn fixes(&self) -> Result<Vec<Fix>, TrainError> {
        let could_adapt = matches!(self.training.training_type, TrainingType::Sft | TrainingType::Dpo)
            && self.training.adapter().is_none()
            && self.resume.is_none();
        let adapted = match could_adapt {
            true => {
                let mut training = self.training.clone();
                training.lora.enabled = true;
                let mut decoder = self.decoder.clone();
                match training.adapter() {
                    Some(section) => {
                        let base = (&*section, self.model.name.as_str());
                        attach(&mut decoder, self.architecture, base, training.seed, None)?;
                        Some(decoder)
                    }
                    None => None,
                }
            }
            false => None,
        };
        Ok(Alternatives { outlook: self.outlook(), work: &self.run_data.work, adapted }.fixes())
    }
}

/// Refuses values of the config that cannot work, or not in this build.
fn require_possible(
    training: &TrainingConfig,
    model: &ModelConfig,
    monitoring: &MonitoringConfig,
    max_steps: Option<u64>,
) -> Result<(), TrainError> {
    let mut found = problems(training);
    if max_steps == Some(0) {
        let message = "it is 0; take at least one step".to_owned();
        found.push(Problem { key: "--max-steps".to_owned(), message });
    }
    found.extend(quantized_but_trained(training, model));
    if !found.is_empty() {
        return Err(TrainError::Config(found));
    }
    let mut missing = unsupported(training);
    missing.extend(monitoring.unsupported().into_iter().map(|found| Problem {
        key: found.key.to_owned(),
        message: format!("{}; {}", found.why, found.help),
    }));
    if missing.is_empty() { Ok(()) } else { Err(TrainError::Unsupported(missing)) }
}

/// Why its examples cannot come while it trains.
fn unstreamable(training: &TrainingConfig, hyper: &Hyperparameters) -> Option<Problem> {
    let message = if training.training_type == TrainingType::Dpo {
        "preference rows are compared with a reference before training begins: set it to false".to_owned()
    } else if hyper.max_steps <= 0 {
        let section = training.training_type;
        format!(
            "nobody knows how many steps an epoch has: set `training.{section}.max_steps` (or `--max-steps`)"
        )
    } else {
        return None;
    };
    Some(Problem { key: "data.streaming".to_owned(), message })
}

/// Weights in few bits take no gradient steps.
fn quantized_but_trained(training: &TrainingConfig, model: &ModelConfig) -> Option<Problem> {
    model.quantization().filter(|_| training.adapter().is_none())?;
    let key = if model.load_in_4bit { "model.load_in_4bit" } else { "model.load_in_8bit" };
    let message = "weights in few bits cannot be trained, only an adapter beside them: set \
                   `training.training_type` to `lora`, or this to false";
    Some(Problem { key: key.to_owned(), message: message.to_owned() })
}

/// Training into the directory of the base model would replace the weights that it reads.
fn refuse_own_source(
    training: &TrainingConfig,
    model: &ModelConfig,
    output: &Path,
) -> Result<(), TrainError> {
    if training.training_type == TrainingType::FromScratch {
        return Ok(());
    }
    let same = Path::new(&model.name)
        .canonicalize()
        .ok()
        .is_some_and(|base| output.canonicalize().is_ok_and(|o| o == base));
    if same {
        return Err(TrainError::Occupied {
            path: output.to_owned(),
            found: "the model that `model.name` names, which training would replace".to_owned(),
        });
    }
    Ok(())
}

fn find_checkpoint(
    output: &OutputDir,
    start: &Start,
    warnings: &mut Vec<String>,
) -> Result<Option<Checkpoint>, TrainError> {
    let directory = match start {
        Start::New => {
            output.require_free()?;
            return Ok(None);
        }
        Start::Overwrite => return Ok(None),
        Start::Resume => output.path(),
        Start::ResumeFrom(path) => {
            let parent = path.parent().and_then(|parent| parent.canonicalize().ok());
            let inside = output.path().canonicalize().ok();
            if path.join(crate::checkpoint::TRAINER_STATE).exists() {
                // A checkpoint of another run's directory goes on in this one, which must be free then.
                if parent.is_none() || parent != inside {
                    output.require_free()?;
                }
                return Ok(Some(open_checkpoint(path)?));
            }
            if path.canonicalize().ok() != inside {
                output.require_free()?;
            }
            path.as_path()
        }
    };
    let newest = newest_checkpoint(directory);
    for damaged in &newest.damaged {
        warnings.push(format!("{damaged}; going on from the one before it"));
    }
    match newest.checkpoint {
        Some(checkpoint) => Ok(Some(checkpoint)),
        // A run that was killed before its first checkpoint has nothing to lose: it starts again.
        None if *start == Start::Resume
            && list_checkpoints(directory).is_empty()
            && !output.path().join("config.json").exists() =>
        {
            warnings.push(format!(
                "{} holds no checkpoint yet: starting from the beginning",
                directory.display()
            ));
            Ok(None)
        }
        None => Err(TrainError::NothingToResume { path: directory.to_owned(), damaged: newest.damaged }),
    }
}

/// The shape of a new model.
fn outline(training: &TrainingConfig, text: &TextSide) -> Result<(Architecture, Decoder), TrainError> {
    let section = &training.from_scratch;
    let block = section.architecture.clone().unwrap_or_default();
    let (architecture, config) = block
        .resolve(section.size, text.tokenizer.vocab_size())
        .map_err(|error| TrainError::Model(Box::new(error)))?;
    let decoder = Decoder::outline(config).map_err(|error| TrainError::Model(Box::new(error)))?;
    Ok((architecture, decoder))
}

/// The model in a directory or a GGUF file, its weights in the file where they can be.
fn mapped(path: &Path) -> Result<(Decoder, Surroundings, TextSide), TrainError> {
    let model = load_path(path, &LoadOptions::default());
    Surroundings::split(model.map_err(|error| TrainError::Model(Box::new(error)))?)
}

fn base_model(
    training: &TrainingConfig,
    config: &ModelConfig,
    max_length: MaxLength,
    warnings: &mut Vec<String>,
) -> Result<(Decoder, Surroundings, TextSide), TrainError> {
    // Frozen weights may be narrow, and stay where they are; those that are trained are copied to f32 later.
    let options = match training.adapter() {
        Some(_) => config.load_options(max_length),
        None => LoadOptions { max_length, ..LoadOptions::default() },
    };
    let manager = ModelManager::with_options(config.clone(), options);
    let model = manager.load_model().map_err(|error| TrainError::Model(Box::new(error)))?;
    warnings.extend(manager.model_type_warning(&model));
    warnings.extend(model.dropout_warning());
    manager.unload();
    let path = model.path.clone();
    // Training changes the weights, so it needs them alone; another manager of this process may share them.
    match Arc::try_unwrap(model) {
        Ok(model) => Surroundings::split(model),
        Err(_) => mapped(&path),
    }
}

fn eval_path(chosen: Option<PathBuf>, data: &DataConfig, warnings: &mut Vec<String>) -> Option<PathBuf> {
    if chosen.is_some() || data.val_size > 0.0 {
        return chosen;
    }
    let default = PathBuf::from(&data.eval_data_path);
    if default.exists() {
        return Some(default);
    }
    warnings.push(format!("there is no evaluation data at {}: nothing is evaluated", default.display()));
    None
}
