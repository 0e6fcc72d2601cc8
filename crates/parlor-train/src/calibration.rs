//! How long a run will take: a block and a second one of the model's own shape, with random weights, are trained for about
//! half a second on this machine; the rest is counting.
//!
//! A pass of one block costs the head and a block, one of two a block more; both are scaled to the model's blocks, vocabulary
//! and tokens. Leaves out: saving, and what else the machine does later.

use std::time::{Duration, Instant};

use parlor_model::{Batch, Decoder, DecoderConfig, DecoderError, Gradients, PassOptions, Targets, Workspace};

use crate::adapter::attach;
use crate::error::TrainError;
use crate::groundwork::Groundwork;
use crate::optimizer::Optimizer;

/// Rows of the head that are computed; the time of all is in proportion.
const VOCABULARY: usize = 4096;
/// Tokens of a pass: enough for products to reach their speed.
const TOKENS: usize = 512;
/// Time for each of the two sizes.
const EACH: Duration = Duration::from_millis(200);

/// Seconds of one pass and of one update.
struct CalibrationTimes {
    pass: f64,
    update: f64,
    /// Elements that an update changes.
    trained: usize,
    vocabulary: usize,
}

/// Seconds of training, evaluations included.
///
/// # Errors
/// When a small model of the same shape cannot be run.
pub(crate) fn seconds_estimate(ground: &Groundwork) -> Result<f64, TrainError> {
    let config = ground.decoder.config();
    let passes = ground.passes();
    let share = passes.train.rows as f64 / passes.train.tokens.max(1) as f64;
    let length = (passes.train.tokens / ground.plan.batch_size.max(1)).clamp(1, TOKENS);
    let batch = CalibrationBatch { length, share };
    let (one, two) = (measure(ground, 1, batch)?, measure(ground, 2, batch)?);
    let block = (two.pass - one.pass).max(0.1 * one.pass);
    let head = (one.pass - block).max(0.0) * config.vocab_size as f64 / one.vocabulary as f64;
    let per_token = (config.num_hidden_layers() as f64 * block + head) / TOKENS as f64;
    let update = two.update / two.trained.max(1) as f64 * ground.decoder.trained_count() as f64;
    let steps = ground.plan.total_steps as f64;
    let epochs = steps / ground.plan.steps_per_epoch.max(1) as f64;
    let evaluations = match ground.hyper.eval_steps {
        0 => epochs,
        every => steps / every as f64,
    };
    // A forward pass alone is a third of both.
    let tokens = epochs * passes.tokens_per_epoch as f64 + evaluations * passes.eval_tokens as f64 / 3.0;
    let ranks = ground.plan.world_size.max(1) as f64;
    Ok(tokens * per_token / ranks + steps * update)
}

/// Sequences of a pass.
#[derive(Clone, Copy)]
struct CalibrationBatch {
    length: usize,
    /// Of the tokens, how many have a target.
    share: f64,
}

fn measure(
    ground: &Groundwork,
    layers: usize,
    workload: CalibrationBatch,
) -> Result<CalibrationTimes, TrainError> {
    let model = |error: DecoderError| TrainError::Model(Box::new(error));
    let whole = ground.decoder.config();
    let vocabulary = whole.vocab_size.min(VOCABULARY);
    let config = DecoderConfig {
        layers: whole.layers.iter().copied().cycle().take(layers).collect(),
        vocab_size: vocabulary,
        max_position_embeddings: whole.max_position_embeddings.min(2 * TOKENS),
        ..whole.clone()
    };
    let mut decoder =
        Decoder::initialise(config, 0).map_err(model)?.into_owned(ground.training.weights_dtype());
    if let Some(section) = ground.training.adapter() {
        let base = (&*section, ground.model.name.as_str());
        // A pattern that names later blocks only matches nothing here: all weights are trained then, which is slower.
        if attach(&mut decoder, ground.architecture, base, 0, None).is_err() {
            decoder.train_only(|_| true);
        }
    }
    let ids: Vec<u32> = (0..TOKENS).map(|n| (n * 7919 % vocabulary) as u32).collect();
    let batch = Batch::of_sequences(ids.chunks(workload.length));
    let trained = |n: usize| ((n + 1) as f64 * workload.share).floor() > (n as f64 * workload.share).floor();
    let targets = Targets { weights: (0..TOKENS).map(|n| f32::from(u8::from(trained(n)))).collect(), ids };
    let d_logp: Vec<f32> = targets.weights.iter().map(|weight| -weight / TOKENS as f32).collect();
    let mut saved = Workspace::default();
    let options =
        PassOptions { checkpointing: ground.training.gradient_checkpointing.0, ..PassOptions::default() };
    saved.arithmetic = ground.training.arithmetic();
    let mut gradients = Gradients::zeros(&decoder);
    let mut pass = || -> Result<f64, TrainError> {
        let start = Instant::now();
        decoder.logprobs(&batch, &targets, &options, &mut saved).map_err(model)?;
        decoder.backward(&d_logp, &batch, &mut saved, &mut gradients).map_err(model)?;
        Ok(start.elapsed().as_secs_f64())
    };
    pass()?;
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < 3 || start.elapsed() < EACH {
        times.push(pass()?);
    }
    times.sort_by(f64::total_cmp);
    let mut optimizer = Optimizer::new(&ground.training, &ground.hyper, &decoder)
        .map_err(|problem| TrainError::Config(vec![problem]))?;
    let mut update = 0.0;
    for _ in 0..2 {
        let start = Instant::now();
        optimizer.update(&mut decoder, &gradients, 1.0, 1.0)?;
        update = start.elapsed().as_secs_f64();
    }
    let trained = decoder.trained_count();
    Ok(CalibrationTimes { pass: times[times.len() / 2], update, trained, vocabulary })
}
