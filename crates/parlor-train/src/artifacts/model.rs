//! What a model's directory holds beside the weights, and writing such a directory.

use std::path::Path;

use parlor_model::Architecture;
use parlor_model::{
    AdapterId, Decoder, GenerationConfig, LoadedModel, MAX_SHARD_BYTES, SaveModel, TextFiles, save_adapter,
    save_directory,
};
use serde_json::{Map, Value};

use super::text::TextArtifacts;
use crate::error::TrainError;
use parlor_files::FillError;

/// A model without its decoder, which the loop changes: everything that [`Self::save`] writes beside the weights.
#[derive(Clone, Debug)]
pub struct ModelArtifacts {
    /// Family of the model.
    pub architecture: Architecture,
    /// The `config.json` that the model came with; none for a new model.
    pub hf_config: Option<Map<String, Value>>,
    /// Special tokens and sampling defaults.
    pub generation: GenerationConfig,
    /// Tokenizer and chat template.
    pub text_files: TextFiles,
    /// The adapter that is trained, and then the only thing that is saved.
    pub adapter: Option<AdapterId>,
}

impl ModelArtifacts {
    /// Those of a new model, whose text files are still to be written.
    pub(crate) fn of_new(architecture: Architecture, text: &TextArtifacts) -> Self {
        Self {
            architecture,
            hf_config: None,
            generation: text.generation_config(),
            text_files: TextFiles::default(),
            adapter: None,
        }
    }

    /// Whether the model is new and has no weights yet.
    pub(crate) fn is_new(&self) -> bool {
        self.hf_config.is_none()
    }

    /// Writes a model directory: weights in HF layout, config, tokenizer, template. When an adapter is
    /// trained: the adapter in PEFT's layout, tokenizer, template.
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

    /// Takes a loaded model apart.
    ///
    /// # Errors
    /// [`TrainError::Model`] when it has no tokenizer.
    pub fn split(model: LoadedModel) -> Result<(Decoder, Self, TextArtifacts), TrainError> {
        let text = TextArtifacts::of(&model)?;
        let LoadedModel { decoder, architecture, hf_config, generation, text_files, .. } = model;
        let artifacts =
            Self { architecture, hf_config: Some(hf_config), generation, text_files, adapter: None };
        Ok((decoder, artifacts, text))
    }
}
