//! `parlor_state.json`: what a resumed run needs beyond HF's fields, and the hashes that reveal damage.
//!
//! Written last into a checkpoint. Sums are kept as decimal strings, which read back to the same bits.

use std::collections::BTreeMap;

use parlor_text::Cursor;
use serde::{Deserialize, Serialize};

use crate::hash::hex_sha256;

/// Name of the file within a checkpoint.
pub const PARLOR_STATE: &str = "parlor_state.json";

/// The generator of the order of examples, which is a function of these fields alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generator {
    /// `chacha8`, one stream per epoch.
    pub algorithm: String,
    /// The run's seed.
    pub seed: u64,
    /// Epoch whose order is in use.
    pub epoch: u64,
}

/// The best evaluation so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Step after which it was made.
    pub step: u64,
    /// Value of the deciding metric: the loss, unless `training.metric_for_best_model` names another.
    #[serde(with = "exact", rename = "loss")]
    pub metric: f64,
}

/// Running sums of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Tokens that went through the model.
    pub tokens: u64,
    /// Sum of the loss over all steps.
    #[serde(with = "exact")]
    pub loss_sum: f64,
    /// Sum of the weights (trained tokens) over all steps.
    #[serde(with = "exact")]
    pub weight: f64,
    /// Seconds spent training, over all parts of an interrupted run.
    #[serde(with = "exact")]
    pub seconds: f64,
}

/// Size and hash of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Bytes.
    pub bytes: u64,
    /// SHA-256, in hexadecimal.
    pub sha256: String,
}

/// The whole state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParlorState {
    /// Version of this format: 1.
    pub format: u32,
    /// Optimizer steps done.
    pub step: u64,
    /// Whether the evaluation due after this step is still pending, because the run was interrupted before it.
    pub evaluation_pending: bool,
    /// Next example.
    pub cursor: Cursor,
    /// Order of the data.
    pub generator: Generator,
    /// What the run's numbers depend on (see [`super::Identity`]).
    pub identity: BTreeMap<String, String>,
    /// Hash of `identity`.
    pub config_sha256: String,
    /// Best evaluation.
    pub best: Option<Best>,
    /// The newest evaluation's loss.
    #[serde(with = "exact::option")]
    pub eval_loss: Option<f64>,
    /// Evaluations in a row that were not better.
    pub evaluations_without_improvement: u32,
    /// Steps in a row whose loss was above `training.loss_watchdog_threshold`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub high_losses: u32,
    /// Running sums.
    pub totals: Totals,
    /// The checkpoint's other files.
    pub files: BTreeMap<String, FileRecord>,
}

/// Zero counts are left out, as in files from before the count existed.
fn is_zero(count: &u32) -> bool {
    *count == 0
}

#[derive(Serialize, Deserialize)]
struct Sealed<T> {
    sha256: String,
    state: T,
}

impl ParlorState {
    /// The file's text, with a hash over itself.
    ///
    /// # Errors
    /// What the JSON writer says.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let sha256 = hex_sha256(&serde_json::to_vec(self)?);
        let mut text = serde_json::to_vec_pretty(&Sealed { sha256, state: self })?;
        text.push(b'\n');
        Ok(text)
    }

    /// Reads what [`Self::to_json`] wrote.
    ///
    /// # Errors
    /// Why it is not that, as a sentence.
    pub fn from_json(text: &[u8]) -> Result<Self, String> {
        let sealed: Sealed<Self> = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let bytes = serde_json::to_vec(&sealed.state).map_err(|error| error.to_string())?;
        if hex_sha256(&bytes) != sealed.sha256 {
            return Err("its contents do not have the hash that it names".to_owned());
        }
        if sealed.state.format != 1 {
            return Err(format!("it has format {}, and this build reads format 1", sealed.state.format));
        }
        Ok(sealed.state)
    }
}

/// f64 as a decimal string: serde_json's number parser may be one unit off in the last place.
mod exact {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }

    pub(super) mod option {
        use serde::de::Error;
        use serde::{Deserialize, Deserializer, Serializer};

        pub(in super::super) fn serialize<S: Serializer>(
            value: &Option<f64>,
            s: S,
        ) -> Result<S::Ok, S::Error> {
            match value {
                Some(value) => s.collect_str(value),
                None => s.serialize_none(),
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            d: D,
        ) -> Result<Option<f64>, D::Error> {
            let text = Option::<String>::deserialize(d)?;
            text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
        }
    }
}
