//! A decoder of a few thousand parameters, a few dozen examples, and one call that trains on them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parlor_kernels::DType;
use parlor_model::memory::FreeMemory;
use parlor_model::{
    Activation, Bias, Decoder, DecoderConfig, Head, LayerConfig, Mlp, Norm, Positions, QkNorm, Rope,
    RopeScaling,
};
use parlor_text::{Example, RowSource};
use parlor_train::checkpoint::{Checkpoint, Identity};
use parlor_train::distributed::{Alone, Collective};
use parlor_train::objectives::CrossEntropy;
use parlor_train::{
    ExampleSource, Finished, Flow, Hyperparameters, LoopConfig, LoopExamples, LoopHooks, Objective, Sequence,
    TrainError, TrainEvent, TrainingConfig, train,
};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::{Map, Value};

pub(crate) type Rows = Vec<Map<String, Value>>;

pub(crate) fn config() -> DecoderConfig {
    DecoderConfig {
        vocab_size: 29,
        hidden_size: 16,
        intermediate_size: 24,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: 8,
        max_position_embeddings: 32,
        norm: Norm::Rms { eps: 1e-6 },
        positions: Positions::Rotary,
        bias: Bias::Qkv,
        qk_norm: QkNorm::None,
        layers: vec![
            LayerConfig {
                window: None,
                rope: Some(Rope { theta: 10_000.0, scaling: RopeScaling::Default }),
                mlp: Mlp::Gated(Activation::Silu),
            };
            2
        ],
        head: Head::Tied,
        initializer_range: 0.1,
    }
}

pub(crate) fn decoder() -> Decoder {
    Decoder::initialise(config(), 7).unwrap()
}

/// Sequences with a pattern to learn, of different lengths, the first token of each untrained.
pub(crate) fn examples(count: usize) -> Vec<Example> {
    (0..count)
        .map(|n| {
            let length = 3 + (n * 5) % 9;
            let ids: Vec<u32> = (0..length).map(|i| ((n * 3 + i * (1 + n % 3)) % 29) as u32).collect();
            let weights = (0..length).map(|i| f32::from(u8::from(i > 0))).collect();
            example(ids, weights, n + 1)
        })
        .collect()
}

pub(crate) fn example(ids: Vec<u32>, weights: Vec<f32>, line: usize) -> Example {
    Example { ids, weights, source: RowSource { file: Arc::new("train.jsonl".into()), line } }
}

/// Examples as the objective takes them.
pub(crate) fn sequences(examples: Vec<Example>) -> Vec<Sequence> {
    examples.into_iter().map(Sequence::from).collect()
}

pub(crate) fn hyper() -> Hyperparameters {
    Hyperparameters {
        num_train_epochs: 2,
        per_device_train_batch_size: 4,
        learning_rate: 1e-2,
        logging_steps: 1,
        save_steps: 0,
        save_total_limit: None,
        ..TrainingConfig::default().from_scratch.hyperparameters()
    }
}

/// Writes all parameters into `model.safetensors`, under their roles.
pub(crate) fn save_model(decoder: &Decoder, directory: &Path) -> Result<(), parlor_files::FillError> {
    let views = decoder.parameters().iter().map(|p| {
        let dtype = if p.tensor.dtype() == DType::Bf16 { Dtype::BF16 } else { Dtype::F32 };
        let view = TensorView::new(dtype, p.tensor.shape().to_vec(), p.tensor.bytes()).unwrap();
        (p.spec.role.to_string(), view)
    });
    serialize_to_file(views, None, &directory.join("model.safetensors"))?;
    Ok(())
}

pub(crate) fn load_model(directory: &Path) -> Decoder {
    let mut decoder = decoder();
    load_into(&mut decoder, directory);
    decoder
}

pub(crate) fn load_into(decoder: &mut Decoder, directory: &Path) {
    let bytes = std::fs::read(directory.join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for id in 0..decoder.parameters().len() {
        let name = decoder.parameters()[id].spec.role.to_string();
        let data = tensors.tensor(&name).unwrap().data();
        decoder.elements_mut(id).unwrap().bytes_mut().copy_from_slice(data);
    }
}

/// The bits of every parameter.
pub(crate) fn bits(decoder: &Decoder) -> Vec<u32> {
    decoder.parameters().iter().flat_map(|p| p.tensor.as_f32().unwrap().iter().map(|x| x.to_bits())).collect()
}

/// One run of the loop.
pub(crate) struct LoopTest<'a> {
    pub(crate) train: Vec<Example>,
    pub(crate) eval: Vec<Example>,
    pub(crate) hyper: Hyperparameters,
    pub(crate) training: TrainingConfig,
    pub(crate) directory: &'a Path,
    pub(crate) resume: Option<Checkpoint>,
    /// Ask to stop after this many steps.
    pub(crate) stop_after: Option<u64>,
    /// Ask for a checkpoint after this many steps.
    pub(crate) save_after: Option<u64>,
    pub(crate) collective: Arc<dyn Collective>,
    pub(crate) free_memory: FreeMemory,
}

impl<'a> LoopTest<'a> {
    pub(crate) fn new(directory: &'a Path) -> Self {
        Self {
            train: examples(20),
            eval: Vec::new(),
            hyper: hyper(),
            training: TrainingConfig::default(),
            directory,
            resume: None,
            stop_after: None,
            save_after: None,
            collective: Arc::new(Alone),
            free_memory: FreeMemory::default(),
        }
    }

    pub(crate) fn go(self, decoder: &mut Decoder) -> (Result<Finished, TrainError>, Rows, Vec<TrainEvent>) {
        self.go_with(&CrossEntropy, decoder)
    }

    pub(crate) fn go_with<O: Objective<Example = Sequence>>(
        self,
        objective: &O,
        decoder: &mut Decoder,
    ) -> (Result<Finished, TrainError>, Rows, Vec<TrainEvent>) {
        let mut rows = Rows::new();
        let mut events = Vec::new();
        let (stop_after, save_after) = (self.stop_after, self.save_after);
        let mut observer = |event: TrainEvent| {
            let step = if let TrainEvent::Step(report) = &event { Some(report.step) } else { None };
            events.push(event);
            match step {
                Some(step) if Some(step) == stop_after => Flow::Stop,
                Some(step) if Some(step) == save_after => Flow::Save,
                _ => Flow::Continue,
            }
        };
        let config = LoopConfig {
            training: TrainingConfig { output_dir: self.directory.to_owned(), ..self.training },
            hyper: self.hyper,
            identity: Identity::default(),
            collective: self.collective,
            free_memory: self.free_memory,
            resume: self.resume,
        };
        let (train_examples, eval) = (sequences(self.train), sequences(self.eval));
        let examples =
            LoopExamples { objective, train: ExampleSource::InMemory(&train_examples), eval: &eval };
        let hooks = LoopHooks {
            save_model: &save_model,
            recorder: &mut rows,
            samples: None,
            observer: &mut observer,
            stop: &AtomicBool::new(false),
        };
        let result = train(decoder, &config, examples, hooks);
        (result, rows, events)
    }
}
