//! From a config to a run that is ready to start: everything that can be refused is refused here, before anything
//! in the output directory is changed.
//!
//! [`prepare`] holds the output directory, reads the data, makes or loads the model (from a checkpoint, when the run
//! goes on from one), and encodes. [`Prepared::run`](crate::Prepared::run) is the rest.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parlor_model::{Decoder, LoadOptions, MaxLength, ModelConfig, ModelManager};
use parlor_text::{DataConfig, EncodeOptions, EncodeReport, Example, RowKind};
use parlor_track::MonitoringConfig;
use serde::Serialize;
use serde_json::Value;

use crate::adapter::attach;
use crate::checkpoint::{Checkpoint, list_checkpoints, newest_checkpoint, open_checkpoint};
use crate::config::{Problem, TrainingConfig, TrainingType, problems, unsupported};
use crate::distributed::Collective;
use crate::error::TrainError;
use crate::identity::{Identity, examples_sha256};
use crate::materials::{
    TextSide, encode_rows, generation_config, new_text_side, read_rows, text_files, train_on,
};
use crate::objectives::CrossEntropy;
use crate::optimizer::rates;
use crate::output_dir::{OutputDir, Start};
use crate::prepared::Prepared;
use crate::steps::StepPlan;
use crate::surroundings::Surroundings;
use crate::training_rows::{TrainingRows, read_training_rows};

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

/// Data of a run.
#[derive(Clone, Debug)]
pub struct RunData {
    /// Training examples, at least one.
    pub train: Vec<Example>,
    /// What came of the training rows.
    pub train_report: EncodeReport,
    /// Hash of the training examples.
    pub train_sha256: String,
    /// Evaluation examples; none means no evaluation.
    pub eval: Vec<Example>,
    /// Hash of the evaluation examples.
    pub eval_sha256: Option<String>,
}

/// Prepares a run.
///
/// # Errors
/// [`TrainError`]: everything that makes the run impossible; nothing was changed then, except that the output
/// directory may have been made.
pub fn prepare(request: TrainRequest) -> Result<Prepared, TrainError> {
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
    let mut found = problems(&training);
    if max_steps == Some(0) {
        let message = "it is 0; take at least one step".to_owned();
        found.push(Problem { key: "--max-steps".to_owned(), message });
    }
    if !found.is_empty() {
        return Err(TrainError::Config(found));
    }
    let mut missing = unsupported(&training);
    missing.extend(monitoring.unsupported().into_iter().map(|found| Problem {
        key: found.key.to_owned(),
        message: format!("{}; {}", found.why, found.help),
    }));
    if !missing.is_empty() {
        return Err(TrainError::Unsupported(missing));
    }
    let mut hyper = training.hyperparameters();
    if let Some(steps) = max_steps {
        hyper.max_steps = i64::try_from(steps).unwrap_or(i64::MAX);
    }
    let start = match (&training.resume_from_checkpoint, start) {
        (Some(path), Start::New) => Start::ResumeFrom(path.clone()),
        (_, start) => start,
    };
    let output = match collective.rank() {
        0 => OutputDir::hold(&training.output_dir)?,
        _ => OutputDir::of_rank_0(&training.output_dir),
    };
    refuse_own_source(&training, &model, output.path())?;
    let mut warnings = Vec::new();
    let resume = find_checkpoint(&output, &start, &mut warnings)?;

    let TrainingRows { train: rows, eval: kept } = read_training_rows(&data)?;
    warnings.extend(rows.warnings);
    let (mut decoder, mut surroundings, text) = match &resume {
        // A checkpoint of an adapter holds no model: the base is loaded below, as for a new run.
        Some(checkpoint) if training.adapter().is_none() => Surroundings::load(&checkpoint.path)?,
        _ if training.training_type == TrainingType::FromScratch => {
            let text = new_text_side(&training.from_scratch, &rows.rows)?;
            let (decoder, surroundings) = new_model(&training, &text, output.path())?;
            (decoder, surroundings, text)
        }
        _ => base_model(&training, &model, max_length, &mut warnings)?,
    };
    if let Some(section) = training.adapter() {
        let from = resume.as_ref().map(|checkpoint| checkpoint.path.as_path());
        let (id, found) =
            attach(&mut decoder, surroundings.architecture, (section, &model.name), training.seed, from)?;
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
    let options = EncodeOptions {
        max_length: data.max_length.min(limit),
        batch_size: data.batch_size,
        train_on: train_on(training.sft.train_on),
    };
    let encode = |rows: &[parlor_text::SourcedRow]| {
        encode_rows(rows, &text, training.training_type, &options, training.dataloader_num_workers)
    };
    let (train, train_report) = encode(&rows.rows)?;
    for (count, what) in [
        (train_report.truncated, "rows are cut at `data.max_length`"),
        (train_report.untrained, "rows are left out because no token of them would be trained"),
    ] {
        if count > 0 {
            warnings.push(format!("{count} {what}"));
        }
    }
    let eval = match eval_path(eval_data_path, &data, &mut warnings) {
        _ if !kept.is_empty() => encode(&kept)?.0,
        Some(path) => {
            let rows = read_rows(&path, &data)?;
            warnings.extend(rows.warnings);
            encode(&rows.rows)?.0
        }
        None => Vec::new(),
    };
    if training.load_best_model_at_end && eval.is_empty() {
        let message = "it is true, but nothing is evaluated; name data in `data.eval_data_path`".to_owned();
        let key = "training.load_best_model_at_end".to_owned();
        return Err(TrainError::Config(vec![Problem { key, message }]));
    }
    let run_data = RunData {
        train_sha256: examples_sha256(&CrossEntropy, &train),
        eval_sha256: (!eval.is_empty()).then(|| examples_sha256(&CrossEntropy, &eval)),
        train,
        train_report,
        eval,
    };

    let plan = StepPlan::new(run_data.train.len(), &hyper, collective.world_size());
    let identity = identity(&training, &model, &plan, &text, &run_data);
    if let Some(checkpoint) = &resume {
        let differences = identity.differences(&checkpoint.state.identity);
        if !differences.is_empty() {
            return Err(TrainError::Changed { checkpoint: checkpoint.path.clone(), differences });
        }
    }
    Ok(Prepared {
        training,
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
        converses: rows.rows.iter().any(|row| row.row.kind() != RowKind::Text),
        text,
        sampler: None,
        collective,
    })
}

/// A section of the config as JSON; it is made of plain values, so this cannot fail.
fn section<T: Serialize>(section: &T) -> Value {
    serde_json::to_value(section).unwrap_or_default()
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

fn new_model(
    training: &TrainingConfig,
    text: &TextSide,
    scratch: &Path,
) -> Result<(Decoder, Surroundings), TrainError> {
    let failed = |error: crate::storage::FillError| TrainError::Model(error);
    let section = &training.from_scratch;
    let block = section.architecture.clone().unwrap_or_default();
    let (architecture, config) =
        block.resolve(section.size, text.tokenizer.vocab_size()).map_err(|error| failed(Box::new(error)))?;
    let decoder = Decoder::initialise(config, training.seed).map_err(|error| failed(Box::new(error)))?;
    let surroundings = Surroundings {
        architecture,
        hf_config: None,
        generation: generation_config(&text.tokenizer),
        text_files: text_files(text, scratch)?,
        adapter: None,
    };
    Ok((decoder, surroundings))
}

fn base_model(
    training: &TrainingConfig,
    config: &ModelConfig,
    max_length: MaxLength,
    warnings: &mut Vec<String>,
) -> Result<(Decoder, Surroundings, TextSide), TrainError> {
    // Frozen weights may be narrow, and stay where they are.
    let options = match training.adapter() {
        Some(_) => LoadOptions { dtype: config.torch_dtype, max_length, ..LoadOptions::default() },
        None => LoadOptions { max_length, ..LoadOptions::for_training() },
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
        Err(_) => Surroundings::load(&path),
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

fn identity(
    training: &TrainingConfig,
    model: &ModelConfig,
    plan: &StepPlan,
    text: &TextSide,
    data: &RunData,
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
    identity.add("training data (SHA-256 of the examples)", &data.train_sha256);
    identity.add("tokenizer (SHA-256)", text.tokenizer.content_hash());
    if let Some(template) = &text.template {
        identity.add("chat template (SHA-256)", template.content_hash());
    }
    identity
}
