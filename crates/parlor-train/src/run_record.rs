//! What a run writes about itself: `metrics.jsonl`, and `run.json` from its start to its end.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::error::TrainError;
use crate::event::Outcome;
use crate::metrics_file::MetricsFile;
use crate::prepared::{Prepared, TrainSummary};
use crate::recorder::Recorder;
use crate::storage::{FillError, write_file};

/// The open record of a run.
pub(crate) struct RunRecord {
    metrics: MetricsFile,
    path: PathBuf,
    run: Map<String, Value>,
}

impl RunRecord {
    /// Opens the metrics, and writes `run.json` with status `running`.
    pub(crate) fn start(run: &Prepared) -> Result<Self, TrainError> {
        let directory = run.output.path();
        let metrics = MetricsFile::open(
            &directory.join("metrics.jsonl"),
            run.resume.as_ref().map(|resume| &resume.state),
        )?;
        let report = &run.data.train_report;
        let value = json!({
            "status": "running",
            "versions": { "parlor": env!("CARGO_PKG_VERSION") },
            "training_type": run.training.training_type,
            "seed": run.training.seed,
            "config_sha256": run.identity.sha256(),
            "data": {
                "train_sha256": run.data.train_sha256,
                "train_examples": report.examples,
                "train_tokens": report.total_tokens,
                "trained_tokens": report.trained_tokens,
                "eval_sha256": run.data.eval_sha256,
                "eval_examples": run.data.eval.len(),
            },
            "tokenizer_sha256": run.tokenizer_sha256,
            "template_sha256": run.template_sha256,
            "parameters": run.decoder.parameter_count(),
            "total_steps": run.plan.total_steps,
            "resumed_at": run.resume.as_ref().map(|resume| resume.state.step),
        });
        let run = if let Value::Object(map) = value { map } else { Map::new() };
        let mut record = Self { metrics, path: directory.join("run.json"), run };
        record.write()?;
        Ok(record)
    }

    fn write(&mut self) -> Result<(), TrainError> {
        let mut text =
            serde_json::to_vec_pretty(&self.run).map_err(|error| TrainError::Record(Box::new(error)))?;
        text.push(b'\n');
        Ok(write_file(&self.path, &text)?)
    }

    /// Writes how the run ended.
    pub(crate) fn finish(&mut self, summary: &TrainSummary) -> Result<(), TrainError> {
        let (status, code) = match summary.outcome {
            Outcome::Completed | Outcome::StoppedEarly => ("finished", 0),
            Outcome::Interrupted => ("interrupted", 130),
        };
        self.run.insert("status".to_owned(), json!(status));
        self.run.insert("exit_status".to_owned(), json!(code));
        self.run.insert("summary".to_owned(), json!(summary));
        self.write()
    }

    /// Writes that the run failed. A disk that took no checkpoint may not take this either; the error that the
    /// caller already has is the one to report.
    pub(crate) fn fail(&mut self, error: &TrainError) {
        self.run.insert("status".to_owned(), json!("failed"));
        self.run.insert("exit_status".to_owned(), json!(1));
        self.run.insert("error".to_owned(), json!(error.to_string()));
        if let Err(second) = self.write() {
            tracing::warn!("{second}");
        }
    }
}

impl Recorder for RunRecord {
    fn record(&mut self, row: &Map<String, Value>) -> Result<(), FillError> {
        self.metrics.record(row)
    }

    fn sync(&mut self) -> Result<(), FillError> {
        self.metrics.sync()
    }
}
