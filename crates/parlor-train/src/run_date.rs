//! The date that a chat template reads (`strftime_now`): a run's own, the day on which it began.
//!
//! A run that is resumed on another day renders the same texts as before, and so ends with the same bytes; an evaluation
//! of its model renders the texts that it was trained on. It is in `run.json`, and in the identity of each checkpoint.
//! `model.chat_template_date` sets another one.

use std::path::Path;

use jiff::civil::{Date, DateTime};
use parlor_model::ModelConfig;
use parlor_track::RUN_FILE;
use serde_json::Value;

use crate::materials::TextArtifacts;
use crate::parlor_state::{PARLOR_STATE, ParlorState};

/// Name of the date in the identity of a run.
pub(crate) const TEMPLATE_DATE: &str = "date of the chat template";

impl TextArtifacts {
    /// The same with the date that a run's template reads: the configuration's, else that of `recorded`, where a run goes
    /// on or its model is evaluated, else today.
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
}

/// The date with which the model in `directory` was trained, where a run left it: the model of a run, or a checkpoint.
pub fn trained_date(directory: &Path) -> Option<String> {
    let run: Option<Value> =
        std::fs::read(directory.join(RUN_FILE)).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let of_run = run.and_then(|run| Some(run.get("template_date")?.as_str()?.to_owned()));
    of_run.or_else(|| {
        let state = ParlorState::from_json(&std::fs::read(directory.join(PARLOR_STATE)).ok()?).ok()?;
        state.identity.get(TEMPLATE_DATE).cloned()
    })
}
