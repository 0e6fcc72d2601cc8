//! The section itself: what every training type shares, and one sub-section per training type.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use parlor_kernels::{Arithmetic, DType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dpo::DpoConfig;
use super::from_scratch::FromScratchConfig;
use super::gradient_checkpointing::GradientCheckpointing;
use super::hyperparameters::Hyperparameters;
use super::lora::LoraConfig;
use super::optimizer::{OptimArgs, OptimizerName, ParamGroup};
use super::scheduler::{LrSchedulerKwargs, SchedulerName};
use super::sft::SftConfig;

/// How the model is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrainingType {
    /// A new model from random weights.
    FromScratch,
    /// Preference optimisation: pairs of completions, or completions with a label.
    #[default]
    Dpo,
    /// Supervised fine-tuning of an existing model.
    Sft,
    /// Supervised fine-tuning of a low-rank adapter.
    Lora,
}

impl TrainingType {
    /// The name in a config file, which is also its sub-section.
    pub fn name(self) -> &'static str {
        match self {
            TrainingType::FromScratch => "from_scratch",
            TrainingType::Dpo => "dpo",
            TrainingType::Sft => "sft",
            TrainingType::Lora => "lora",
        }
    }
}

impl fmt::Display for TrainingType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Training: which kind, where the results go, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingConfig {
    /// Which kind of training `parlor train` does: `from_scratch`, `sft`, `lora` or `dpo`. Its sub-section of the
    /// same name holds batch size, learning rate and the like.
    pub training_type: TrainingType,
    /// Directory for the trained model, checkpoints, metrics and the run's record. One run per directory.
    pub output_dir: PathBuf,
    /// Directory for logs of trackers that write their files outside `output_dir`.
    pub logging_dir: PathBuf,
    /// Seed of new weights and of the order of the data. The same seed, config, data and machine give the same
    /// model, bit for bit.
    pub seed: u64,
    /// Optimizer: `adamw_torch` (AdamW; `adamw` is another name), `adamw_8bit` (a quarter of its state),
    /// `adafactor` (next to none), `lion` (half), `muon` (half; for the matrices of the blocks, with AdamW
    /// for the rest) or `sgd`.
    pub optimizer: OptimizerName,
    /// Further settings of the optimizer in force. One that it does not take is an error.
    pub optim_args: OptimArgs,
    /// Parameters with a learning rate or a weight decay of their own: a list of `{pattern, learning_rate,
    /// weight_decay}`. The first whose `pattern`, a regular expression, is found in a parameter's name counts:
    /// `^embed_tokens`, `^layers\.0\.`, `lm_head`, `q_proj`, `lora_B`. The schedule moves all rates alike.
    pub param_groups: Vec<ParamGroup>,
    /// How the learning rate moves: HF's schedules by their names. Each begins with the warm-up that
    /// `warmup_steps` or `warmup_ratio` names, except `constant`.
    pub lr_scheduler_type: SchedulerName,
    /// Further settings of the schedule in force, by HF's names. One that it does not take is an error.
    pub lr_scheduler_kwargs: LrSchedulerKwargs,
    /// Mixed precision: matrix products of linear layers and the head round their operands to bfloat16 and
    /// accumulate in f32; tensors that only they read are stored rounded. Trained weights, gradients,
    /// optimizer state, the residual stream, norms and losses stay f32. Faster where the processor multiplies
    /// bfloat16 faster than f32 (AMD from Zen 4 on); elsewhere about as fast as f32.
    pub bf16: bool,
    /// Keep the trained weights and their gradients in bfloat16 too, with products as under `bf16`: 4 bytes a
    /// parameter instead of 8, and with `optimizer: adamw_8bit` 6 in all instead of 16. Updates are computed
    /// in f32 and rounded stochastically, so that small ones are not lost; the model is saved in bfloat16.
    /// Norms, biases and adapters stay f32.
    pub pure_bf16: bool,
    /// Train in float16 with loss scaling (not in this build yet).
    pub fp16: bool,
    /// Recompute activations in the backward pass instead of keeping them: less memory, about a third more
    /// time, the same result to the bit. `true` or `full`: block by block; `every_N`: N blocks at a time;
    /// `false` or `none`.
    pub gradient_checkpointing: GradientCheckpointing,
    /// Strength of the uniform noise that training adds to embeddings (NEFTune; 5 to 15 are usual). Null adds
    /// none.
    #[schemars(range(min = 0))]
    pub neftune_noise_alpha: Option<f64>,
    /// Loss of a step above which training counts as broken down; about twice the loss at the start is a good
    /// choice. Null turns the watchdog off.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub loss_watchdog_threshold: Option<f64>,
    /// Steps in a row above `loss_watchdog_threshold` that stop the run with an error.
    #[schemars(range(min = 1))]
    pub loss_watchdog_patience: u32,
    /// End with the weights of the best evaluation, which `best/` holds, instead of the last step's.
    pub load_best_model_at_end: bool,
    /// Metric of an evaluation that decides which is the best, for `best/` and early stopping: `loss`,
    /// `perplexity`, or one of the objective's, with or without `eval_`. Null is `loss`.
    pub metric_for_best_model: Option<String>,
    /// Whether higher values of `metric_for_best_model` are better. Null: yes, unless its name ends in `loss` or
    /// `perplexity`.
    pub greater_is_better: Option<bool>,
    /// Prompts that the model completes after every evaluation, by greedy decoding: the first question of a
    /// conversation, or the beginning of a text when all training data is plain text. The completions are
    /// shown, and kept in `samples.jsonl`.
    pub sample_prompts: Vec<String>,
    /// Longest completion of one of `sample_prompts`, in tokens.
    #[schemars(range(min = 1))]
    pub sample_max_new_tokens: usize,
    /// Threads that turn text into tokens before the first step; 0 uses all cores.
    pub dataloader_num_workers: usize,
    /// A `checkpoint-N` directory, or a run's `output_dir` (its newest checkpoint), to resume from. Null starts
    /// anew; `parlor train --resume` resumes in `output_dir`.
    pub resume_from_checkpoint: Option<PathBuf>,
    /// A new model from random weights.
    pub from_scratch: FromScratchConfig,
    /// Supervised fine-tuning.
    pub sft: SftConfig,
    /// Preference optimisation.
    pub dpo: DpoConfig,
    /// Low-rank adapters, under `lora`, `sft` and `dpo`.
    pub lora: LoraConfig,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            training_type: TrainingType::default(),
            output_dir: PathBuf::from("./models/trained"),
            logging_dir: PathBuf::from("./logs"),
            seed: 42,
            optimizer: OptimizerName::default(),
            optim_args: OptimArgs::default(),
            param_groups: Vec::new(),
            lr_scheduler_type: SchedulerName::default(),
            lr_scheduler_kwargs: LrSchedulerKwargs::default(),
            bf16: false,
            pure_bf16: false,
            fp16: false,
            gradient_checkpointing: GradientCheckpointing::default(),
            neftune_noise_alpha: None,
            loss_watchdog_threshold: None,
            loss_watchdog_patience: 3,
            load_best_model_at_end: false,
            metric_for_best_model: None,
            greater_is_better: None,
            sample_prompts: Vec::new(),
            sample_max_new_tokens: 64,
            dataloader_num_workers: 0,
            resume_from_checkpoint: None,
            from_scratch: FromScratchConfig::default(),
            sft: SftConfig::default(),
            dpo: DpoConfig::default(),
            lora: LoraConfig::default(),
        }
    }
}

impl TrainingConfig {
    /// The adapter that is trained, with the dropout in force; none when every weight is trained.
    pub fn adapter(&self) -> Option<Cow<'_, LoraConfig>> {
        let adapted = match self.training_type {
            TrainingType::FromScratch => false,
            TrainingType::Lora => true,
            TrainingType::Sft | TrainingType::Dpo => self.lora.enabled,
        };
        let mut section = adapted.then_some(Cow::Borrowed(&self.lora))?;
        if self.training_type == TrainingType::Dpo && self.dpo.disable_dropout && section.lora_dropout > 0.0 {
            section.to_mut().lora_dropout = 0.0;
        }
        Some(section)
    }

    /// Whether the loss measures against a reference model.
    pub fn needs_reference(&self) -> bool {
        self.training_type == TrainingType::Dpo && self.dpo.needs_reference()
    }

    /// Precision of matrix products.
    pub fn arithmetic(&self) -> Arithmetic {
        if self.bf16 || self.pure_bf16 { Arithmetic::Bf16 } else { Arithmetic::F32 }
    }

    /// Format of the weights in memory when all of them are trained.
    pub fn weights_dtype(&self) -> DType {
        if self.pure_bf16 { DType::Bf16 } else { DType::F32 }
    }

    /// The hyper-parameters of the training type in force.
    pub fn hyperparameters(&self) -> Hyperparameters {
        match self.training_type {
            TrainingType::FromScratch => self.from_scratch.hyperparameters(),
            TrainingType::Sft => self.sft.hyperparameters(),
            TrainingType::Dpo => self.dpo.hyperparameters(),
            TrainingType::Lora => self.lora.hyperparameters(),
        }
    }
}
