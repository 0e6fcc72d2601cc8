//! What a run is made of: rows of text, a tokenizer, a template, and the examples that come of them.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use parlor_model::{GenerationConfig, LoadedModel, TextFiles};
use parlor_text::{
    BatchLimits, BpeOptions, ChatTemplate, DataConfig, DataReport, DataType, EncodeOptions, EncodeReport,
    Encoder, Example, OnBadRow, ReadOptions, RowKind, SourcedRow, Tokenizer, encode_pretraining, encode_sft,
    read_batches, train_bpe,
};
use serde_json::{Map, Value};

use crate::config::{FromScratchConfig, TrainOn, TrainingType};
use crate::error::TrainError;
use crate::row_feed::{RowReader, TextSample};
use crate::storage::{FillError, TEMPORARY_PREFIX, remove};

/// Rows that were read for one purpose.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Usable rows of the kinds asked for.
    pub rows: Vec<SourcedRow>,
    /// What was read.
    pub report: DataReport,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// The text side of a model.
#[derive(Clone, Debug)]
pub struct TextArtifacts {
    /// Text to ids.
    pub tokenizer: Tokenizer,
    /// Conversations to text.
    pub template: Option<ChatTemplate>,
}

pub(crate) fn data_error(what: impl Into<String>, source: impl Into<FillError>) -> TrainError {
    TrainError::Data { what: what.into(), source: source.into() }
}

/// Problems shown in a message; the count is of all.
const SHOWN_PROBLEMS: usize = 20;

/// Reads the rows at `path`, of the kinds that `data.data_types` names.
///
/// # Errors
/// When nothing can be read, rows are bad and `data.on_bad_row` is `error`, or no row is left.
pub fn read_rows(path: &Path, data: &DataConfig) -> Result<Rows, TrainError> {
    read_rows_with(path, data, &data.read_options())
}

/// The same, with options of the rows' own.
///
/// # Errors
/// Those of [`read_rows`].
pub fn read_rows_with(path: &Path, data: &DataConfig, options: &ReadOptions) -> Result<Rows, TrainError> {
    let mut rows = Vec::new();
    let Scan { report, warnings } = scan_rows(path, data, options, BatchLimits::NONE, &mut |batch| {
        rows = batch;
        ControlFlow::Continue(())
    })?;
    Ok(Rows { rows, report, warnings })
}

/// What was met while rows were read.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    /// What was read.
    pub(crate) report: DataReport,
    /// What the user should know.
    pub(crate) warnings: Vec<String>,
}

/// The same, batch by batch: rows were handed to `take` before it is known whether others are bad. Nothing is said of the
/// whole when `take` breaks.
pub(crate) fn scan_rows(
    path: &Path,
    data: &DataConfig,
    options: &ReadOptions,
    limits: BatchLimits,
    take: &mut dyn FnMut(Vec<SourcedRow>) -> ControlFlow<()>,
) -> Result<Scan, TrainError> {
    let wanted = |kinds: &[DataType]| kinds.iter().any(|kind| data.data_types.contains(kind));
    let (chat, text) = (wanted(&[DataType::Chat]), wanted(&[DataType::Documents, DataType::Reports]));
    let (mut left, mut flow) = (0, ControlFlow::Continue(()));
    let report = read_batches(path, options, limits, &mut |mut rows| {
        let before = rows.len();
        rows.retain(|row| if row.row.kind() == RowKind::Text { text } else { chat });
        left += before - rows.len();
        if !rows.is_empty() {
            flow = take(rows);
        }
        flow
    });
    let report = report.map_err(|error| data_error("cannot read the data", error))?;
    let mut warnings: Vec<String> = not_used(&report);
    let may_lack = flow.is_break() && data.on_bad_row == OnBadRow::Error;
    if report.problem_count > 0 && !may_lack {
        let shown = report.problems.iter().take(SHOWN_PROBLEMS).map(|problem| format!("\n  {problem}"));
        let mut text: String = shown.collect();
        let more = report.problem_count.saturating_sub(SHOWN_PROBLEMS.min(report.problems.len()));
        if more > 0 {
            text.push_str(&format!("\n  and {more} more"));
        }
        let count = report.problem_count;
        if data.on_bad_row == OnBadRow::Error {
            let rows = if count == 1 { "row" } else { "rows" };
            let what = format!("{} holds {count} bad {rows}", path.display());
            let help = format!("{text}\n  correct them, or leave them out by `data.on_bad_row: skip`");
            return Err(data_error(what, help));
        }
        warnings.push(format!("{count} bad rows of {} are left out:{text}", path.display()));
    }
    if flow.is_break() {
        return Ok(Scan { report, warnings });
    }
    if !report.ignored.is_empty() {
        warnings.push(format!("{} files of other formats are left alone", report.ignored.len()));
    }
    let before = report.rows;
    if left == before {
        let what = format!("{}: `data.data_types` leaves out all {before} rows", path.display());
        return Err(TrainError::Nothing(what));
    }
    if left > 0 {
        warnings.push(format!("`data.data_types` leaves out {left} of {before} rows of {}", path.display()));
    }
    Ok(Scan { report, warnings })
}

/// What of the files is not used: the first lines, and the number of the others.
fn not_used(report: &DataReport) -> Vec<String> {
    let mut lines: Vec<String> = report.not_used_lines().take(SHOWN_PROBLEMS).collect();
    let more = report.not_used_lines().count() - lines.len();
    if more > 0 {
        lines.push(format!("columns of {more} more files are not used"));
    }
    lines
}

/// Turns rows into examples, on `threads` threads (0: all cores).
///
/// # Errors
/// When a row cannot be encoded, or no token would be trained.
pub fn encode_rows(
    rows: &[SourcedRow],
    text: &TextArtifacts,
    training_type: TrainingType,
    options: &EncodeOptions,
    threads: usize,
) -> Result<(Vec<Example>, EncodeReport), TrainError> {
    let encode = || match training_type {
        TrainingType::FromScratch => {
            encode_pretraining(rows, &text.tokenizer, text.template.as_ref(), options)
        }
        _ => encode_sft(rows, &text.tokenizer, text.template.as_ref(), options),
    };
    in_threads(threads, encode)?.map_err(|error| data_error("cannot use the data", error))
}

/// What turns rows into the examples of a training type, batch by batch.
pub(crate) fn encoder(
    text: &TextArtifacts,
    training_type: TrainingType,
    options: EncodeOptions,
) -> Encoder<'_> {
    let TextArtifacts { tokenizer, template } = text;
    match training_type {
        TrainingType::FromScratch => Encoder::pretraining(tokenizer, template.as_ref(), options),
        _ => Encoder::sft(tokenizer, template.as_ref(), options),
    }
}

pub(crate) fn in_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> Result<T, TrainError> {
    Ok(pool(threads)?.install(work))
}

/// So many threads; 0 is all cores.
pub(crate) fn pool(threads: usize) -> Result<rayon::ThreadPool, TrainError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|error| data_error("cannot start `dataloader_num_workers` threads", error))
}

/// The rule for which tokens count, as parlor-text has it.
pub fn train_on(config: TrainOn) -> parlor_text::TrainOn {
    match config {
        TrainOn::AssistantOnly => parlor_text::TrainOn::AssistantOnly,
        TrainOn::All => parlor_text::TrainOn::All,
    }
}

/// Bytes of text that a tokenizer is trained on at most.
const TOKENIZER_TEXT: u64 = 256 << 20;

/// The tokenizer of a new model: the one that the config names, or a byte-level BPE trained on `rows`, of more than 256
/// MiB of text on a sample of that size. Its template is its own, or ChatML.
///
/// # Errors
/// When the tokenizer cannot be read or trained.
pub(crate) fn new_text_artifacts(
    config: &FromScratchConfig,
    rows: &RowReader,
    warnings: &mut Vec<String>,
) -> Result<TextArtifacts, TrainError> {
    let failed = |error: FillError| data_error("cannot make the tokenizer", error);
    let (tokenizer, own) = match &config.tokenizer {
        Some(path) if path.is_dir() => {
            let tokenizer = Tokenizer::from_dir(path).map_err(|error| failed(Box::new(error)))?;
            let template =
                ChatTemplate::from_dir(path, &tokenizer).map_err(|error| failed(Box::new(error)))?;
            (tokenizer, template)
        }
        Some(path) => (Tokenizer::from_file(path).map_err(|error| failed(Box::new(error)))?, None),
        None => {
            let options = BpeOptions { vocab_size: config.vocab_size, ..BpeOptions::default() };
            let sample = rows.sample(TOKENIZER_TEXT);
            let mebibytes = TOKENIZER_TEXT >> 20;
            let of = match sample {
                TextSample::Share(share) if share < 1.0 => {
                    Some(format!("{:.1}% of the rows, about {mebibytes} MiB of their text", share * 100.0))
                }
                TextSample::Share(_) => None,
                TextSample::First(_) => {
                    Some(format!("the first {mebibytes} MiB of text, where there is so much"))
                }
            };
            warnings.extend(of.map(|of| format!("the tokenizer is trained on {of}")));
            let tokenizer = rows.texts(sample, |texts| train_bpe(texts, &options))?;
            let tokenizer = tokenizer.map_err(|error| failed(Box::new(error)))?;
            (tokenizer, None)
        }
    };
    let template = match own {
        Some(template) => template,
        None => ChatTemplate::chatml(&tokenizer).map_err(|error| failed(Box::new(error)))?,
    };
    Ok(TextArtifacts { tokenizer, template: Some(template) })
}

impl TextArtifacts {
    /// The same with values for variables of the template (`model.chat_template_kwargs`).
    #[must_use]
    pub fn with_template_kwargs(mut self, kwargs: &Map<String, Value>) -> Self {
        self.template = self.template.map(|template| template.with_kwargs(kwargs));
        self
    }

    /// That of a loaded model.
    ///
    /// # Errors
    /// [`TrainError::Model`] when it has no tokenizer.
    pub fn of(model: &LoadedModel) -> Result<Self, TrainError> {
        let Some(tokenizer) = model.tokenizer.clone() else {
            let directory = model.path.display();
            let message = format!("{directory}: there is no tokenizer; put the model's tokenizer.json there");
            return Err(TrainError::Model(message.into()));
        };
        Ok(Self { tokenizer, template: model.chat_template.clone() })
    }
}

/// The files of a new model's text side, as its directories will hold them. `scratch` is a directory that can be
/// written to.
///
/// # Errors
/// When they cannot be written or read back.
pub fn text_files(text: &TextArtifacts, scratch: &Path) -> Result<TextFiles, TrainError> {
    let directory: PathBuf = scratch.join(format!("{TEMPORARY_PREFIX}tokenizer-{}", std::process::id()));
    let make = || -> Result<TextFiles, FillError> {
        std::fs::create_dir_all(&directory)?;
        text.tokenizer.save(&directory)?;
        let mut files = TextFiles::read(&directory)?;
        if let Some(template) = &text.template {
            files.set("chat_template.jinja", template.source().as_bytes().to_vec());
        }
        Ok(files)
    };
    let files = make();
    remove(&directory);
    files.map_err(|error| data_error("cannot write the tokenizer", error))
}

/// Special tokens and sampling settings of a new model: it ends at its tokenizer's end, and at the end of a ChatML turn. Drawn
/// from its whole distribution, answers of a small model go astray; without a draw they run in circles.
pub fn generation_config(tokenizer: &Tokenizer) -> GenerationConfig {
    let eos = tokenizer.eos().map(|token| token.id);
    let mut ends: Vec<u32> = eos.into_iter().chain(tokenizer.id("<|im_end|>")).collect();
    ends.dedup();
    GenerationConfig {
        bos_token_id: tokenizer.bos().map(|token| token.id),
        eos_token_ids: ends,
        pad_token_id: tokenizer.pad().map(|token| token.id).or(eos),
        do_sample: Some(true),
        temperature: Some(0.7),
        top_k: Some(50),
        top_p: Some(0.9),
        ..GenerationConfig::default()
    }
}
