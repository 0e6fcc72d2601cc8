//! What `parlor info` says about a model.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::checkpoint::LoadedModel;
use crate::config::Head;
use crate::decoder::{Adapter, Decoder, KvCache, Role, Site};

/// Number of parameters of each part. The parts add up to the total; a tied head counts as embedding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ParametersByPart {
    /// Token and position embeddings.
    pub embedding: usize,
    /// Query, key, value and output projections, with query/key norms.
    pub attention: usize,
    /// MLP projections.
    pub mlp: usize,
    /// Norms between the parts, and the last one.
    pub norms: usize,
    /// Output head that is not tied.
    pub head: usize,
}

impl ParametersByPart {
    /// Counts those of `decoder`.
    pub fn of(decoder: &Decoder) -> Self {
        let mut parts = Self::default();
        for parameter in decoder.model_parameters() {
            let part = match parameter.spec.role {
                Role::TokenEmbedding | Role::PositionEmbedding => &mut parts.embedding,
                Role::FinalNorm(_) => &mut parts.norms,
                Role::Head => &mut parts.head,
                Role::LowRank { .. } => continue,
                Role::Block { site, .. } => match site {
                    Site::InputNorm | Site::PostAttentionNorm => &mut parts.norms,
                    Site::QProj | Site::KProj | Site::VProj | Site::OProj | Site::QNorm | Site::KNorm => {
                        &mut parts.attention
                    }
                    Site::GateProj | Site::UpProj | Site::DownProj => &mut parts.mlp,
                },
            };
            *part += parameter.spec.len();
        }
        parts
    }

    /// All parts together.
    pub fn total(&self) -> usize {
        self.embedding + self.attention + self.mlp + self.norms + self.head
    }
}

/// Bytes of memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryEstimate {
    /// The weights in float32.
    pub float32: u64,
    /// The weights in bfloat16.
    pub bfloat16: u64,
    /// The weights in float16.
    pub float16: u64,
    /// The weights as they are loaded, mapped files included.
    pub loaded: u64,
    /// Keys and values of a thousand tokens, in float32, as this version caches them.
    pub kv_cache_per_1k_tokens: u64,
}

impl MemoryEstimate {
    /// Estimates that of `decoder`.
    pub fn of(decoder: &Decoder) -> Self {
        let parameters = decoder.parameter_count() as u64;
        Self {
            float32: 4 * parameters,
            bfloat16: 2 * parameters,
            float16: 2 * parameters,
            loaded: decoder
                .parameters()
                .iter()
                .map(|parameter| parameter.tensor.dtype().bytes(parameter.tensor.len()) as u64)
                .sum(),
            kv_cache_per_1k_tokens: 1000 * KvCache::bytes_per_token(decoder.config()),
        }
    }
}

/// What a model is, in numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelInfo {
    /// The class in `config.json`, such as the `...ForCausalLM` of its family.
    pub architecture: String,
    /// The family.
    pub model_type: String,
    /// Number of parameters.
    pub parameters: usize,
    /// The same, by part.
    pub parameters_by_part: ParametersByPart,
    /// Number of parameters that training would change: the adapter's, or all without one.
    pub trainable_parameters: usize,
    /// Number format of most parameters.
    pub dtype: String,
    /// Parameters in each number format.
    pub dtypes: BTreeMap<String, usize>,
    /// Longest sequence that the model takes, in tokens.
    pub max_length: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Query heads.
    pub attention_heads: usize,
    /// Key/value heads.
    pub key_value_heads: usize,
    /// Whether the head shares the embedding's weights.
    pub tied_head: bool,
    /// Memory.
    pub memory: MemoryEstimate,
    /// Number of tensors in the weight files.
    pub tensors: usize,
    /// Whether there is a chat template.
    pub chat_template: bool,
    /// What is attached.
    pub adapters: Vec<AdapterSummary>,
}

/// An adapter, in numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AdapterSummary {
    /// Its directory.
    pub path: PathBuf,
    /// Rank.
    pub r: usize,
    /// Scale, before it is divided by the rank.
    pub lora_alpha: f64,
    /// Linear modules that have factors.
    pub modules: usize,
    /// Number of parameters.
    pub parameters: usize,
}

impl ModelInfo {
    /// Describes `model`.
    pub fn of(model: &LoadedModel) -> Self {
        let decoder = &model.decoder;
        let config = decoder.config();
        let mut dtypes = BTreeMap::new();
        for parameter in decoder.parameters() {
            *dtypes.entry(parameter.tensor.dtype().name().to_owned()).or_insert(0) += parameter.tensor.len();
        }
        let dtype = dtypes.iter().max_by_key(|(_, count)| **count).map(|(name, _)| name.clone());
        Self {
            architecture: model.architecture.class_name().to_owned(),
            model_type: model.architecture.model_type().to_owned(),
            parameters: decoder.trainable_parameters().all,
            parameters_by_part: ParametersByPart::of(decoder),
            trainable_parameters: decoder.trained_count(),
            dtype: dtype.unwrap_or_default(),
            dtypes,
            max_length: config.max_position_embeddings,
            vocab_size: config.vocab_size,
            layers: config.num_hidden_layers(),
            hidden_size: config.hidden_size,
            attention_heads: config.num_attention_heads,
            key_value_heads: config.num_key_value_heads,
            tied_head: config.head == Head::Tied,
            memory: MemoryEstimate::of(decoder),
            tensors: model.tensors,
            chat_template: model.chat_template.is_some(),
            adapters: adapters(model),
        }
    }
}

fn adapters(model: &LoadedModel) -> Vec<AdapterSummary> {
    let summary = |(path, adapter): (&PathBuf, &Adapter)| AdapterSummary {
        path: path.clone(),
        r: adapter.config().r,
        lora_alpha: adapter.config().lora_alpha,
        modules: adapter.adapted_modules(),
        parameters: model.decoder.parameters()[adapter.parameters.clone()].iter().map(|p| p.spec.len()).sum(),
    };
    model.adapters.iter().zip(model.decoder.adapters()).map(summary).collect()
}
