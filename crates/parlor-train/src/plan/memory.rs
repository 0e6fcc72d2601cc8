//! The memory forecast: from shapes and the lengths of the examples alone. Nothing is computed and no weight
//! is read.
//!
//! Leaves out: other processes.

use parlor_kernels::DType;
use parlor_model::{
    Checkpointing, Decoder, Kind, KvCache, Owner, Parameter, PassKind, PassSize, activation_bytes,
    logits_bytes,
};
use parlor_text::epoch_order;

use crate::config::{Hyperparameters, TrainingConfig};
use crate::data::{ExampleSet, Examples, StreamedExamples};
use crate::distributed::Shards;
use crate::forecast::{Forecast, MemoryForecast};
use crate::objective::Objective;
use crate::objectives::CrossEntropy;
use crate::optim::Optimizer;
use crate::steps::StepPlan;

/// Sizes of a run's passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PassSizes {
    /// The largest number of tokens and of targets in a training pass.
    pub(crate) train: PassSize,
    /// The same for evaluation passes; none without evaluation.
    pub(crate) eval: Option<PassSize>,
    /// Tokens of the first epoch.
    pub(crate) tokens_per_epoch: u64,
    /// Tokens of an evaluation.
    pub(crate) eval_tokens: u64,
}

/// Epochs that are simulated: each has its own order, and so its own largest pass.
const EPOCHS: u64 = 3;

impl PassSizes {
    /// The sizes for the plan's batch size.
    pub(crate) fn of(examples: &Examples, plan: &StepPlan, hyper: &Hyperparameters, seed: u64) -> Self {
        match examples {
            Examples::Tokens(examples) => Self::of_examples(examples, plan, hyper, seed),
            Examples::Pairs(examples) => Self::of_examples(examples, plan, hyper, seed),
            Examples::Unpaired(examples) => Self::of_examples(examples, plan, hyper, seed),
            // Streamed examples are not known yet: assume the longest.
            Examples::Stream(streamed) => {
                let StreamedExamples { train, eval } = &**streamed;
                let longest = train.longest();
                let (tokens, rows) = (plan.batch_size * longest, plan.batch_size * longest.saturating_sub(1));
                let tokens_per_epoch = train.examples as u64 * longest as u64;
                let passes = Self { train: PassSize { tokens, rows }, tokens_per_epoch, ..Self::default() };
                passes.with_evaluation(&CrossEntropy, eval, hyper)
            }
        }
    }

    fn of_examples<O: Objective>(
        examples: &ExampleSet<O>,
        plan: &StepPlan,
        hyper: &Hyperparameters,
        seed: u64,
    ) -> Self {
        let ExampleSet { objective, train, eval } = examples;
        let mut passes = Self::default();
        for epoch in 0..EPOCHS {
            let order = epoch_order(train.len(), seed, epoch);
            for step in epoch * plan.steps_per_epoch..(epoch + 1) * plan.steps_per_epoch {
                if epoch > 0 && step >= plan.total_steps {
                    return passes.with_evaluation(objective, eval, hyper);
                }
                for pass in order[plan.places(step)].chunks(plan.batch_size) {
                    let chosen: Vec<&O::Example> = pass.iter().map(|&place| &train[place]).collect();
                    let size = objective.size(&chosen);
                    if step < plan.total_steps {
                        passes.train = passes.train.max(size);
                    }
                    if epoch == 0 {
                        passes.tokens_per_epoch += size.tokens as u64;
                    }
                }
            }
        }
        passes.with_evaluation(objective, eval, hyper)
    }

    fn with_evaluation<O: Objective>(
        self,
        objective: &O,
        eval: &[O::Example],
        hyper: &Hyperparameters,
    ) -> Self {
        let mut passes = self;
        let refs: Vec<&O::Example> = eval.iter().collect();
        for pass in refs.chunks(hyper.per_device_eval_batch_size.max(1)) {
            let size = objective.size(pass);
            passes.eval = Some(passes.eval.map_or(size, |largest| largest.max(size)));
            passes.eval_tokens += size.tokens as u64;
        }
        passes
    }
}

/// Computes forecasts from shapes and from the lengths of the examples.
#[derive(Clone, Copy)]
pub(crate) struct MemoryModel<'a> {
    pub(crate) decoder: &'a Decoder,
    pub(crate) training: &'a TrainingConfig,
    pub(crate) hyper: &'a Hyperparameters,
    pub(crate) plan: &'a StepPlan,
    pub(crate) passes: PassSizes,
    /// Bytes that the process holds besides the model.
    pub(crate) program: u64,
    pub(crate) available: Option<u64>,
}

impl MemoryModel<'_> {
    pub(crate) fn memory(&self) -> MemoryForecast {
        let Self { decoder, training, passes, .. } = *self;
        let whole = training.adapter().is_none();
        let (mut weights, mut adapters, mut trained) = (0, 0, 0);
        for (id, parameter) in decoder.parameters().iter().enumerate() {
            let elements = parameter.spec.len();
            let matrix = parameter.spec.kind == Kind::Matrix;
            let dtype = if whole && matrix { training.weights_dtype() } else { DType::F32 };
            let bytes = if whole { dtype.bytes(elements) } else { parameter.tensor.bytes().len() };
            match parameter.spec.owner {
                Owner::Model => weights += bytes as u64,
                Owner::Adapter(_) => adapters += bytes as u64,
            }
            if decoder.is_trained(id) {
                trained += dtype.bytes(elements) as u64;
            }
        }
        let config = decoder.config();
        let rows = passes.eval.map_or(passes.train.rows, |eval| eval.rows.max(passes.train.rows));
        let checkpointing: Checkpointing = training.gradient_checkpointing.0;
        let kind = PassKind::of(decoder, training.arithmetic(), Some(checkpointing));
        let cache = match training.sample_prompts.is_empty() {
            true => 0,
            false => {
                KvCache::bytes_per_token(config) * config.max_position_embeddings.min(CACHE_TOKENS) as u64
            }
        };
        let mut memory = MemoryForecast {
            weights,
            gradients: trained,
            optimizer: Optimizer::bytes_for(
                training,
                self.hyper,
                decoder,
                &Shards::new(decoder, 0, self.plan.world_size),
            ),
            activations: activation_bytes(config, kind, passes.train, passes.eval),
            logits: logits_bytes(config, rows),
            workspace: self.workspace(),
            adapters,
            cache,
            program: self.program,
            total: 0,
            available: self.available,
        };
        memory.total = memory.categories().iter().map(|(_, bytes)| bytes).sum();
        memory
    }

    /// Packed operands of matrix products, one parameter in flight to a file, and thread stacks. Fitted to
    /// measured peaks, not derived; a test compares forecasts with peaks.
    fn workspace(&self) -> u64 {
        let largest = |(id, parameter): (usize, &Parameter)| {
            if self.decoder.is_trained(id) { parameter.spec.len() * size_of::<f32>() } else { 0 }
        };
        let largest = self.decoder.parameters().iter().enumerate().map(largest).max().unwrap_or(0);
        let operand = self.passes.train.tokens * self.decoder.config().intermediate_size * size_of::<f32>();
        (BASE_WORKSPACE + largest + operand) as u64
    }

    pub(crate) fn forecast(&self) -> Forecast {
        Forecast {
            memory: self.memory(),
            tokens_per_epoch: self.passes.tokens_per_epoch,
            tokens_per_pass: self.passes.train.tokens,
            examples: self.plan.examples,
            steps: self.plan.total_steps,
            steps_per_epoch: self.plan.steps_per_epoch,
        }
    }
}

/// Temporary bytes that do not depend on sizes.
const BASE_WORKSPACE: usize = 14 << 20;

/// Assumed length of a sample prompt with its completion, in tokens.
const CACHE_TOKENS: usize = 512;
