//! The model that a run starts from: a new one, a base model, or a checkpoint's. First as shapes or mapped
//! files, then as weights in memory.

use std::path::Path;
use std::sync::Arc;

use parlor_model::Architecture;
use parlor_model::{Decoder, LoadOptions, MaxLength, ModelConfig, ModelManager, load_path};

use crate::artifacts::{ModelArtifacts, TextArtifacts};
use crate::config::TrainingConfig;
use crate::error::TrainError;

/// A new model without weights.
pub(super) fn new_model(
    training: &TrainingConfig,
    text: &TextArtifacts,
) -> Result<(Architecture, Decoder), TrainError> {
    let section = &training.from_scratch;
    let block = section.architecture.clone().unwrap_or_default();
    let (architecture, config) = block
        .resolve(section.size, text.tokenizer.vocab_size())
        .map_err(|error| TrainError::Model(Box::new(error)))?;
    let decoder = Decoder::meta(config).map_err(|error| TrainError::Model(Box::new(error)))?;
    Ok((architecture, decoder))
}

/// The model in a directory or a GGUF file, its weights mapped where they can be.
pub(super) fn mapped_model(path: &Path) -> Result<(Decoder, ModelArtifacts, TextArtifacts), TrainError> {
    let model = load_path(path, &LoadOptions::default());
    ModelArtifacts::split(model.map_err(|error| TrainError::Model(Box::new(error)))?)
}

/// The model that `model.name` names.
pub(super) fn base_model(
    training: &TrainingConfig,
    config: &ModelConfig,
    max_length: MaxLength,
    warnings: &mut Vec<String>,
) -> Result<(Decoder, ModelArtifacts, TextArtifacts), TrainError> {
    // Frozen weights keep their format and stay mapped; trained ones are copied to f32 later.
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
    // Training changes the weights, so it cannot share them with another manager of this process.
    match Arc::try_unwrap(model) {
        Ok(model) => ModelArtifacts::split(model),
        Err(_) => mapped_model(&path),
    }
}

/// The weights that are trained or frozen, of a decoder that has only shapes or maps a file: new ones, or
/// copies in the dtype that training takes.
pub(super) fn materialize(
    decoder: Decoder,
    is_new: bool,
    training: &TrainingConfig,
) -> Result<Decoder, TrainError> {
    let weights = if is_new {
        let config = decoder.config().clone();
        drop(decoder);
        Decoder::initialise(config, training.seed).map_err(|error| TrainError::Model(Box::new(error)))?
    } else {
        decoder
    };
    Ok(if training.adapter().is_none() { weights.into_owned(training.weights_dtype()) } else { weights })
}
