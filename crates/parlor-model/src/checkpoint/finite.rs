//! Finds weights that are not finite, when the model's output is not.

use rayon::prelude::*;

use super::load::LoadedModel;
use crate::decoder::Owner;

impl LoadedModel {
    /// The name of the first tensor that holds NaN or an infinity. Reads all weights.
    pub fn tensor_not_finite(&self) -> Option<String> {
        let broken =
            self.decoder.parameters().par_iter().find_first(|parameter| {
                parameter.tensor.to_f32_vec().iter().any(|value| !value.is_finite())
            })?;
        let spec = &broken.spec;
        if let Owner::Adapter(number) = spec.owner {
            return Some(format!("{} of adapter {}", spec.role, number + 1));
        }
        let disk = self.architecture.checkpoint_tensors(self.decoder.config());
        let named = disk.into_iter().find(|tensor| tensor.roles.contains(&spec.role));
        Some(named.map_or_else(|| spec.role.to_string(), |tensor| tensor.name))
    }

    /// The message for output that is not finite: the tensor that is the cause, or that no tensor is.
    pub fn why_not_finite(&self) -> String {
        match self.tensor_not_finite() {
            Some(name) => format!(
                "the tensor `{name}` in {} holds NaN or infinite numbers: copy or download the weights again",
                self.path.display()
            ),
            None => format!(
                "every weight in {} is finite, so numbers outgrow their format: try `torch_dtype: float32`",
                self.path.display()
            ),
        }
    }
}
