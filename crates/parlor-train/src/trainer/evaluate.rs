//! The evaluation that is due after a step: its loss, `best/`, early stopping, and samples.

use serde_json::json;

use super::report::row;
use super::{BEST, Trainer};
use crate::checkpoint::Best;
use crate::error::{NonFinite, TrainError};
use crate::evaluation::{Evaluation, evaluate_examples};
use crate::event::TrainEvent;
use crate::objective::{LossKind, Objective};
use parlor_files::atomic_dir;

impl<O: Objective> Trainer<'_, O> {
    /// Evaluates, and completes the sample prompts. False when it was interrupted.
    ///
    /// # Errors
    /// A loss that is not finite, a metric that does not exist, or a disk that does not take `best/`.
    pub(super) fn evaluate(&mut self) -> Result<bool, TrainError> {
        if !self.examples.eval.is_empty() && !self.evaluate_loss()? {
            return Ok(false);
        }
        self.evaluation_pending = false;
        for prompt in &self.config.training.sample_prompts {
            if self.stopping() {
                break;
            }
            let Some(samples) = &mut self.hooks.samples else { break };
            // A failed sample is no reason to end a run.
            let event = match samples.sample(self.decoder, self.step, prompt) {
                Ok(text) => TrainEvent::Sampled { step: self.step, prompt: prompt.clone(), text },
                Err(error) => TrainEvent::Warning(format!("no sample for {prompt:?}: {error}")),
            };
            self.tell(event);
        }
        Ok(true)
    }

    /// Evaluates the loss, and writes `best/` when it is the best. False when it was interrupted.
    fn evaluate_loss(&mut self) -> Result<bool, TrainError> {
        let batch_size = self.config.hyper.per_device_eval_batch_size;
        let (objective, eval) = (self.examples.objective, self.examples.eval);
        let (stop, collective) = (self.hooks.stop, self.collective());
        let evaluation = evaluate_examples(
            objective,
            self.decoder,
            eval,
            batch_size,
            &mut self.workspace,
            stop,
            collective,
        );
        let evaluation = evaluation.map_err(|source| TrainError::Batch {
            rows: vec!["evaluation data".to_owned()],
            source: Box::new(source),
        })?;
        let Some(evaluation) = evaluation else { return Ok(false) };
        if !evaluation.loss.is_finite() {
            let what = "evaluation loss";
            return Err(TrainError::NonFinite(Box::new(NonFinite {
                step: self.step,
                what,
                value: evaluation.loss,
                rows: Vec::new(),
                gradient_norms: Vec::new(),
                learning_rate: self.schedule.at(self.step.saturating_sub(1)),
                last_checkpoint: self.last_checkpoint(),
            })));
        }
        let mut row = row(json!({
            "step": self.step,
            "epoch": self.plan.epochs_done(self.step),
            "eval_loss": evaluation.loss,
            "eval_runtime": evaluation.seconds,
        }));
        let perplexity = (O::KIND == LossKind::PerToken).then(|| evaluation.perplexity());
        row.extend(perplexity.map(|perplexity| ("eval_perplexity".to_owned(), json!(perplexity))));
        for (name, value) in &evaluation.metrics {
            row.insert(format!("eval_{name}"), json!(value));
        }
        if self.collective().rank() == 0 {
            self.record(row)?;
            self.update_best(&evaluation)?;
        }
        self.broadcast_best();
        Ok(true)
    }

    /// Updates best metric, early stopping, and `best/`.
    fn update_best(&mut self, evaluation: &Evaluation) -> Result<(), TrainError> {
        let decisive = self.config.training.best_metric();
        let Some(metric) = evaluation.metric(decisive.name) else {
            let known = evaluation.metric_names().map(|name| format!("`{name}`")).collect();
            return Err(TrainError::NoMetric { name: decisive.name.to_owned(), known });
        };
        // Improvement over the best. NaN is never an improvement.
        let gain = match self.best {
            Some(best) => decisive.gain(metric, best.metric),
            None if metric.is_nan() => f64::NAN,
            None => f64::INFINITY,
        };
        let is_best = gain > 0.0;
        // As HF's EarlyStoppingCallback: the improvement must exceed the threshold.
        if gain > self.config.hyper.early_stopping_threshold {
            self.evaluations_without_improvement = 0;
        } else {
            self.evaluations_without_improvement += 1;
        }
        if is_best {
            self.best = Some(Best { step: self.step, metric });
            self.check_space(BEST, self.decoder.trained_count() as u64 * 4)?;
            let (decoder, save) = (&*self.decoder, self.hooks.save_model);
            atomic_dir::replace(self.output_dir(), BEST, &mut |directory| save(decoder, directory))?;
        }
        self.eval_loss = Some(evaluation.loss);
        self.tell(TrainEvent::Evaluated {
            step: self.step,
            loss: evaluation.loss,
            perplexity: (O::KIND == LossKind::PerToken).then(|| evaluation.perplexity()),
            best: is_best,
        });
        Ok(())
    }

    /// Takes rank 0's result on every rank, since another rank might round differently.
    fn broadcast_best(&mut self) {
        if self.plan.world_size == 1 {
            return;
        }
        let best = self.best.unwrap_or(Best { step: 0, metric: 0.0 });
        let mut numbers = [
            f64::from(u8::from(self.best.is_some())),
            best.step as f64,
            best.metric,
            self.eval_loss.unwrap_or(f64::NAN),
            f64::from(self.evaluations_without_improvement),
        ];
        self.collective().broadcast(0, bytemuck::cast_slice_mut(&mut numbers));
        let [any, step, metric, loss, without_improvement] = numbers;
        self.best = (any > 0.0).then_some(Best { step: step as u64, metric });
        self.eval_loss = Some(loss);
        self.evaluations_without_improvement = without_improvement as u32;
    }
}
