//! Metrics of a step: the event, the logged row, and the loss watchdog.

use std::time::Instant;

use serde_json::{Map, Value, json};

use super::Trainer;
use super::step::StepResult;
use crate::error::TrainError;
use crate::event::{StepReport, TrainEvent};
use crate::objective::Objective;

impl<O: Objective> Trainer<'_, O> {
    /// Reports the step, and records its row when the step is one to log.
    pub(super) fn report(&mut self, result: &StepResult) -> Result<(), TrainError> {
        let step = self.step;
        let logged = step == 1
            || step == self.plan.total_steps
            || step.is_multiple_of(self.config.hyper.logging_steps.max(1));
        let (since, tokens_then) = self.last_log;
        let tokens_per_second =
            (self.totals.tokens - tokens_then) as f64 / since.elapsed().as_secs_f64().max(1e-9);
        let pace = self.started.elapsed().as_secs_f64() / (step - self.steps_before).max(1) as f64;
        let report = StepReport {
            step,
            total_steps: self.plan.total_steps,
            epoch: self.plan.epochs_done(step),
            loss: result.loss,
            learning_rate: result.learning_rate,
            grad_norm: result.grad_norm,
            tokens: self.totals.tokens,
            tokens_per_second,
            memory_bytes: parlor_model::memory::resident_bytes().unwrap_or(0),
            eta_seconds: pace * (self.plan.total_steps - step) as f64,
            logged,
        };
        if logged {
            let mut row = row(json!({
                "step": step,
                "epoch": report.epoch,
                "loss": report.loss,
                "learning_rate": report.learning_rate,
                "grad_norm": report.grad_norm,
                "tokens": report.tokens,
                "tokens_per_second": report.tokens_per_second,
                "memory_bytes": report.memory_bytes,
            }));
            for (name, value) in &result.metrics {
                row.insert((*name).to_owned(), json!(value));
            }
            self.record(row)?;
            self.last_log = (Instant::now(), self.totals.tokens);
        }
        self.tell(TrainEvent::Step(report));
        Ok(())
    }

    /// Records a row, and adds the metrics that HF knows to its log history.
    pub(super) fn record(&mut self, row: Map<String, Value>) -> Result<(), TrainError> {
        self.hooks.recorder.record(&row).map_err(TrainError::Record)?;
        let not_in_hf = ["tokens", "tokens_per_second", "memory_bytes"];
        self.log_history
            .push(row.into_iter().filter(|(key, _)| !not_in_hf.contains(&key.as_str())).collect());
        Ok(())
    }

    /// The loss watchdog: stops a run whose loss stays above the threshold.
    ///
    /// # Errors
    /// [`TrainError::HighLoss`].
    pub(super) fn watch_loss(&mut self, loss: f64) -> Result<(), TrainError> {
        let Some(threshold) = self.config.training.loss_watchdog_threshold else { return Ok(()) };
        self.high_losses = if loss > threshold { self.high_losses + 1 } else { 0 };
        if self.high_losses < self.config.training.loss_watchdog_patience {
            return Ok(());
        }
        Err(TrainError::HighLoss {
            step: self.step,
            loss,
            steps: self.high_losses,
            threshold,
            last_checkpoint: self.last_checkpoint(),
        })
    }
}

/// The fields of a JSON object.
pub(super) fn row(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
