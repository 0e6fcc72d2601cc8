//! `training.lora`: low-rank adapters (Hu et al., 2021), with PEFT's names. Typed here; the adapters come later.

use super::hyperparameters::training_section;

training_section! {
    /// Low-rank adapters (not in this build yet). Read when `training_type` is `lora`; in this build the other
    /// training types update every weight whatever `enabled` says.
    LoraConfig {
        num_train_epochs: 3,
        per_device_train_batch_size: 4,
        learning_rate: 2e-4,
        /// Train adapters and leave the weights as they are. Counts for `training_type: lora`.
        enabled: bool = true,
        /// Rank of the adapters: their size and capacity.
        #[schemars(range(min = 1))]
        r: usize = 16,
        /// The adapter's output is scaled by `lora_alpha / r`.
        #[schemars(extend("exclusiveMinimum" = 0))]
        lora_alpha: f64 = 32.0,
        /// Share of the adapter's inputs that are dropped in training.
        #[schemars(range(min = 0, max = 1))]
        lora_dropout: f64 = 0.1,
        /// Which linear layers get an adapter, by the last part of their name.
        target_modules: Vec<String> = ["q_proj", "v_proj", "k_proj", "o_proj"].map(str::to_owned).to_vec(),
    }
}
