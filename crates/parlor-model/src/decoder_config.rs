//! The shape of a decoder: every way in which the supported families differ, as data.
//!
//! `arch/` maps a Hugging Face `config.json` to this; the forward and backward passes read nothing else. A new
//! variation of data is a variant here; one of control flow or state is a new file beside `block.rs`.

/// How activations are normalised before attention and before the MLP.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Norm {
    /// `x / sqrt(mean(x^2) + eps) * weight`.
    Rms {
        /// Added to the mean square.
        eps: f32,
    },
    /// `(x - mean) / sqrt(var + eps) * weight + bias`.
    Layer {
        /// Added to the variance.
        eps: f32,
    },
}

/// How token positions enter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Positions {
    /// Rotary embedding of queries and keys (half-rotation, as HF's `rotate_half`).
    Rope(Rope),
    /// A learned vector per position, added to the token embedding.
    Learned,
}

/// Rotary position embedding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// Base of the geometric series of wavelengths.
    pub theta: f64,
    /// How frequencies are stretched for longer contexts.
    pub scaling: RopeScaling,
}

/// HF's `rope_type`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// As trained.
    Default,
    /// Every frequency divided by `factor`.
    Linear {
        /// Context stretch.
        factor: f64,
    },
    /// Llama 3.x: long wavelengths divided by `factor`, short ones kept, a ramp between.
    ByWavelength {
        /// Context stretch of the long wavelengths.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are stretched whole.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context length of the original training.
        original_max_position_embeddings: f64,
    },
}

/// The nonlinearity of the MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// The tanh approximation of GELU (`gelu_new`, `gelu_pytorch_tanh`).
    GeluTanh,
}

/// The feed-forward part of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mlp {
    /// `down(act(gate(x)) * up(x))`.
    Gated(Activation),
    /// `down(act(up(x)))`.
    Plain(Activation),
}

/// Which linear layers carry a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bias {
    /// None does.
    None,
    /// Query, key and value do (Qwen2).
    Qkv,
    /// Query, key, value and attention output do.
    Attention,
    /// The MLP's do (Llama's `mlp_bias` without `attention_bias`).
    Mlp,
    /// All do (GPT-2).
    All,
}

impl Bias {
    /// Whether query, key and value carry one.
    pub fn on_qkv(self) -> bool {
        matches!(self, Bias::Qkv | Bias::Attention | Bias::All)
    }

    /// Whether the attention output carries one.
    pub fn on_attention_output(self) -> bool {
        matches!(self, Bias::Attention | Bias::All)
    }

    /// Whether the MLP's linear layers carry one.
    pub fn on_mlp(self) -> bool {
        matches!(self, Bias::Mlp | Bias::All)
    }
}

/// Whether queries and keys are normalised per head before the rotary embedding (Qwen3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    /// They are not.
    None,
    /// RMS norm over each head's `head_dim`, with one weight of that length.
    PerHead,
}

/// Where the output head's weight comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// It is the token embedding.
    Tied,
    /// It is a matrix of its own.
    Separate,
}

/// A decoder's shape. Sizes in elements.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
    /// Rows of the token embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key/value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Longest sequence, in tokens.
    pub max_position_embeddings: usize,
    /// Normalisation.
    pub norm: Norm,
    /// Position information.
    pub positions: Positions,
    /// Feed-forward kind.
    pub mlp: Mlp,
    /// Which linear layers have a bias.
    pub bias: Bias,
    /// Query/key normalisation.
    pub qk_norm: QkNorm,
    /// Per block: how many of the last positions a query sees, itself included; `None` is all of them.
    pub windows: Vec<Option<usize>>,
    /// Output head.
    pub head: Head,
    /// Standard deviation of the normal distribution that new weights are drawn from.
    pub initializer_range: f32,
}

impl DecoderConfig {
    /// Columns of the query projection: `num_attention_heads * head_dim`.
    pub fn query_size(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Columns of the key (or value) projection: `num_key_value_heads * head_dim`.
    pub fn key_value_size(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// What is wrong with the shape, as sentences; empty when nothing is.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let positive = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        for (name, value) in positive {
            if value == 0 {
                problems.push(format!("`{name}` is 0; it must be at least 1"));
            }
        }
        if self.num_key_value_heads > 0 && !self.num_attention_heads.is_multiple_of(self.num_key_value_heads)
        {
            problems.push(format!(
                "`num_attention_heads` ({}) is not a multiple of `num_key_value_heads` ({})",
                self.num_attention_heads, self.num_key_value_heads
            ));
        }
        if matches!(self.positions, Positions::Rope(_)) && !self.head_dim.is_multiple_of(2) {
            problems.push(format!("rotary embedding needs an even `head_dim`, but it is {}", self.head_dim));
        }
        if self.windows.len() != self.num_hidden_layers {
            problems.push(format!(
                "{} attention windows are given for {} layers",
                self.windows.len(),
                self.num_hidden_layers
            ));
        }
        if self.windows.contains(&Some(0)) {
            problems.push("`sliding_window` is 0; a query must at least see itself".to_owned());
        }
        problems
    }
}
