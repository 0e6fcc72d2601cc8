//! The date of the chat template as a run leaves it on disk: in `run.json`, and in the identity of each
//! checkpoint.

use std::path::Path;

use parlor_track::RUN_FILE;
use serde_json::Value;

use crate::checkpoint::{PARLOR_STATE, ParlorState};

/// Name of the date in the identity of a run.
pub(crate) const TEMPLATE_DATE: &str = "date of the chat template";

/// The template date with which the model in `directory` was trained, where a run or a checkpoint recorded it.
pub fn trained_date(directory: &Path) -> Option<String> {
    let run: Option<Value> =
        std::fs::read(directory.join(RUN_FILE)).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let of_run = run.and_then(|run| Some(run.get("template_date")?.as_str()?.to_owned()));
    of_run.or_else(|| {
        let state = ParlorState::from_json(&std::fs::read(directory.join(PARLOR_STATE)).ok()?).ok()?;
        state.identity.get(TEMPLATE_DATE).cloned()
    })
}
