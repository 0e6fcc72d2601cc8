//! Tokenizer and chat template of a model, and the date that the template reads.
//!
//! A template that reads the clock (`strftime_now`) gets one date for the whole run: the day on which the run
//! began, or `model.chat_template_date`. A run that is resumed on another day then renders the same texts and
//! ends with the same bytes, and an evaluation of its model renders the texts that it was trained on.

use std::path::{Path, PathBuf};

use jiff::civil::{Date, DateTime};
use parlor_model::{GenerationConfig, LoadedModel, ModelConfig, TextFiles};
use parlor_text::{ChatTemplate, Tokenizer};
use serde_json::{Map, Value};

use crate::error::TrainError;
use parlor_files::atomic_file::TEMPORARY_PREFIX;
use parlor_files::{FillError, atomic_dir};

/// Tokenizer and chat template.
#[derive(Clone, Debug)]
pub struct TextArtifacts {
    /// Text to ids.
    pub tokenizer: Tokenizer,
    /// Conversations to text.
    pub template: Option<ChatTemplate>,
}

impl TextArtifacts {
    /// Those of a loaded model.
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

    /// Sets variables of the template (`model.chat_template_kwargs`).
    #[must_use]
    pub fn with_template_kwargs(mut self, kwargs: &Map<String, Value>) -> Self {
        self.template = self.template.map(|template| template.with_kwargs(kwargs));
        self
    }

    /// Sets the date that the template reads: `model.chat_template_date`, else `recorded` (of the run that is
    /// resumed or whose model is evaluated), else today.
    #[must_use]
    pub fn with_date(mut self, model: &ModelConfig, recorded: Option<&str>) -> Self {
        let date = |text: &str| text.parse::<Date>().ok();
        let chosen = model.chat_template_date.as_deref();
        self.template = self.template.map(|template| match template.reads_clock() {
            true => {
                let date = chosen.and_then(date).or_else(|| recorded.and_then(date));
                template.with_now(DateTime::from(date.unwrap_or_else(|| jiff::Zoned::now().date())))
            }
            false => template,
        });
        self
    }

    /// The date that the template reads, as `2026-01-31`; none when it reads none.
    pub fn template_date(&self) -> Option<String> {
        Some(self.template.as_ref()?.now()?.date().to_string())
    }

    /// The files that a new model's directories hold. `scratch` is a writable directory; nothing is left in it.
    ///
    /// # Errors
    /// When the files cannot be written or read back.
    pub(crate) fn files(&self, scratch: &Path) -> Result<TextFiles, TrainError> {
        let directory: PathBuf = scratch.join(format!("{TEMPORARY_PREFIX}tokenizer-{}", std::process::id()));
        let make = || -> Result<TextFiles, FillError> {
            std::fs::create_dir_all(&directory)?;
            self.tokenizer.save(&directory)?;
            let mut files = TextFiles::read(&directory)?;
            if let Some(template) = &self.template {
                files.set("chat_template.jinja", template.source().as_bytes().to_vec());
            }
            Ok(files)
        };
        let files = make();
        atomic_dir::remove(&directory);
        files.map_err(|error| TrainError::data("cannot write the tokenizer", error))
    }

    /// Special tokens and sampling settings of a new model: it ends at its tokenizer's EOS and at the end of
    /// a ChatML turn. Sampling is moderate, because small models ramble at full temperature and repeat
    /// themselves when greedy.
    pub(crate) fn generation_config(&self) -> GenerationConfig {
        let tokenizer = &self.tokenizer;
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
}
