//! From a config to a run that is ready to start: everything that can be refused is refused here, before anything
//! in the output directory is changed.
//!
//! [`prepare`] lays the groundwork, refuses what does not fit into memory, and makes or reads the weights.
//! [`Prepared::run`](crate::Prepared::run) is the rest. [`plan`] stops before the weights.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parlor_model::Architecture;
use parlor_model::{Decoder, MaxLength, ModelConfig};
use parlor_text::DataConfig;
use parlor_track::MonitoringConfig;
use serde::Serialize;
use serde_json::Value;

use crate::calibration::seconds_estimate;
use crate::config::{TrainingConfig, TrainingType};
use crate::distributed::Collective;
use crate::error::TrainError;
use crate::event::TrainEvent;
use crate::fixes::{Fix, TooLarge};
use crate::forecast::Forecast;
use crate::groundwork::{Groundwork, Purpose};
use crate::identity::Identity;
use crate::materials::{TextArtifacts, generation_config, text_files};
use crate::output_dir::Start;
use crate::prepared::Prepared;
use crate::reference::{ReferenceSetup, WEIGHTS};
use crate::run_date::TEMPLATE_DATE;
use crate::steps::StepPlan;
use crate::surroundings::ModelArtifacts;
use crate::work::TrainingData;

/// What `parlor train` is asked to do.
#[derive(Clone, Debug)]
pub struct TrainRequest {
    /// Section `training:`.
    pub training: TrainingConfig,
    /// Section `model:`.
    pub model: ModelConfig,
    /// What to do with `model.max_length`: the caller knows whether someone chose it.
    pub max_length: MaxLength,
    /// Section `data:`.
    pub data: DataConfig,
    /// Evaluation data that someone chose: an error when it does not exist. None takes `data.eval_data_path` when
    /// that exists, and evaluates nothing otherwise.
    pub eval_data_path: Option<PathBuf>,
    /// What to do with an output directory that holds a run.
    pub start: Start,
    /// `--max-steps`: counts before the config's.
    pub max_steps: Option<u64>,
    /// Section `monitoring:`.
    pub monitoring: MonitoringConfig,
    /// The whole config as YAML, for `config.resolved.yaml`.
    pub resolved_config: String,
    /// The ranks that train together.
    pub collective: Arc<dyn Collective>,
}

/// Prepares a run.
///
/// # Errors
/// [`TrainError`]: everything that makes the run impossible; nothing was changed then, except that the output
/// directory may have been made, and tokens kept there.
pub fn prepare(request: TrainRequest) -> Result<Prepared, TrainError> {
    prepare_observed(request, &mut |_| {})
}

/// The same, and tells `observer` how far the tokens are.
///
/// # Errors
/// Those of [`prepare`].
pub fn prepare_observed(
    request: TrainRequest,
    observer: &mut dyn FnMut(TrainEvent),
) -> Result<Prepared, TrainError> {
    let ground = Groundwork::lay(request, Purpose::Run, observer)?;
    let memory = ground.memory_model().memory();
    if !memory.fits() {
        let fixes = ground.fixes()?;
        return Err(TrainError::TooLarge(Box::new(TooLarge { memory, fixes })));
    }
    let Groundwork {
        decoder,
        architecture,
        surroundings,
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
        mut warnings,
        text,
        has_conversations,
        run_data,
        plan,
        ..
    } = ground;
    let decoder = weights(decoder, surroundings.as_ref(), &training)?;
    let surroundings = match surroundings {
        Some(surroundings) => surroundings,
        None => new_model_artifacts(architecture, &text, output.path())?,
    };
    let setting = ReferenceSetup {
        training: &training,
        model: &model,
        text: &text,
        decoder: &decoder,
        resume: resume.as_ref(),
    };
    let source = setting.source()?;
    let mut identity = identity(&training, &model, &plan, &text, &run_data);
    if let Some(source) = &source {
        identity.add(WEIGHTS, &source.weights);
    }
    if let Some(checkpoint) = &resume {
        let differences = identity.differences(&checkpoint.state.identity);
        if !differences.is_empty() {
            return Err(TrainError::Changed { checkpoint: checkpoint.path.clone(), differences });
        }
    }
    let reference = match source {
        Some(source) => Some(setting.find(source, &run_data, output.path(), &mut warnings)?),
        None => None,
    };
    Ok(Prepared {
        reference,
        hyper,
        plan,
        data: run_data,
        decoder,
        surroundings,
        tokenizer_sha256: text.tokenizer.content_hash().to_owned(),
        template_sha256: text.template.as_ref().map(parlor_text::ChatTemplate::content_hash),
        output,
        overwrite: start == Start::Overwrite,
        resume,
        identity,
        warnings,
        resolved_config,
        monitoring,
        sections: (section(&model), section(&data)),
        has_conversations,
        text,
        sampler: None,
        collective,
        training,
    })
}

/// What a run would need.
#[derive(Clone, Debug)]
pub struct RunPlan {
    /// Memory, tokens and steps.
    pub forecast: Forecast,
    /// Seconds of training, from a short measurement on this machine.
    pub seconds_estimate: f64,
    /// Changes that would make it fit, cheapest first; none when it fits, or no change is known.
    pub fixes: Vec<Fix>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Forecasts a run: reads the data and the model's shape, measures for half a second, and changes nothing.
///
/// # Errors
/// [`TrainError`]: what makes the run impossible, but for memory.
pub fn plan(request: TrainRequest) -> Result<RunPlan, TrainError> {
    let ground = Groundwork::lay(request, Purpose::Forecast, &mut |_| {})?;
    let forecast = ground.memory_model().forecast();
    let fixes = if forecast.memory.fits() { Vec::new() } else { ground.fixes()? };
    let seconds_estimate = seconds_estimate(&ground)?;
    Ok(RunPlan { forecast, seconds_estimate, fixes, warnings: ground.warnings })
}

/// A new model's surroundings.
fn new_model_artifacts(
    architecture: Architecture,
    text: &TextArtifacts,
    scratch: &Path,
) -> Result<ModelArtifacts, TrainError> {
    Ok(ModelArtifacts {
        architecture,
        hf_config: None,
        generation: generation_config(&text.tokenizer),
        text_files: text_files(text, scratch)?,
        adapter: None,
    })
}

/// The weights of a decoder that has only shapes, or maps a file: new ones, or copies in what they are trained in.
fn weights(
    outline: Decoder,
    origin: Option<&ModelArtifacts>,
    training: &TrainingConfig,
) -> Result<Decoder, TrainError> {
    match origin {
        Some(_) if training.adapter().is_none() => Ok(outline.into_owned(training.weights_dtype())),
        Some(_) => Ok(outline),
        None => {
            let config = outline.config().clone();
            drop(outline);
            let new = Decoder::initialise(config, training.seed)
                .map_err(|error| TrainError::Model(Box::new(error)))?;
            Ok(if training.adapter().is_none() { new.into_owned(training.weights_dtype()) } else { new })
        }
    }
}

/// A section of the config as JSON; it is made of plain values, so this cannot fail.
fn section<T: Serialize>(section: &T) -> Value {
    serde_json::to_value(section).unwrap_or_default()
}

fn identity(
    training: &TrainingConfig,
    model: &ModelConfig,
    plan: &StepPlan,
    text: &TextArtifacts,
    data: &TrainingData,
) -> Identity {
    let mut identity = Identity::of_training(training, plan);
    match training.training_type {
        TrainingType::FromScratch => {
            let section = &training.from_scratch;
            identity.add("training.from_scratch.size", section.size.name());
            let block = serde_json::to_string(&section.architecture).unwrap_or_default();
            identity.add("training.from_scratch.architecture", block);
            identity.add("training.from_scratch.vocab_size", section.vocab_size);
        }
        _ => identity.add("model.name", &model.name),
    }
    if let Some(format) = model.quantization() {
        identity.add("format of the frozen weights (model.load_in_4bit and so on)", format.name());
    }
    identity.add("training data (SHA-256 of the examples)", &data.train_sha256);
    identity.add("tokenizer (SHA-256)", text.tokenizer.content_hash());
    if let Some(template) = &text.template {
        identity.add("chat template (SHA-256)", template.content_hash());
    }
    if let Some(date) = text.template_date() {
        identity.add(TEMPLATE_DATE, date);
    }
    identity
}
