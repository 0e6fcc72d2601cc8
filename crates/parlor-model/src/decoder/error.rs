//! Errors of assembling and running a decoder.

/// Why a decoder cannot be assembled or cannot run a batch.
#[derive(Debug, thiserror::Error)]
pub enum DecoderError {
    /// The configuration contradicts itself.
    #[error("the model's configuration is inconsistent: {}", .0.join("; "))]
    Config(Vec<String>),
    /// The parameters are not those of the configuration.
    #[error(
        "parameter {index} should be `{expected}` {expected_shape:?}, but `{found}` {found_shape:?} was given"
    )]
    Parameters {
        /// Index in the list.
        index: usize,
        /// Role expected there.
        expected: String,
        /// Shape expected there.
        expected_shape: Vec<usize>,
        /// Role found there.
        found: String,
        /// Shape found there.
        found_shape: Vec<usize>,
    },
    /// The number of parameters is wrong.
    #[error("{expected} parameters are needed, but {found} were given")]
    Count {
        /// Number needed.
        expected: usize,
        /// Number given.
        found: usize,
    },
    /// A batch that this decoder cannot run.
    #[error("{0}")]
    Batch(String),
    /// The activations of a pass do not fit in memory.
    #[error("memory ran out: a pass over {tokens} tokens needs {} MiB of activations", .bytes.div_ceil(1 << 20))]
    OutOfMemory {
        /// Tokens in the batch.
        tokens: usize,
        /// Bytes of all its activations.
        bytes: u64,
    },
}
