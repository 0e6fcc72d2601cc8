//! Opening a run: everything that can be known before its weights are in memory. The data becomes examples,
//! the model is read as shapes, and the steps are counted.

use parlor_kernels::memory::allocator;
use parlor_model::{Decoder, memory};
use parlor_text::DataConfig;

use super::Run;
use super::output_dir::{OutputDir, Start};
use super::request::{Purpose, TrainRequest, eval_path, refuse_own_source, require_possible, unstreamable};
use super::resume::find_checkpoint;
use super::weights::{base_model, mapped_model, new_model};
use crate::artifacts::{ModelArtifacts, TEMPLATE_DATE, attach};
use crate::checkpoint::Identity;
use crate::config::{Problem, TrainingType};
use crate::data::{Access, CacheEntry, CachedRows, EncodeSettings, RowReader, new_text_artifacts, only};
use crate::error::TrainError;
use crate::event::TrainEvent;
use crate::optim::rates;
use crate::plan::PassSizes;
use crate::steps::StepPlan;
use crate::trainer::LoopConfig;

impl Run {
    /// Opens the run that `request` describes.
    ///
    /// # Errors
    /// [`TrainError`]: everything that makes the run impossible, but for memory.
    pub(super) fn open(
        request: TrainRequest,
        purpose: Purpose,
        observer: &mut dyn FnMut(TrainEvent),
    ) -> Result<Self, TrainError> {
        let TrainRequest {
            training,
            model,
            max_length,
            data: data_config,
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
        if let Some(problem) = data_config.streaming.then(|| unstreamable(&training, &hyper)).flatten() {
            return Err(TrainError::Config(vec![problem]));
        }
        let start = match (&training.resume_from_checkpoint, start) {
            (Some(path), Start::New) => Start::ResumeFrom(path.clone()),
            (_, start) => start,
        };
        let output = match (purpose, collective.rank()) {
            (Purpose::Train, 0) => OutputDir::acquire(&training.output_dir)?,
            _ => OutputDir::unlocked(&training.output_dir),
        };
        refuse_own_source(&training, &model, output.path())?;
        let mut warnings = Vec::new();
        let resume = find_checkpoint(&output, &start, &mut warnings)?;

        let access = match (purpose, collective.rank()) {
            (Purpose::Train, 0) if training.training_type != TrainingType::Dpo => Access::ReadWrite,
            _ => Access::Read,
        };
        let cache = |name: &str, data: &DataConfig| CacheEntry::open(output.path(), name, access, data);
        let train_cache =
            || if data_config.streaming { CacheEntry::none() } else { cache("train", &data_config) };
        let entry = train_cache();
        let (reader, eval_split) = match data_config.streaming {
            true => RowReader::stream(&data_config)?,
            false => RowReader::open(&data_config, entry.statistics())?,
        };
        let mut train_rows = CachedRows { reader, cache: entry };
        warnings.extend(train_rows.reader.statistics.warnings.clone());
        let (mut decoder, mut artifacts, text) = match &resume {
            // An adapter's checkpoint holds no model: the base is loaded, as for a new run.
            Some(checkpoint) if training.adapter().is_none() => mapped_model(&checkpoint.path)?,
            _ if training.training_type == TrainingType::FromScratch => {
                let text = new_text_artifacts(&training.from_scratch, &train_rows.reader, &mut warnings)?;
                let (architecture, decoder) = new_model(&training, &text)?;
                (decoder, ModelArtifacts::of_new(architecture, &text), text)
            }
            _ => base_model(&training, &model, max_length, &mut warnings)?,
        };
        let recorded =
            resume.as_ref().and_then(|checkpoint| checkpoint.state.identity.get(TEMPLATE_DATE)).cloned();
        let text = text.with_template_kwargs(&model.template_kwargs()).with_date(&model, recorded.as_deref());
        // The zeros of a new model take no memory; weights that were converted while loading do.
        let converted_bytes = if artifacts.is_new() { 0 } else { owned_bytes(&decoder) };
        if let Some(section) = training.adapter() {
            let from = resume.as_ref().map(|checkpoint| checkpoint.path.as_path());
            let (id, found) = attach(
                &mut decoder,
                artifacts.architecture,
                section.adapter(&model.name),
                training.seed,
                from,
            )?;
            artifacts.adapter = Some(id);
            warnings.extend(found);
        }
        rates(&training, &hyper, &decoder).map_err(|problem| TrainError::Config(vec![problem]))?;

        let limit = decoder.config().max_position_embeddings;
        if data_config.max_length > limit {
            warnings.push(format!(
                "`data.max_length` is {}, but the model takes {limit} tokens: examples are cut there",
                data_config.max_length
            ));
        }
        // The other ranks wait until rank 0 has written its cache, and read that.
        if collective.rank() > 0 {
            collective.sum_f64(&mut [0.0]);
            train_rows.cache = train_cache();
        }
        let mut eval_rows = match eval_path(eval_data_path, &data_config, &mut warnings) {
            _ if eval_split.statistics.rows > 0 => {
                Some(CachedRows { reader: eval_split, cache: cache("eval", &data_config) })
            }
            Some(path) => {
                let cache = cache("eval", &only(&path, &data_config));
                let reader = RowReader::open_path(&path, &data_config, cache.statistics())?;
                warnings.extend(reader.statistics.warnings.clone());
                Some(CachedRows { reader, cache })
            }
            None => None,
        };
        let encoding = EncodeSettings {
            training: &training,
            data: &data_config,
            text: &text,
            max_length: data_config.max_length.min(limit),
            streamed_examples: StepPlan::examples_of(&hyper, collective.world_size()),
        };
        let data = encoding.encode(&mut train_rows, eval_rows.as_mut(), observer, &mut warnings)?;
        if collective.rank() == 0 {
            collective.sum_f64(&mut [0.0]);
        }
        let report = data.train_report.clone().unwrap_or_default();
        for (count, what) in [
            (report.truncated, "rows are cut at the longest length (`max_length`)"),
            (report.dropped, "rows are left out because they are longer than `max_length`"),
        ] {
            if count > 0 {
                warnings.push(format!("{count} {what}"));
            }
        }
        if training.load_best_model_at_end && data.eval_examples == 0 {
            let message =
                "it is true, but nothing is evaluated; name data in `data.eval_data_path`".to_owned();
            let key = "training.load_best_model_at_end".to_owned();
            return Err(TrainError::Config(vec![Problem { key, message }]));
        }
        let plan = StepPlan::new(data.examples.train_len(), &hyper, collective.world_size());
        let passes = PassSizes::of(&data.examples, &plan, &hyper, training.seed);
        let has_conversations = train_rows.reader.statistics.has_conversations;
        // Frees what only opening needed: resident pages of mapped files, and the rows as text.
        decoder.release();
        drop((train_rows, eval_rows));
        allocator::trim();
        let config = LoopConfig {
            training,
            hyper,
            identity: Identity::default(),
            collective,
            free_memory: memory::FreeMemory::default(),
            resume,
        };
        Ok(Self {
            config,
            model,
            data_config,
            monitoring,
            resolved_config,
            overwrite: start == Start::Overwrite,
            output,
            decoder,
            artifacts,
            text,
            has_conversations,
            data,
            plan,
            passes,
            converted_bytes,
            reference: None,
            warnings,
        })
    }
}

/// Bytes of weights in memory of the decoder's own.
fn owned_bytes(decoder: &Decoder) -> u64 {
    decoder.parameters().iter().map(|parameter| parameter.tensor.owned_bytes() as u64).sum()
}
