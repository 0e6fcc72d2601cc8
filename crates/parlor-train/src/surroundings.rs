//! The model in training: the decoder, and everything else that its directory holds.

use std::path::Path;

use parlor_model::Architecture;
use parlor_model::{
    AdapterId, Decoder, GenerationConfig, LoadOptions, LoadedModel, MAX_SHARD_BYTES, SaveModel, TextFiles,
    load_directory, save_adapter, save_directory,
};
use serde_json::{Map, Value};

use crate::error::TrainError;
use crate::materials::TextArtifacts;
use crate::storage::FillError;

/// A model less its decoder, which the loop changes: what [`Self::save`] puts beside the weights.
#[derive(Clone, Debug)]
pub struct ModelArtifacts {
    /// Family.
    pub architecture: Architecture,
    /// The `config.json` it came from; none for a new model.
    pub hf_config: Option<Map<String, Value>>,
    /// Special tokens and sampling defaults.
    pub generation: GenerationConfig,
    /// Tokenizer and chat template.
    pub text_files: TextFiles,
    /// The adapter that is trained, and so what is saved.
    pub adapter: Option<AdapterId>,
}

impl ModelArtifacts {
    /// Writes a model directory: weights in HF layout, config, tokenizer, template. Of a run that trains an adapter: the
    /// adapter in PEFT's layout, tokenizer, template.
    ///
    /// # Errors
    /// What the writer says.
    pub fn save(&self, decoder: &Decoder, directory: &Path) -> Result<(), FillError> {
        if let Some(id) = self.adapter {
            let saved = save_adapter(directory, decoder, id, &self.text_files);
            return saved.map_err(|error| Box::new(error) as FillError);
        }
        let model = SaveModel {
            decoder,
            architecture: self.architecture,
            hf_config: self.hf_config.as_ref(),
            generation: &self.generation,
            text_files: &self.text_files,
            dtype: None,
            max_shard_bytes: MAX_SHARD_BYTES,
        };
        save_directory(directory, &model).map_err(|error| Box::new(error) as FillError)
    }

    /// Takes a loaded model apart: decoder, surroundings, and the text side that its text files hold.
    ///
    /// # Errors
    /// [`TrainError::Model`] when it has no tokenizer.
    pub fn split(model: LoadedModel) -> Result<(Decoder, Self, TextArtifacts), TrainError> {
        let text = TextArtifacts::of(&model)?;
        let LoadedModel { decoder, architecture, hf_config, generation, text_files, .. } = model;
        Ok((
            decoder,
            Self { architecture, hf_config: Some(hf_config), generation, text_files, adapter: None },
            text,
        ))
    }

    /// Reads the model in `directory` for training: f32, in memory of its own.
    ///
    /// # Errors
    /// [`TrainError::Model`] with what the loader says.
    pub fn load(directory: &Path) -> Result<(Decoder, Self, TextArtifacts), TrainError> {
        let model = load_directory(directory, &LoadOptions::for_training());
        Self::split(model.map_err(|error| TrainError::Model(Box::new(error)))?)
    }
}
