//! Evaluation of a model on a file of rows.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use parlor_model::{MaxLength, ModelConfig, ModelManager, Workspace};
use parlor_text::{DataConfig, EncodeOptions};
use serde::Serialize;

use crate::artifacts::{TextArtifacts, trained_date};
use crate::config::{TrainOn, TrainingType};
use crate::data::{CacheEntry, CachedRows, EncodedSequences, RowReader, SequenceEncoder};
use crate::distributed::Alone;
use crate::error::TrainError;
use crate::evaluation::evaluate_examples;
use crate::objectives::CrossEntropy;

/// What is evaluated, and how.
#[derive(Clone, Debug)]
pub struct EvaluateRequest {
    /// Section `model:`; its name is the model.
    pub model: ModelConfig,
    /// How `model.max_length` applies; only the caller knows whether the user chose it.
    pub max_length: MaxLength,
    /// Adapters to attach, directories in PEFT's layout.
    pub adapters: Vec<PathBuf>,
    /// Rows to evaluate on.
    pub data_path: PathBuf,
    /// Section `data:`: kinds, lengths, bad rows.
    pub data: DataConfig,
    /// Which tokens of conversations count.
    pub train_on: TrainOn,
    /// Examples per forward pass.
    pub batch_size: usize,
    /// Threads that turn text into tokens; 0 is all cores.
    pub threads: usize,
}

/// Loss and speed of an evaluation, as `parlor eval --json` prints them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvaluateSummary {
    /// Mean negative log-probability per counted token, in nats.
    pub loss: f64,
    /// Its exponential.
    pub perplexity: f64,
    /// Counted tokens.
    pub tokens: u64,
    /// Tokens per second through the model, counted or not.
    pub tokens_per_second: f64,
}

/// Evaluates a model on rows, which are read and encoded as training does. None when `stop` was set.
///
/// # Errors
/// When model or data cannot be used, or the loss is not finite.
///
/// # Examples
/// ```no_run
/// use std::sync::atomic::AtomicBool;
///
/// use parlor_model::{MaxLength, ModelConfig};
/// use parlor_text::DataConfig;
/// use parlor_train::config::TrainOn;
/// use parlor_train::{EvaluateRequest, evaluate};
///
/// let request = EvaluateRequest {
///     model: ModelConfig { name: "models/trained".to_owned(), ..ModelConfig::default() },
///     max_length: MaxLength::AtMost(2048),
///     adapters: Vec::new(),
///     data_path: "eval.jsonl".into(),
///     data: DataConfig::default(),
///     train_on: TrainOn::AssistantOnly,
///     batch_size: 8,
///     threads: 0,
/// };
/// if let Some(summary) = evaluate(&request, &AtomicBool::new(false))? {
///     println!("perplexity {:.2} over {} tokens", summary.perplexity, summary.tokens);
/// }
/// # Ok::<(), parlor_train::TrainError>(())
/// ```
pub fn evaluate(request: &EvaluateRequest, stop: &AtomicBool) -> Result<Option<EvaluateSummary>, TrainError> {
    let reader = RowReader::open_path(&request.data_path, &request.data, None)?;
    for warning in &reader.statistics.warnings {
        tracing::warn!("{warning}");
    }
    let options = request.model.load_options(request.max_length);
    let manager =
        ModelManager::with_options(request.model.clone(), options).with_adapters(request.adapters.clone());
    let model = manager.load_model().map_err(|error| TrainError::Model(Box::new(error)))?;
    let of_adapter = || request.adapters.iter().find_map(|path| trained_date(Path::new(path)));
    let recorded = trained_date(&model.path).or_else(of_adapter);
    let text = TextArtifacts::of(&model)?
        .with_template_kwargs(&request.model.template_kwargs())
        .with_date(&request.model, recorded.as_deref());
    let encoder = SequenceEncoder {
        text: &text,
        training_type: TrainingType::Sft,
        options: EncodeOptions {
            max_length: request.data.max_length.min(model.max_length),
            batch_size: request.data.batch_size,
            train_on: request.train_on.into(),
            on_long_row: request.data.on_long_row,
            on_bad_row: request.data.on_bad_row,
        },
        threads: request.threads,
    };
    let (mut rows, mut warnings) = (CachedRows { reader, cache: CacheEntry::none() }, Vec::new());
    let EncodedSequences { sequences, .. } = encoder.encode(&mut rows, &mut |_| {}, &mut warnings)?;
    drop(rows);
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let mut workspace = Workspace::default();
    let evaluation = evaluate_examples(
        &CrossEntropy,
        &model.decoder,
        &sequences,
        request.batch_size,
        &mut workspace,
        stop,
        &Alone,
    )
    .map_err(|source| TrainError::Batch {
        rows: vec![request.data_path.display().to_string()],
        source: Box::new(source),
    })?;
    if let Some(broken) = evaluation.as_ref().filter(|evaluation| !evaluation.loss.is_finite()) {
        return Err(TrainError::EvaluatedNonFinite {
            data: request.data_path.display().to_string(),
            loss: broken.loss,
            why: model.why_not_finite(),
        });
    }
    Ok(evaluation.map(|evaluation| EvaluateSummary {
        loss: evaluation.loss,
        perplexity: evaluation.perplexity(),
        tokens: evaluation.weight.round() as u64,
        tokens_per_second: evaluation.tokens_per_second(),
    }))
}
