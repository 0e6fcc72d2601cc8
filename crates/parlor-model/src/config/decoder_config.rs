//! The shape of a decoder: every way in which the supported families differ, as data.
//!
//! `arch/` maps a Hugging Face `config.json` to this; the forward and backward passes read nothing else. A
//! new variation of data is a variant here; a new variation of control flow or state is a file in `decoder/`.
//! What differs from layer to layer is in [`LayerConfig`].

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

impl Norm {
    /// The constant that keeps the division finite.
    pub fn eps(self) -> f32 {
        let (Norm::Rms { eps } | Norm::Layer { eps }) = self;
        eps
    }
}

/// How token positions enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions {
    /// By rotary embedding, in the layers with a [`LayerConfig::rope`].
    Rotary,
    /// By a learned vector per position, added to the token embedding.
    Learned,
}

/// Rotary embedding of queries and keys (half-rotation, as HF's `rotate_half`).
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

/// What may differ from layer to layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerConfig {
    /// How many of the last positions a query sees, itself included; `None` is all of them.
    pub window: Option<usize>,
    /// Rotary embedding; `None` leaves queries and keys as they are.
    pub rope: Option<Rope>,
    /// Feed-forward kind.
    pub mlp: Mlp,
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
    /// Which linear layers have a bias.
    pub bias: Bias,
    /// Query/key normalisation.
    pub qk_norm: QkNorm,
    /// The blocks, first to last.
    pub layers: Vec<LayerConfig>,
    /// Output head.
    pub head: Head,
    /// Standard deviation of the normal distribution that new weights are drawn from.
    pub initializer_range: f32,
}

impl DecoderConfig {
    /// Number of blocks.
    pub fn num_hidden_layers(&self) -> usize {
        self.layers.len()
    }

    /// Every block's attention window, first to last.
    pub fn windows(&self) -> impl Iterator<Item = Option<usize>> {
        self.layers.iter().map(|layer| layer.window)
    }

    /// Whether some block has a gated MLP.
    pub(crate) fn has_gated_mlp(&self) -> bool {
        self.layers.iter().any(|layer| matches!(layer.mlp, Mlp::Gated(_)))
    }

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
            ("num_hidden_layers", self.num_hidden_layers()),
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
        let rotates = self.positions == Positions::Rotary;
        if rotates && !self.head_dim.is_multiple_of(2) {
            problems.push(format!("rotary embedding needs an even `head_dim`, but it is {}", self.head_dim));
        }
        if !rotates && self.layers.iter().any(|layer| layer.rope.is_some()) {
            problems.push("layers with rotary embedding need `positions` to be rotary".to_owned());
        }
        if self.windows().any(|window| window == Some(0)) {
            problems.push("`sliding_window` is 0; a query must at least see itself".to_owned());
        }
        problems
    }
}
