//! `training.from_scratch`: a new model, its tokenizer and its shape.

use std::path::PathBuf;

use parlor_model::{ArchitectureBlock, ModelPreset};

use super::hyperparameters::training_section;

training_section! {
    /// Training of a new model. Its shape is the preset `size`, or the block `architecture` when that is given.
    FromScratchConfig {
        num_train_epochs: 3,
        per_device_train_batch_size: 4,
        learning_rate: 5e-5,
        /// Size of the model: `nano`, `micro`, `tiny`, `small` or `base` (2 to 92 million parameters).
        size: ModelPreset = ModelPreset::default(),
        /// The model's shape in full; a key that is absent here comes from `size`.
        architecture: Option<ArchitectureBlock> = None,
        /// Tokens in the vocabulary of a tokenizer that is trained here. Small data may fill fewer.
        #[schemars(range(min = 257))]
        vocab_size: usize = 4096,
        /// A `tokenizer.json`, or a directory that holds one, to use. Null trains a byte-level BPE on the
        /// training data.
        tokenizer: Option<PathBuf> = None,
    }
}
