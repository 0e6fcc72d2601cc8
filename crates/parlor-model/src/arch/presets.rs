//! Shapes for models made from nothing: named sizes, and a block of keys that overrides or replaces them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::architecture::Architecture;
use super::family::NewModel;
use super::registry;
use crate::config::{DecoderConfig, Head, Positions};

/// A named size for a new model. Parameter counts include a tied embedding of 8192 tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModelPreset {
    /// 1.8 million: hidden 128, 4 layers. Trains in a minute on a laptop; for trying things out.
    Nano,
    /// 5 million: hidden 256, 4 layers.
    Micro,
    /// 13 million: hidden 384, 6 layers.
    #[default]
    Tiny,
    /// 28 million: hidden 512, 8 layers.
    Small,
    /// 82 million: hidden 768, 12 layers. Wants a GPU or a long night.
    Base,
}

/// The sizes of a preset.
struct PresetSizes {
    hidden: usize,
    intermediate: usize,
    layers: usize,
    heads: usize,
    key_value_heads: usize,
    context: usize,
}

impl ModelPreset {
    /// All of them, smallest first.
    pub const ALL: [ModelPreset; 5] =
        [ModelPreset::Nano, ModelPreset::Micro, ModelPreset::Tiny, ModelPreset::Small, ModelPreset::Base];

    /// The name used in the config.
    pub fn name(self) -> &'static str {
        match self {
            ModelPreset::Nano => "nano",
            ModelPreset::Micro => "micro",
            ModelPreset::Tiny => "tiny",
            ModelPreset::Small => "small",
            ModelPreset::Base => "base",
        }
    }

    fn sizes(self) -> PresetSizes {
        let [hidden, intermediate, layers, heads, key_value_heads, context] = match self {
            ModelPreset::Nano => [128, 384, 4, 4, 2, 512],
            ModelPreset::Micro => [256, 704, 4, 4, 2, 1024],
            ModelPreset::Tiny => [384, 1024, 6, 6, 2, 1024],
            ModelPreset::Small => [512, 1408, 8, 8, 4, 2048],
            ModelPreset::Base => [768, 2048, 12, 12, 4, 2048],
        };
        PresetSizes { hidden, intermediate, layers, heads, key_value_heads, context }
    }
}

/// A full description of a new model's shape. A key that is absent takes the value of the size preset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ArchitectureBlock {
    /// Which family the new model belongs to: decides its block and what other programs take it for. Default `qwen3`.
    pub family: Option<Architecture>,
    /// Width of the residual stream, in elements.
    #[schemars(range(min = 1, max = 65536))]
    pub hidden_size: Option<usize>,
    /// Width of the MLP, in elements.
    #[schemars(range(min = 1, max = 262144))]
    pub intermediate_size: Option<usize>,
    /// Number of blocks.
    #[schemars(range(min = 1, max = 1000))]
    pub num_hidden_layers: Option<usize>,
    /// Query heads.
    #[schemars(range(min = 1, max = 1024))]
    pub num_attention_heads: Option<usize>,
    /// Key/value heads; must divide the query heads. Fewer make the cache smaller.
    #[schemars(range(min = 1, max = 1024))]
    pub num_key_value_heads: Option<usize>,
    /// Width of one head; default `hidden_size / num_attention_heads`. Even, for rotary positions.
    #[schemars(range(min = 1, max = 1024))]
    pub head_dim: Option<usize>,
    /// Longest sequence, in tokens.
    #[schemars(range(min = 1, max = 16777216))]
    pub max_position_embeddings: Option<usize>,
    /// Base of the rotary wavelengths; default 10000. Raise it for contexts of tens of thousands of tokens.
    #[schemars(range(min = 1.0))]
    pub rope_theta: Option<f64>,
    /// Whether the output head shares the token embedding's weights; default true. Saves memory in small models.
    pub tie_word_embeddings: Option<bool>,
    /// Added inside the norms; default 1e-6.
    #[schemars(range(min = 1e-12, max = 1.0))]
    pub rms_norm_eps: Option<f64>,
    /// Standard deviation of the initial weights; default 0.02.
    #[schemars(range(min = 1e-6, max = 1.0))]
    pub initializer_range: Option<f64>,
}

/// What is wrong with an [`ArchitectureBlock`]: one sentence per problem, all of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shape of the new model is inconsistent: {}", .0.join("; "))]
pub struct PresetError(pub Vec<String>);

impl ArchitectureBlock {
    /// The family and shape of a new model with `vocab_size` tokens: this block over `preset`.
    ///
    /// # Errors
    /// Every contradiction in the shape, and every key that the family cannot express.
    pub fn resolve(
        &self,
        preset: ModelPreset,
        vocab_size: usize,
    ) -> Result<(Architecture, DecoderConfig), PresetError> {
        let mut problems = Vec::new();
        let PresetSizes { hidden, intermediate, layers, heads, key_value_heads: kv, context } =
            preset.sizes();
        let family = self.family.unwrap_or(registry::DEFAULT_NEW_FAMILY);
        let mut bounded = |name: &str, value: usize, most: usize| {
            if value == 0 || value > most {
                problems.push(format!("`{name}` is {value}; it must be from 1 to {most}"));
            }
            value.clamp(1, most)
        };
        let hidden_size = bounded("hidden_size", self.hidden_size.unwrap_or(hidden), 65_536);
        let heads = bounded("num_attention_heads", self.num_attention_heads.unwrap_or(heads), 1024);
        // A preset's own number of key/value heads may not divide a number of heads that was overridden.
        let grouped = family.0.has_grouped_queries() && heads.is_multiple_of(kv);
        let default_kv = if grouped { kv } else { heads };
        let num_key_value_heads =
            bounded("num_key_value_heads", self.num_key_value_heads.unwrap_or(default_kv), 1024);
        let layers = bounded("num_hidden_layers", self.num_hidden_layers.unwrap_or(layers), 1000);
        let intermediate_size =
            bounded("intermediate_size", self.intermediate_size.unwrap_or(intermediate), 262_144);
        let head_dim = bounded("head_dim", self.head_dim.unwrap_or(hidden_size / heads), 1024);
        let max_position_embeddings =
            bounded("max_position_embeddings", self.max_position_embeddings.unwrap_or(context), 16_777_216);
        let vocab_size = bounded("vocab_size", vocab_size, 1 << 24);
        if self.head_dim.is_none() && !hidden_size.is_multiple_of(heads) {
            problems.push(format!(
                "`hidden_size` ({hidden_size}) is not a multiple of `num_attention_heads` ({heads}); change one or \
                 set `head_dim`"
            ));
        }
        let mut positive = |name: &str, value: Option<f64>, default: f64| {
            let value = value.unwrap_or(default);
            if !(value.is_finite() && value > 0.0) {
                problems.push(format!("`{name}` is {value}; it must be a number above 0"));
            }
            value
        };
        let eps = positive("rms_norm_eps", self.rms_norm_eps, 1e-6) as f32;
        let theta = positive("rope_theta", self.rope_theta, 10_000.0);
        let initializer_range = positive("initializer_range", self.initializer_range, 0.02) as f32;
        let config = family.0.new_model(&NewModel {
            vocab_size,
            hidden_size,
            intermediate_size,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads,
            head_dim,
            max_position_embeddings,
            eps,
            rope_theta: theta,
            head: if self.tie_word_embeddings.unwrap_or(true) { Head::Tied } else { Head::Separate },
            initializer_range,
        });
        if config.positions == Positions::Learned && self.rope_theta.is_some() {
            problems.push(format!("`rope_theta` does not apply to {family}, which learns its positions"));
        }
        problems.extend(family.misfits(&config));
        if problems.is_empty() { Ok((family, config)) } else { Err(PresetError(problems)) }
    }
}
