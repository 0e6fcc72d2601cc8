//! The keys that all training types share, declared once.
//!
//! Each training type is a section of its own, with its own defaults, so that a file may hold several. serde's
//! `flatten` does not work with `deny_unknown_fields`; a macro writes the shared keys into each section instead.

/// The shared keys of a training type, as the loop takes them. Their meaning is documented on each section.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the same keys are documented where the user writes them")]
pub struct Hyperparameters {
    pub num_train_epochs: u32,
    pub max_steps: i64,
    pub per_device_train_batch_size: usize,
    pub per_device_eval_batch_size: usize,
    pub gradient_accumulation_steps: usize,
    pub learning_rate: f64,
    pub weight_decay: f64,
    pub adam_beta1: f64,
    pub adam_beta2: f64,
    pub adam_epsilon: f64,
    pub max_grad_norm: f64,
    pub warmup_steps: u64,
    pub warmup_ratio: f64,
    pub logging_steps: u64,
    pub eval_steps: u64,
    pub save_steps: u64,
    pub save_total_limit: Option<usize>,
    pub early_stopping_patience: Option<u32>,
    pub early_stopping_threshold: f64,
}

/// Declares a training type's section: the shared keys with this type's defaults, then its own keys.
macro_rules! training_section {
    (
        $(#[$section:meta])*
        $name:ident {
            num_train_epochs: $epochs:expr,
            per_device_train_batch_size: $batch:expr,
            learning_rate: $rate:expr,
            $( $(#[$key:meta])* $field:ident: $type:ty = $default:expr, )*
        }
    ) => {
        $(#[$section])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $( $(#[$key])* pub $field: $type, )*
            /// Passes over the training data. Not read when `max_steps` is positive.
            #[schemars(range(min = 1))]
            pub num_train_epochs: u32,
            /// Optimizer steps to take, instead of whole epochs; the data repeats as needed. -1 counts epochs.
            #[schemars(range(min = -1))]
            pub max_steps: i64,
            /// Examples per forward and backward pass. Lower it when memory runs out, and raise
            /// `gradient_accumulation_steps` by the same factor: the result is the same.
            #[schemars(range(min = 1))]
            pub per_device_train_batch_size: usize,
            /// Examples per forward pass of an evaluation. Affects memory and speed only.
            #[schemars(range(min = 1))]
            pub per_device_eval_batch_size: usize,
            /// Passes whose gradients are summed into one optimizer step. Every trained token of the step weighs
            /// the same however the examples are divided.
            #[schemars(range(min = 1))]
            pub gradient_accumulation_steps: usize,
            /// Peak learning rate, reached after the warm-up. Must be above 0.
            #[schemars(extend("exclusiveMinimum" = 0))]
            pub learning_rate: f64,
            /// Decoupled weight decay of matrices; biases and norm weights are never decayed.
            #[schemars(range(min = 0))]
            pub weight_decay: f64,
            /// Decay of AdamW's first moment; with `lion`, share of the moment in a step.
            #[schemars(range(min = 0, max = 1))]
            pub adam_beta1: f64,
            /// Decay of AdamW's second moment; with `lion`, of its moment.
            #[schemars(range(min = 0, max = 1))]
            pub adam_beta2: f64,
            /// Added to AdamW's denominator.
            #[schemars(extend("exclusiveMinimum" = 0))]
            pub adam_epsilon: f64,
            /// Largest global norm of the gradient; a longer one is scaled down to it. 0 never scales.
            #[schemars(range(min = 0))]
            pub max_grad_norm: f64,
            /// Steps over which the learning rate rises from 0. Counts before `warmup_ratio` when above 0.
            pub warmup_steps: u64,
            /// The same as a fraction of all steps.
            #[schemars(range(min = 0, max = 1))]
            pub warmup_ratio: f64,
            /// Log every this many steps (and the first and the last).
            #[schemars(range(min = 1))]
            pub logging_steps: u64,
            /// Evaluate every this many steps, when there is evaluation data; 0 evaluates at the end of each
            /// epoch. The end of training is always evaluated.
            pub eval_steps: u64,
            /// Save a checkpoint every this many steps; 0 saves at the end only. A checkpoint holds what is
            /// trained in f32, and the optimizer's state: three times the model with AdamW on every weight.
            pub save_steps: u64,
            /// Number of checkpoints to keep: the newest ones, and the best one in addition. Null keeps all.
            #[schemars(range(min = 1))]
            pub save_total_limit: Option<usize>,
            /// Stop after this many evaluations in a row without a lower loss. Null never stops early.
            #[schemars(range(min = 1))]
            pub early_stopping_patience: Option<u32>,
            /// How much lower the loss must be to count as better for `early_stopping_patience`.
            #[schemars(range(min = 0))]
            pub early_stopping_threshold: f64,
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $( $field: $default, )*
                    num_train_epochs: $epochs,
                    max_steps: -1,
                    per_device_train_batch_size: $batch,
                    per_device_eval_batch_size: 8,
                    gradient_accumulation_steps: 1,
                    learning_rate: $rate,
                    weight_decay: 0.01,
                    adam_beta1: 0.9,
                    adam_beta2: 0.999,
                    adam_epsilon: 1e-8,
                    max_grad_norm: 1.0,
                    warmup_steps: 0,
                    warmup_ratio: 0.0,
                    logging_steps: 10,
                    eval_steps: 0,
                    save_steps: 500,
                    save_total_limit: Some(3),
                    early_stopping_patience: None,
                    early_stopping_threshold: 0.0,
                }
            }
        }

        impl $name {
            /// The keys that every training type has.
            pub fn hyperparameters(&self) -> crate::config::Hyperparameters {
                crate::config::Hyperparameters {
                    num_train_epochs: self.num_train_epochs,
                    max_steps: self.max_steps,
                    per_device_train_batch_size: self.per_device_train_batch_size,
                    per_device_eval_batch_size: self.per_device_eval_batch_size,
                    gradient_accumulation_steps: self.gradient_accumulation_steps,
                    learning_rate: self.learning_rate,
                    weight_decay: self.weight_decay,
                    adam_beta1: self.adam_beta1,
                    adam_beta2: self.adam_beta2,
                    adam_epsilon: self.adam_epsilon,
                    max_grad_norm: self.max_grad_norm,
                    warmup_steps: self.warmup_steps,
                    warmup_ratio: self.warmup_ratio,
                    logging_steps: self.logging_steps,
                    eval_steps: self.eval_steps,
                    save_steps: self.save_steps,
                    save_total_limit: self.save_total_limit,
                    early_stopping_patience: self.early_stopping_patience,
                    early_stopping_threshold: self.early_stopping_threshold,
                }
            }
        }
    };
}
pub(super) use training_section;
