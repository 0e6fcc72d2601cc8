//! The adapter that a run trains instead of the weights: a new one, or a checkpoint's.

use std::path::Path;

use parlor_model::Architecture;
use parlor_model::{AdapterConfig, AdapterId, AdapterPlan, Decoder, load_adapter};

use crate::error::TrainError;

/// Attaches the adapter that `config` describes, or the one in `checkpoint`, and freezes everything else.
/// Returns its id and warnings for the user.
///
/// # Errors
/// [`TrainError::Model`] when the config or the checkpoint does not fit the model.
pub(crate) fn attach(
    decoder: &mut Decoder,
    architecture: Architecture,
    config: AdapterConfig,
    seed: u64,
    checkpoint: Option<&Path>,
) -> Result<(AdapterId, Vec<String>), TrainError> {
    let failed = |error| TrainError::Model(Box::new(error));
    let (id, warnings) = match checkpoint {
        Some(directory) => {
            let info = load_adapter(decoder, architecture, directory).map_err(failed)?;
            (info.id, info.warnings)
        }
        None => {
            let mut plan = AdapterPlan::new(decoder, architecture, config).map_err(|error| {
                failed(parlor_model::ModelLoadError { place: "`training.lora`".to_owned(), ..error })
            })?;
            let warnings = std::mem::take(&mut plan.warnings);
            let values = plan.initial_values(decoder, seed);
            (decoder.attach(plan, values).map_err(failed)?, warnings)
        }
    };
    decoder.train_adapter(id);
    Ok((id, warnings))
}
