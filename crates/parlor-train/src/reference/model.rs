//! Which model is the reference of a preference loss, and loading it.
//!
//! It is the model of `training.dpo.reference_model_path`, else the model before training: the run's own
//! weights before the first step, or the frozen base under the adapter at any step.

use std::path::Path;
use std::sync::Arc;

use parlor_model::{Decoder, LoadOptions, LoadedModel, ModelConfig, ModelManager, Parameter, TorchDtype};
use parlor_text::Tokenizer;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::artifacts::TextArtifacts;
use crate::checkpoint::Checkpoint;
use crate::config::{Problem, TrainingConfig};
use crate::error::TrainError;
use crate::hash::hex;

/// Name of the reference's weights in the identity of a run.
pub(crate) const WEIGHTS: &str = "reference model (SHA-256 of its weights)";

/// What determines the reference model.
#[derive(Clone, Copy)]
pub(crate) struct ReferenceSetup<'a> {
    pub(crate) training: &'a TrainingConfig,
    /// The model that is trained.
    pub(crate) model: &'a ModelConfig,
    pub(crate) text: &'a TextArtifacts,
    pub(crate) decoder: &'a Decoder,
    pub(crate) resume: Option<&'a Checkpoint>,
}

/// The reference model.
#[derive(Debug)]
pub(crate) struct ReferenceModel {
    /// SHA-256 of its weights.
    pub(crate) weights: String,
    /// The loaded model; none when it is the run's own, or not loaded.
    pub(super) model: Option<Arc<LoadedModel>>,
}

impl ReferenceSetup<'_> {
    /// The reference, when the loss needs one. On resume it is the checkpoint's, known by its hash and not
    /// loaded.
    ///
    /// # Errors
    /// When it cannot be loaded, or has another vocabulary.
    pub(crate) fn reference_model(&self) -> Result<Option<ReferenceModel>, TrainError> {
        if !self.training.needs_reference() {
            return Ok(None);
        }
        if let Some(weights) = self.resume.and_then(|resume| resume.state.identity.get(WEIGHTS)) {
            return Ok(Some(ReferenceModel { weights: weights.clone(), model: None }));
        }
        self.load().map(Some)
    }

    /// Loads the reference.
    ///
    /// # Errors
    /// When it cannot be loaded, or has another vocabulary.
    pub(super) fn load(&self) -> Result<ReferenceModel, TrainError> {
        let other = self.training.dpo.reference_model_path.as_deref();
        let trained = self.resume.is_some() && self.training.adapter().is_none();
        let name = match other {
            Some(path) => path.to_string_lossy().into_owned(),
            None if trained => self.model.name.clone(),
            None => {
                let weights = weights_sha256(self.decoder.model_parameters());
                return Ok(ReferenceModel { weights, model: None });
            }
        };
        // The dtype of the trained model, so that both agree before the first step.
        let dtype = match self.training.adapter() {
            Some(_) => self.model.torch_dtype,
            None if self.training.pure_bf16 => TorchDtype::Bfloat16,
            None => TorchDtype::Float32,
        };
        let config = ModelConfig { name, ..self.model.clone() };
        let manager = ModelManager::with_options(config, LoadOptions { dtype, ..LoadOptions::default() });
        let model = manager.load_model().map_err(|error| TrainError::Model(Box::new(error)))?;
        if let Some(path) = other {
            self.require_vocabulary(path, &model)?;
        }
        Ok(ReferenceModel { weights: weights_sha256(model.decoder.parameters()), model: Some(model) })
    }

    /// Refuses a reference whose ids mean other tokens. How its tokenizer splits text does not matter, since
    /// it is given ids.
    fn require_vocabulary(&self, path: &Path, model: &LoadedModel) -> Result<(), TrainError> {
        let sizes = [&model.decoder, self.decoder].map(|decoder| decoder.config().vocab_size);
        let own = &self.text.tokenizer;
        let trained = &self.model.name;
        let found = match &model.tokenizer {
            Some(other) if other.vocab_size() != own.vocab_size() => {
                let (there, here) = (other.vocab_size(), own.vocab_size());
                format!("it has another tokenizer ({there} tokens, the trained model, {trained}, {here})")
            }
            _ if sizes[0] < sizes[1].min(own.vocab_size()) => {
                format!(
                    "it has a vocabulary of {} tokens, the trained model, {trained}, {}",
                    sizes[0], sizes[1]
                )
            }
            Some(other) => {
                let ids = 0..u32::try_from(own.vocab_size()).unwrap_or(u32::MAX);
                let shown = |tokenizer: &Tokenizer, id| tokenizer.token(id).unwrap_or_default();
                let Some(id) = ids.into_iter().find(|&id| other.token(id) != own.token(id)) else {
                    return Ok(());
                };
                let (there, here) = (shown(other, id), shown(own, id));
                format!(
                    "it has another tokenizer (token {id} is {there:?}, in the trained model, {trained}, {here:?})"
                )
            }
            None if sizes[0] == sizes[1] => {
                tracing::warn!(
                    "{}: the reference model has no tokenizer, so it is unknown whether its {} tokens are those of {trained}",
                    path.display(),
                    sizes[0]
                );
                return Ok(());
            }
            None => format!(
                "it has a vocabulary of {} tokens, the trained model, {trained}, {}",
                sizes[0], sizes[1]
            ),
        };
        let message = format!(
            "{}: {found}, so their log-probabilities cannot be compared; name a model with the same tokenizer, or null for \
             the model before training",
            path.display()
        );
        Err(TrainError::Config(vec![Problem {
            key: "training.dpo.reference_model_path".to_owned(),
            message,
        }]))
    }
}

/// SHA-256 over role, shape, format and bytes of all parameters.
fn weights_sha256(parameters: &[Parameter]) -> String {
    let each: Vec<_> = parameters
        .par_iter()
        .map(|Parameter { spec, tensor }| {
            let head = format!("{} {:?} {:?}", spec.role, tensor.shape(), tensor.dtype());
            Sha256::new().chain_update(head).chain_update(tensor.bytes()).finalize()
        })
        .collect();
    hex(&each.iter().fold(Sha256::new(), |all, one| all.chain_update(one)).finalize())
}
