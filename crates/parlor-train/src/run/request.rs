//! What a run is asked to do, and the values that are refused before anything is read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parlor_model::{MaxLength, ModelConfig};
use parlor_text::DataConfig;
use parlor_track::MonitoringConfig;

use super::output_dir::Start;
use crate::config::{Hyperparameters, Problem, TrainingConfig, TrainingType, problems, unsupported};
use crate::distributed::Collective;
use crate::error::TrainError;

/// What a run is asked to do: the configuration, and what the caller adds to it.
#[derive(Clone, Debug)]
pub struct TrainRequest {
    /// Section `training:`.
    pub training: TrainingConfig,
    /// Section `model:`.
    pub model: ModelConfig,
    /// How `model.max_length` applies; only the caller knows whether the user chose it.
    pub max_length: MaxLength,
    /// Section `data:`.
    pub data: DataConfig,
    /// Evaluation data that the user chose, which must exist. None takes `data.eval_data_path` when that
    /// exists, and evaluates nothing otherwise.
    pub eval_data_path: Option<PathBuf>,
    /// What to do with an output directory that holds a run already.
    pub start: Start,
    /// Number of steps, which overrides the config's.
    pub max_steps: Option<u64>,
    /// Section `monitoring:`.
    pub monitoring: MonitoringConfig,
    /// The whole config as YAML, for `config.resolved.yaml`.
    pub resolved_config: String,
    /// The ranks that train together.
    pub collective: Arc<dyn Collective>,
}

/// What a run is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To train, which locks the output directory.
    Train,
    /// To forecast, which leaves the directory alone.
    Forecast,
}

/// Refuses values of the config that cannot work, or not in this build.
pub(super) fn require_possible(
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

/// Why the examples of this run cannot be streamed; none when they can.
pub(super) fn unstreamable(training: &TrainingConfig, hyper: &Hyperparameters) -> Option<Problem> {
    let message = if training.training_type == TrainingType::Dpo {
        "preference rows are compared with a reference before training begins: set it to false".to_owned()
    } else if hyper.max_steps <= 0 {
        let section = training.training_type;
        format!(
            "the number of steps of an epoch is unknown: set `training.{section}.max_steps` (or `--max-steps`)"
        )
    } else {
        return None;
    };
    Some(Problem { key: "data.streaming".to_owned(), message })
}

/// Quantized weights take no gradient steps.
fn quantized_but_trained(training: &TrainingConfig, model: &ModelConfig) -> Option<Problem> {
    model.quantization().filter(|_| training.adapter().is_none())?;
    let key = if model.load_in_4bit { "model.load_in_4bit" } else { "model.load_in_8bit" };
    let message = "quantized weights cannot be trained, only an adapter with them: set `training.training_type` to \
                   `lora`, or this to false";
    Some(Problem { key: key.to_owned(), message: message.to_owned() })
}

/// Refuses an output directory that is the base model's, whose weights training would replace.
pub(super) fn refuse_own_source(
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

/// The evaluation data to use; none when it is missing, with a warning, or comes from `data.val_size`.
pub(super) fn eval_path(
    chosen: Option<PathBuf>,
    data: &DataConfig,
    warnings: &mut Vec<String>,
) -> Option<PathBuf> {
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
