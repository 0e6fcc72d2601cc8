//! The time estimate: models of one and of two blocks in the run's own shape, with random weights, are
//! trained for about half a second on this machine.
//!
//! A pass of one block costs the head and a block, a pass of two one block more; both are scaled to the
//! model's blocks, vocabulary and tokens. Leaves out: saving, and later load of the machine.

use std::time::{Duration, Instant};

use parlor_model::Architecture;
use parlor_model::{Batch, Decoder, DecoderConfig, Gradients, PassOptions, Targets, Workspace};

use super::memory::MemoryModel;
use crate::artifacts::attach;
use crate::config::TrainingConfig;
use crate::optim::Optimizer;
use parlor_files::FillError;

/// Vocabulary of the measured models; the time of the head is scaled to the real one.
const VOCABULARY: usize = 4096;
/// Tokens of a measured pass: enough for matrix products to reach their speed.
const TOKENS: usize = 512;
/// Time spent on each of the two sizes.
const EACH: Duration = Duration::from_millis(200);

/// Seconds of one pass and of one update.
struct CalibrationTimes {
    pass: f64,
    update: f64,
    /// Trained elements.
    trained: usize,
    vocabulary: usize,
}

/// Estimated seconds of training, evaluations included, of a model of family `architecture` that is called
/// `base`.
///
/// # Errors
/// When a small model of the same shape cannot be run.
pub(crate) fn seconds_estimate(
    run: &MemoryModel<'_>,
    architecture: Architecture,
    base: &str,
) -> Result<f64, FillError> {
    let config = run.decoder.config();
    let passes = run.passes;
    let share = passes.train.rows as f64 / passes.train.tokens.max(1) as f64;
    let length = (passes.train.tokens / run.plan.batch_size.max(1)).clamp(1, TOKENS);
    let batch = CalibrationBatch { length, share };
    let adapt = |decoder: &mut Decoder| {
        if let Some(section) = run.training.adapter()
            // A pattern that names later blocks matches nothing here; training all weights instead is slower.
            && attach(decoder, architecture, section.adapter(base), 0, None).is_err()
        {
            decoder.train_only(|_| true);
        }
    };
    let (one, two) = (measure(run, &adapt, 1, batch)?, measure(run, &adapt, 2, batch)?);
    let block = (two.pass - one.pass).max(0.1 * one.pass);
    let head = (one.pass - block).max(0.0) * config.vocab_size as f64 / one.vocabulary as f64;
    let per_token = (config.num_hidden_layers() as f64 * block + head) / TOKENS as f64;
    let update = two.update / two.trained.max(1) as f64 * run.decoder.trained_count() as f64;
    let steps = run.plan.total_steps as f64;
    let epochs = steps / run.plan.steps_per_epoch.max(1) as f64;
    let evaluations = match run.hyper.eval_steps {
        0 => epochs,
        every => steps / every as f64,
    };
    // A forward pass alone is a third of both.
    let tokens = epochs * passes.tokens_per_epoch as f64 + evaluations * passes.eval_tokens as f64 / 3.0;
    let ranks = run.plan.world_size.max(1) as f64;
    Ok(tokens * per_token / ranks + steps * update)
}

/// Layout of a measured pass.
#[derive(Clone, Copy)]
struct CalibrationBatch {
    /// Tokens of a sequence.
    length: usize,
    /// Share of the tokens that have a target.
    share: f64,
}

fn measure(
    run: &MemoryModel<'_>,
    adapt: &dyn Fn(&mut Decoder),
    layers: usize,
    batch: CalibrationBatch,
) -> Result<CalibrationTimes, FillError> {
    let whole = run.decoder.config();
    let vocabulary = whole.vocab_size.min(VOCABULARY);
    let config = DecoderConfig {
        layers: whole.layers.iter().copied().cycle().take(layers).collect(),
        vocab_size: vocabulary,
        max_position_embeddings: whole.max_position_embeddings.min(2 * TOKENS),
        ..whole.clone()
    };
    let mut decoder = Decoder::initialise(config, 0)?.into_owned(run.training.weights_dtype());
    adapt(&mut decoder);
    let ids: Vec<u32> = (0..TOKENS).map(|n| (n * 7919 % vocabulary) as u32).collect();
    let share = batch.share;
    let batch = Batch::of_sequences(ids.chunks(batch.length));
    let trained = |n: usize| ((n + 1) as f64 * share).floor() > (n as f64 * share).floor();
    let targets = Targets { weights: (0..TOKENS).map(|n| f32::from(u8::from(trained(n)))).collect(), ids };
    let d_logp: Vec<f32> = targets.weights.iter().map(|weight| -weight / TOKENS as f32).collect();
    let mut workspace = Workspace::default();
    workspace.arithmetic = run.training.arithmetic();
    let options =
        PassOptions { checkpointing: run.training.gradient_checkpointing.0, ..PassOptions::default() };
    let mut gradients = Gradients::zeros(&decoder);
    let mut pass = || -> Result<f64, FillError> {
        let start = Instant::now();
        decoder.logprobs(&batch, &targets, &options, &mut workspace)?;
        decoder.backward(&d_logp, &batch, &mut workspace, &mut gradients)?;
        Ok(start.elapsed().as_secs_f64())
    };
    pass()?;
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < 3 || start.elapsed() < EACH {
        times.push(pass()?);
    }
    times.sort_by(f64::total_cmp);
    // The rates of parameter groups cost no time, and a group of a later block would match nothing here.
    let training = TrainingConfig { param_groups: Vec::new(), ..run.training.clone() };
    let mut optimizer = Optimizer::new(&training, run.hyper, &decoder).map_err(|problem| problem.message)?;
    let mut update = 0.0;
    for _ in 0..2 {
        let start = Instant::now();
        optimizer.update(&mut decoder, &gradients, 1.0, 1.0)?;
        update = start.elapsed().as_secs_f64();
    }
    let trained = decoder.trained_count();
    Ok(CalibrationTimes { pass: times[times.len() / 2], update, trained, vocabulary })
}
