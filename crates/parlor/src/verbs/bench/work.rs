//! The measured work, each with the machine's limit for it: by the bytes that it must read, or its arithmetic
//! operations.

use std::time::Instant;

use parlor::kernels::cpu::roofline::{self, Roofline};
use parlor::kernels::{Arithmetic, DType};
use parlor::model::Architecture;
use parlor::model::{
    AdapterConfig, AdapterPlan, Batch, Context, Decoder, Gradients, Kind, KvCache, PassOptions, Role,
    TargetModules, Targets, Workspace,
};
use parlor::train::{Optimizer, TrainingConfig};
use serde::Serialize;

use crate::failure::Failure;

/// Tokens of a prompt, and of a training step.
const PROMPT: usize = 512;
/// Tokens of the prompt for the time to the first token.
const QUESTION: usize = 8;
/// Tokens in the cache before decoding is measured.
const BEFORE: usize = 64;
/// Minimum time of a measurement in seconds, and minimum number of rounds.
const LONG_ENOUGH: f64 = 2.0;
const ROUNDS: usize = 3;

/// One line of the report.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measurement {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// The roofline: the value if only the necessary memory traffic and arithmetic took time.
    pub(crate) limit: Option<f64>,
    pub(crate) percent_of_limit: Option<f64>,
    /// Page faults of a step after a warm-up: 0 when nothing is allocated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) page_faults: Option<f64>,
}

impl Measurement {
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str, limit: Option<f64>) -> Self {
        let percent_of_limit = limit.map(|limit| 100.0 * value / limit);
        Self { name: name.into(), value, unit, limit, percent_of_limit, page_faults: None }
    }

    fn with_faults(self, page_faults: Option<f64>) -> Self {
        Self { page_faults, ..self }
    }
}

/// A model to measure.
pub(crate) struct Subject {
    pub(crate) decoder: Decoder,
    pub(crate) architecture: Architecture,
    pub(crate) dtype: DType,
    /// Size in bytes of the buffer for measuring memory bandwidth.
    pub(crate) reading: usize,
}

/// The machine's roofline, by the best of several measurements over a buffer of this many bytes.
pub(crate) fn limits(reading: usize) -> Result<Roofline, Failure> {
    roofline::measure(reading)
        .map_err(|error| Failure::failed(format!("there is no memory to read: {error}")))
}

/// The result of `work`, and the machine's roofline just before and after it, which other users of a shared
/// machine change within seconds.
fn beside_limits<R>(
    reading: usize,
    work: impl FnOnce() -> Result<R, Failure>,
) -> Result<(R, Roofline), Failure> {
    let before = limits(reading)?;
    let result = work()?;
    Ok((result, before.max(limits(reading)?)))
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::failed(error.to_string())
}

fn ids(count: usize, vocabulary: usize) -> Vec<u32> {
    (0..count).map(|n| (n * 7919 % vocabulary) as u32).collect()
}

/// The median time of several rounds of `work`, which returns its seconds, and the page faults of a round.
fn median(mut work: impl FnMut() -> Result<f64, Failure>) -> Result<(f64, Option<f64>), Failure> {
    // Two warm-up rounds: the first allocates buffers and touches pages, the second settles allocators.
    work()?;
    work()?;
    let mut times = Vec::with_capacity(1 << 12);
    let before = page_faults();
    while times.len() < ROUNDS || times.iter().sum::<f64>() < LONG_ENOUGH {
        times.push(work()?);
    }
    let rounds = times.len() as f64;
    let faults = before.zip(page_faults()).map(|(before, after)| (after - before) as f64 / rounds);
    times.sort_by(f64::total_cmp);
    Ok((times[times.len() / 2], faults))
}

/// Minor page faults of this process so far, if the system reports them.
fn page_faults() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // After the name, which may hold anything and ends with the last parenthesis, come the state, six
    // numbers, and this one.
    stat.rsplit_once(')')?.1.split_whitespace().nth(7)?.parse().ok()
}

impl Subject {
    /// Bytes of the weights that a step reads: all but the embedding, of which it reads some rows only,
    /// unless that is also the head.
    fn bytes(&self) -> f64 {
        let tied = !self.decoder.parameters().iter().any(|parameter| parameter.spec.role == Role::Head);
        let read = |role: Role| role != Role::TokenEmbedding || tied;
        let read = self.decoder.parameters().iter().filter(|parameter| read(parameter.spec.role));
        read.map(|parameter| parameter.tensor.dtype().bytes(parameter.spec.len()) as f64).sum()
    }

    /// Operations per token in the blocks: two per element of each matrix.
    fn operations(&self) -> f64 {
        let block = |role: Role| matches!(role, Role::Block { .. });
        let matrices = self.decoder.parameters().iter().map(|parameter| &parameter.spec);
        matrices
            .filter(|spec| spec.kind == Kind::Matrix && block(spec.role))
            .map(|s| 2.0 * s.len() as f64)
            .sum()
    }

    /// Operations per token in the head.
    fn head_operations(&self) -> f64 {
        let config = self.decoder.config();
        2.0 * (config.hidden_size * config.vocab_size) as f64
    }

    /// Peak operations per second for weights of this format.
    fn peak(&self, limits: Roofline) -> f64 {
        match self.dtype {
            DType::F32 => limits.f32,
            DType::Bf16 | DType::F16 => peak_of_bf16(limits),
            DType::Block(_) => limits.int8.unwrap_or(limits.f32),
        }
    }

    /// Time to the first token, after a short prompt.
    pub(crate) fn first_token(&self) -> Result<(), Failure> {
        let ids = ids(QUESTION, self.decoder.config().vocab_size);
        let mut cache = KvCache::new(self.decoder.config(), 1);
        let mut batch = Batch::default();
        batch.push(&ids, 0, Context::Cache(0));
        let last = [QUESTION - 1];
        self.decoder.logits(&batch, &last, Some(&mut cache), &mut Workspace::default()).map_err(failed)?;
        Ok(())
    }

    /// Tokens per second of a prompt.
    pub(crate) fn prefill(&self) -> Result<Measurement, Failure> {
        let ids = ids(PROMPT, self.decoder.config().vocab_size);
        let mut saved = Workspace::default();
        let round = || {
            let mut cache = KvCache::new(self.decoder.config(), 1);
            let mut batch = Batch::default();
            batch.push(&ids, 0, Context::Cache(0));
            let start = Instant::now();
            self.decoder.logits(&batch, &[PROMPT - 1], Some(&mut cache), &mut saved).map_err(failed)?;
            Ok(start.elapsed().as_secs_f64())
        };
        let ((seconds, faults), limits) = beside_limits(self.reading, || median(round))?;
        let operations = PROMPT as f64 * self.operations() + self.head_operations();
        let limit = PROMPT as f64 * self.peak(limits) / operations;
        Ok(Measurement::new(
            format!("prefill, {PROMPT} tokens"),
            PROMPT as f64 / seconds,
            "tokens/s",
            Some(limit),
        )
        .with_faults(faults))
    }

    /// Decoded tokens per second of `sequences` sequences at once.
    pub(crate) fn decode(&self, sequences: usize) -> Result<Measurement, Failure> {
        let config = self.decoder.config();
        let (mut cache, mut saved) = (KvCache::new(config, sequences), Workspace::default());
        let ids = ids(BEFORE, config.vocab_size);
        for sequence in 0..sequences {
            let mut batch = Batch::default();
            batch.push(&ids, 0, Context::Cache(sequence));
            self.decoder.logits(&batch, &[BEFORE - 1], Some(&mut cache), &mut saved).map_err(failed)?;
        }
        let rows: Vec<usize> = (0..sequences).collect();
        let round = || {
            // Always with the same number of tokens in the cache.
            (0..sequences).for_each(|sequence| cache.truncate(sequence, BEFORE));
            let mut batch = Batch::default();
            for sequence in 0..sequences {
                batch.push(&ids[..1], BEFORE, Context::Cache(sequence));
            }
            let start = Instant::now();
            self.decoder.logits(&batch, &rows, Some(&mut cache), &mut saved).map_err(failed)?;
            Ok(start.elapsed().as_secs_f64())
        };
        let ((seconds, faults), limits) = beside_limits(self.reading, || median(round))?;
        let cached = sequences * BEFORE;
        let bytes = self.bytes() + cached as f64 * KvCache::bytes_per_token(config) as f64;
        let limit = sequences as f64 * limits.read / bytes;
        let name = if sequences == 1 { "1 sequence".to_owned() } else { format!("{sequences} sequences") };
        let value = sequences as f64 / seconds;
        Ok(Measurement::new(format!("decode, {name}"), value, "tokens/s", Some(limit)).with_faults(faults))
    }

    /// Tokens per second of a training step of a LoRA adapter of rank 16, or of all weights.
    pub(crate) fn train(mut self, lora: bool) -> Result<Measurement, Failure> {
        let config = self.decoder.config().clone();
        let (name, arithmetic) = match lora {
            true => {
                let targets = ["q_proj", "k_proj", "v_proj", "o_proj"].map(str::to_owned).to_vec();
                let adapter = AdapterConfig {
                    r: 16,
                    target_modules: TargetModules::Names(targets),
                    ..AdapterConfig::default()
                };
                let plan = AdapterPlan::new(&self.decoder, self.architecture, adapter).map_err(failed)?;
                let values = plan.initial_values(&self.decoder, 0);
                let id = self.decoder.attach(plan, values).map_err(failed)?;
                self.decoder.train_adapter(id);
                ("training step, LoRA r=16", Arithmetic::Bf16)
            }
            false => {
                self.decoder = self.decoder.to_dtype(DType::F32);
                let narrow = self.dtype != DType::F32;
                ("training step, all weights", if narrow { Arithmetic::Bf16 } else { Arithmetic::F32 })
            }
        };
        let ids = ids(PROMPT, config.vocab_size);
        let batch = Batch::of_sequences([ids.as_slice()]);
        let weights = std::iter::once(0.0).chain(std::iter::repeat_n(1.0, PROMPT - 1)).collect();
        let targets = Targets { ids, weights };
        let d_logp: Vec<f32> = targets.weights.iter().map(|weight| -weight / PROMPT as f32).collect();
        let training = TrainingConfig::default();
        let mut optimizer = Optimizer::new(&training, &training.hyperparameters(), &self.decoder)
            .map_err(|problem| failed(problem.message))?;
        let (mut saved, mut gradients) = (Workspace::default(), Gradients::zeros(&self.decoder));
        saved.arithmetic = arithmetic;
        let reading = self.reading;
        let round = || {
            let start = Instant::now();
            gradients.zero_lazily();
            self.decoder.logprobs(&batch, &targets, &PassOptions::default(), &mut saved).map_err(failed)?;
            self.decoder.backward(&d_logp, &batch, &mut saved, &mut gradients).map_err(failed)?;
            optimizer.update(&mut self.decoder, &gradients, 1.0, 1.0).map_err(failed)?;
            Ok(start.elapsed().as_secs_f64())
        };
        let ((seconds, faults), limits) = beside_limits(reading, || median(round))?;
        // Forward, and twice that backward; frozen weights need no weight gradient.
        let passes = if lora { 2.0 } else { 3.0 };
        let peak = if arithmetic == Arithmetic::F32 { limits.f32 } else { peak_of_bf16(limits) };
        let limit = peak / (passes * (self.operations() + self.head_operations()));
        Ok(Measurement::new(name, PROMPT as f64 / seconds, "tokens/s", Some(limit)).with_faults(faults))
    }
}

fn peak_of_bf16(limits: Roofline) -> f64 {
    limits.bf16.map_or(limits.f32, |bf16| bf16.max(limits.f32))
}
