//! The checkpoint that is due after a step, and the state of the loop in it.

use parlor_text::Cursor;

use super::{BEST, Trainer};
use crate::checkpoint::{
    Generator, OPTIMIZER_STATE, ParlorState, TrainerState, checkpoint_name, rotate_checkpoints,
    write_checkpoint,
};
use crate::error::TrainError;
use crate::event::TrainEvent;
use crate::objective::Objective;
use parlor_files::{WriteError, available_bytes, human_bytes};

impl<O: Objective> Trainer<'_, O> {
    /// Refuses to write what the disk cannot hold.
    pub(super) fn check_space(&self, name: &str, needed: u64) -> Result<(), WriteError> {
        match available_bytes(self.output_dir()) {
            Some(available) if available < needed => Err(WriteError::Full {
                path: self.output_dir().join(name),
                available,
                source: format!("it needs {}", human_bytes(needed)).into(),
            }),
            _ => Ok(()),
        }
    }

    /// Writes `checkpoint-N` and rotates the older ones. Collective: every rank must call it; only rank 0 writes.
    ///
    /// # Errors
    /// When metrics or the checkpoint cannot be written.
    pub(super) fn save(&mut self, last: bool) -> Result<(), TrainError> {
        let others = self.optimizer.gather(self.decoder, self.collective());
        if self.collective().rank() > 0 {
            return Ok(());
        }
        self.hooks.recorder.sync().map_err(TrainError::Record)?;
        let state = self.state();
        let name = checkpoint_name(self.step);
        let needed = self.decoder.trained_count() as u64 * 4 + self.optimizer.bytes() as u64;
        self.check_space(&name, needed)?;
        let (decoder, optimizer, save_model) = (&*self.decoder, &self.optimizer, self.hooks.save_model);
        let path = write_checkpoint(self.output_dir(), &state, &self.trainer_state(last), &|directory| {
            save_model(decoder, directory)?;
            optimizer.save(&directory.join(OPTIMIZER_STATE), decoder, &others)?;
            Ok(())
        })?;
        rotate_checkpoints(
            self.output_dir(),
            self.config.hyper.save_total_limit,
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
            generator: Generator { algorithm: "chacha8".to_owned(), seed: self.config.training.seed, epoch },
            identity: self.config.identity.values.clone(),
            config_sha256: self.config.identity.sha256(),
            best: self.best,
            eval_loss: self.eval_loss,
            evaluations_without_improvement: self.evaluations_without_improvement,
            high_losses: self.high_losses,
            totals,
            files: Default::default(),
        }
    }

    fn trainer_state(&self, finished: bool) -> TrainerState {
        let hyper = &self.config.hyper;
        let mut state = TrainerState {
            best_global_step: self.best.map(|best| best.step),
            best_metric: self.best.map(|best| best.metric),
            best_model_checkpoint: self
                .best
                .map(|_| self.output_dir().join(BEST).to_string_lossy().into_owned()),
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
