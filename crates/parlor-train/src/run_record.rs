//! The run as parlor-track records it: what it is made of, its rows, and how it ended.

use parlor_track::{METRICS_FILE, MonitoringConfig, Row, Run, RunInfo, RunStart, RunStatus, read_rows};
use serde_json::{Map, Value, json};

use crate::error::TrainError;
use crate::event::Outcome;
use crate::prepared::{Prepared, TrainSummary};
use crate::recorder::Recorder;
use crate::storage::FillError;

/// An open record.
pub(crate) struct RunRecord {
    run: Run,
    /// The step whose evaluation is in the file already, though the checkpoint was made before it: it is made again,
    /// with the same result, and must not be written twice.
    recorded_evaluation: Option<u64>,
}

impl RunRecord {
    /// Starts the record, or goes on with it from the checkpoint.
    pub(crate) fn start(run: &Prepared, monitoring: &MonitoringConfig) -> Result<Self, TrainError> {
        let failed = |error| TrainError::Record(Box::new(error));
        let directory = run.output.path();
        let state = run.resume.as_ref().map(|resume| &resume.state);
        let mut start = RunStart::new(directory, info(run));
        start.resume_from = state.map(|state| state.step);
        let opened = Run::start(monitoring, start).map_err(failed)?;
        let pending = state.filter(|state| state.evaluation_pending).map(|state| state.step);
        let recorded_evaluation = match pending {
            Some(step) => read_rows(&directory.join(METRICS_FILE))
                .map_err(failed)?
                .iter()
                .any(|row| row.step == step && row.number("eval_loss").is_some())
                .then_some(step),
            None => None,
        };
        let mut record = Self { run: opened, recorded_evaluation };
        record.run.artifact(&directory.join("config.resolved.yaml"));
        Ok(record)
    }

    /// Records how the run ended.
    pub(crate) fn finish(self, summary: &TrainSummary) -> Result<(), TrainError> {
        let status = match summary.outcome {
            Outcome::Completed | Outcome::StoppedEarly => RunStatus::Finished,
            Outcome::Interrupted => RunStatus::Interrupted,
        };
        self.run.finish(status, None).map_err(|error| TrainError::Record(Box::new(error)))
    }

    /// Records that the run failed. A disk that took no checkpoint may not take this either; the error that the
    /// caller already has is the one to report.
    pub(crate) fn fail(self) {
        if let Err(second) = self.run.finish(RunStatus::Failed, None) {
            tracing::warn!("{second}");
        }
    }
}

fn info(run: &Prepared) -> RunInfo {
    let (template_sha256, template_date) = (run.template_sha256.clone(), run.text.template_date());
    let mut info = RunInfo { template_sha256, template_date, ..RunInfo::default() };
    info.versions.insert("parlor".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    info.seeds.insert("training.seed".to_owned(), run.training.seed);
    info.data_sha256.insert("training examples".to_owned(), run.data.train_sha256.clone());
    if let Some(sha256) = &run.data.eval_sha256 {
        info.data_sha256.insert("evaluation examples".to_owned(), sha256.clone());
    }
    info.data_sha256.insert("tokenizer".to_owned(), run.tokenizer_sha256.clone());
    // Of the training types' sections only the one in force.
    if let Ok(Value::Object(mut training)) = serde_json::to_value(&run.training) {
        let mine = run.training.training_type.name();
        training
            .retain(|key, _| key == mine || !["from_scratch", "sft", "dpo", "lora"].contains(&key.as_str()));
        info.add_params("training", &Value::Object(training));
    }
    for (name, section) in [("model", &run.sections.0), ("data", &run.sections.1)] {
        info.add_params(name, section);
    }
    let report = run.data.train_report.as_ref();
    info.add_params(
        "run",
        &json!({
            "parameters": run.decoder.parameter_count(),
            "total_steps": run.plan.total_steps,
            "train_examples": report.map(|report| report.examples),
            "train_tokens": report.map(|report| report.total_tokens),
            "trained_tokens": report.map(|report| report.trained_tokens),
            "eval_examples": run.data.eval_examples,
            "config_sha256": run.identity.sha256(),
        }),
    );
    info
}

impl Recorder for RunRecord {
    fn record(&mut self, row: &Map<String, Value>) -> Result<(), FillError> {
        let row = Row::from_json(row)?;
        if self.recorded_evaluation == Some(row.step) && row.number("eval_loss").is_some() {
            self.recorded_evaluation = None;
            return Ok(());
        }
        Ok(self.run.log(&row)?)
    }

    fn sync(&mut self) -> Result<(), FillError> {
        Ok(self.run.sync()?)
    }
}
