//! `training.lora`: low-rank adapters (Hu et al., 2021), with PEFT's names.

use indexmap::IndexMap;
use parlor_model::{AdapterBias, AdapterConfig, InitLora, TargetModules};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::hyperparameters::training_section;

/// How the factors of a new adapter are initialised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum InitLoraWeights {
    /// `true`: uniform, as a new linear layer. `false` is not in this build.
    Flag(bool),
    /// By name.
    Named(InitLoraName),
}

/// A named initialisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InitLoraName {
    /// Normal, with deviation `1 / r`.
    Gaussian,
}

training_section! {
    /// Low-rank adapters: small matrices that are trained while the weights stay frozen. With `training_type:
    /// lora` this section also holds the run's hyper-parameters; `sft` and `dpo` train an adapter of this
    /// shape when `enabled` is true, and every weight when it is false. `from_scratch` never reads it.
    LoraConfig {
        num_train_epochs: 3,
        per_device_train_batch_size: 4,
        learning_rate: 2e-4,
        /// Train an adapter and leave the weights as they are, under `sft` and `dpo` too.
        enabled: bool = true,
        /// Rank of the adapters: their size and capacity.
        #[schemars(range(min = 1))]
        r: usize = 16,
        /// The adapter's output is scaled by `lora_alpha / r`.
        #[schemars(extend("exclusiveMinimum" = 0))]
        lora_alpha: f64 = 32.0,
        /// Share of the adapter's inputs that training drops.
        #[schemars(range(min = 0, max = 1))]
        lora_dropout: f64 = 0.1,
        /// Which modules get an adapter: a list of names or ends of names (`q_proj`), a regular expression
        /// for whole names, or `all-linear`. `train` lists the names that a model has when none fits.
        target_modules: TargetModules =
            TargetModules::Names(["q_proj", "v_proj", "k_proj", "o_proj"].map(str::to_owned).to_vec()),
        /// Biases that are trained too: `none`, `all`, or `lora_only` (those of the adapted modules).
        bias: AdapterBias = AdapterBias::None,
        /// Modules that are trained whole and saved with the adapter, by the ends of their names: `lm_head`.
        modules_to_save: Vec<String> = Vec::new(),
        /// Scale by `lora_alpha / sqrt(r)` instead (rank-stabilised LoRA), so that high ranks learn.
        use_rslora: bool = false,
        /// Train magnitude and direction of the weights separately (DoRA): better at low ranks, slower.
        use_dora: bool = false,
        /// Rank of single modules: the end of a name, as a regular expression -> `r`. The first that fits counts.
        rank_pattern: IndexMap<String, usize> = IndexMap::new(),
        /// `lora_alpha` of single modules, likewise.
        alpha_pattern: IndexMap<String, f64> = IndexMap::new(),
        /// Values of a new adapter: `true` (uniform) or `gaussian`.
        init_lora_weights: InitLoraWeights = InitLoraWeights::Flag(true),
        /// LoRA+: the learning rate of the adapter's B matrices and vectors as a multiple of that of its A
        /// matrices; its authors use 16. Null is 1.
        #[schemars(extend("exclusiveMinimum" = 0))]
        loraplus_lr_ratio: Option<f64> = None,
    }
}

impl LoraConfig {
    /// The adapter that the section describes, for the model called `base`.
    pub fn adapter(&self, base: &str) -> AdapterConfig {
        AdapterConfig {
            r: self.r,
            lora_alpha: self.lora_alpha,
            lora_dropout: self.lora_dropout,
            target_modules: self.target_modules.clone(),
            exclude_modules: None,
            layers_to_transform: None,
            bias: self.bias,
            modules_to_save: self.modules_to_save.clone(),
            use_rslora: self.use_rslora,
            use_dora: self.use_dora,
            rank_pattern: self.rank_pattern.clone(),
            alpha_pattern: self.alpha_pattern.clone(),
            init_lora_weights: match self.init_lora_weights {
                InitLoraWeights::Named(InitLoraName::Gaussian) => InitLora::Gaussian,
                InitLoraWeights::Flag(_) => InitLora::Default,
            },
            base_model_name_or_path: Some(base.to_owned()),
        }
    }
}
