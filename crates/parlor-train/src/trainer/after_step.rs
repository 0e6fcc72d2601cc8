//! What follows a step when it is due: evaluation with `best/`, and the checkpoint.

use parlor_text::Cursor;
use serde_json::json;

use super::{BEST, Job, Trainer, row};
use crate::checkpoint::{OPTIMIZER_STATE, checkpoint_name, rotate_checkpoints, write_checkpoint};
use crate::error::{NonFinite, TrainError};
use crate::evaluation::{Evaluation, evaluate_examples};
use crate::event::TrainEvent;
use crate::objective::{LossKind, Objective};
use crate::parlor_state::{Best, Generator, ParlorState};
use crate::storage::{StorageError, available_bytes, human_bytes, write_directory};
use crate::trainer_state::TrainerState;

impl<O: Objective> Trainer<'_, '_, O> {
    /// Makes the evaluation that is due, and answers the prompts. False when it was interrupted.
    pub(super) fn evaluate(&mut self) -> Result<bool, TrainError> {
        if !self.job.eval.is_empty() && !self.evaluate_loss()? {
            return Ok(false);
        }
        self.evaluation_pending = false;
        for prompt in &self.job.training.sample_prompts {
            if self.stopping() {
                break;
            }
            // A text that could not be made or written is no reason to end a run.
            let event = match (self.job.sample)(self.decoder, self.step, prompt) {
                Ok(None) => break,
                Ok(Some(text)) => TrainEvent::Sampled { step: self.step, prompt: prompt.clone(), text },
                Err(error) => TrainEvent::Warning(format!("no sample for {prompt:?}: {error}")),
            };
            self.tell(event);
        }
        Ok(true)
    }

    /// The losses of the evaluation, and `best/` when it is the best. False when it was interrupted.
    fn evaluate_loss(&mut self) -> Result<bool, TrainError> {
        let batch_size = self.job.hyper.per_device_eval_batch_size;
        let Job { objective, eval, stop, .. } = self.job;
        let collective = self.job.collective;
        let evaluation =
            evaluate_examples(objective, self.decoder, eval, batch_size, &mut self.saved, stop, collective)
                .map_err(|source| TrainError::Batch {
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

    /// Whether the evaluation is the best so far, with `best/` when it is.
    fn update_best(&mut self, evaluation: &Evaluation) -> Result<(), TrainError> {
        let decides = self.job.training.best_metric();
        let Some(metric) = evaluation.metric(decides.name) else {
            let known = evaluation.metric_names().map(|name| format!("`{name}`")).collect();
            return Err(TrainError::NoMetric { name: decides.name.to_owned(), known });
        };
        // How much better than the best. What is not a number is never better.
        let gain = match self.best {
            Some(best) => decides.gain(metric, best.metric),
            None if metric.is_nan() => f64::NAN,
            None => f64::INFINITY,
        };
        let is_best = gain > 0.0;
        // As HF's EarlyStoppingCallback: better than the best by more than the threshold.
        if gain > self.job.hyper.early_stopping_threshold {
            self.evaluations_without_improvement = 0;
        } else {
            self.evaluations_without_improvement += 1;
        }
        if is_best {
            self.best = Some(Best { step: self.step, metric });
            self.check_space(BEST, self.decoder.trained_count() as u64 * 4)?;
            let (decoder, save) = (&*self.decoder, self.job.save_model);
            write_directory(self.job.output_dir, BEST, &mut |directory| save(decoder, directory))?;
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

    /// What rank 0 found counts for all: another might round differently.
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
        self.job.collective.broadcast(0, bytemuck::cast_slice_mut(&mut numbers));
        let [any, step, metric, loss, without] = numbers;
        self.best = (any > 0.0).then_some(Best { step: step as u64, metric });
        self.eval_loss = Some(loss);
        self.evaluations_without_improvement = without as u32;
    }

    /// Refuses to begin what the disk cannot hold.
    fn check_space(&self, name: &str, needed: u64) -> Result<(), StorageError> {
        match available_bytes(self.job.output_dir) {
            Some(available) if available < needed => Err(StorageError::Full {
                path: self.job.output_dir.join(name),
                available,
                source: format!("it needs {}", human_bytes(needed)).into(),
            }),
            _ => Ok(()),
        }
    }

    /// Writes `checkpoint-N` and removes those that are too many.
    pub(super) fn save(&mut self, last: bool) -> Result<(), TrainError> {
        let others = self.optimizer.gather(self.decoder, self.job.collective);
        if self.collective().rank() > 0 {
            return Ok(());
        }
        self.job.recorder.sync().map_err(TrainError::Record)?;
        let state = self.state();
        let name = checkpoint_name(self.step);
        let needed = self.decoder.trained_count() as u64 * 4 + self.optimizer.bytes() as u64;
        self.check_space(&name, needed)?;
        let (decoder, optimizer, save_model) = (&*self.decoder, &self.optimizer, self.job.save_model);
        let path = write_checkpoint(self.job.output_dir, &state, &self.trainer_state(last), &|directory| {
            save_model(decoder, directory)?;
            optimizer.save(&directory.join(OPTIMIZER_STATE), decoder, &others)?;
            Ok(())
        })?;
        rotate_checkpoints(
            self.job.output_dir,
            self.job.hyper.save_total_limit,
            self.best.map(|best| best.step),
        );
        self.tell(TrainEvent::Saved { step: self.step, path });
        Ok(())
    }

    fn state(&self) -> ParlorState {
        let epoch = self.plan.epoch(self.step);
        let mut totals = self.totals;
        totals.seconds = self.seconds();
        ParlorState {
            format: 1,
            step: self.step,
            evaluation_pending: self.evaluation_pending,
            cursor: Cursor { epoch, index: self.plan.places(self.step).start },
            generator: Generator { algorithm: "chacha8".to_owned(), seed: self.job.training.seed, epoch },
            identity: self.job.identity.values.clone(),
            config_sha256: self.job.identity.sha256(),
            best: self.best,
            eval_loss: self.eval_loss,
            evaluations_without_improvement: self.evaluations_without_improvement,
            high_losses: self.high_losses,
            totals,
            files: Default::default(),
        }
    }

    fn trainer_state(&self, finished: bool) -> TrainerState {
        let hyper = self.job.hyper;
        let mut state = TrainerState {
            best_global_step: self.best.map(|best| best.step),
            best_metric: self.best.map(|best| best.metric),
            best_model_checkpoint: self
                .best
                .map(|_| self.job.output_dir.join(BEST).to_string_lossy().into_owned()),
            epoch: self.plan.epochs_done(self.step),
            eval_steps: hyper.eval_steps,
            global_step: self.step,
            log_history: self.log_history.clone(),
            logging_steps: hyper.logging_steps,
            max_steps: self.plan.total_steps,
            num_input_tokens_seen: self.totals.tokens,
            num_train_epochs: self.plan.total_steps.div_ceil(self.plan.steps_per_epoch),
            save_steps: hyper.save_steps,
            train_batch_size: self.plan.batch_size as u64,
            ..TrainerState::new()
        };
        state.set_control(finished);
        state
    }
}
