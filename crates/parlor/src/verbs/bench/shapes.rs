//! Models for benchmarks that need no download: well-known shapes with random weights.

use parlor::kernels::{BlockFormat, DType, Tensor};
use parlor::model::Architecture;
use parlor::model::{
    ArchitectureBlock, Bias, Decoder, DecoderConfig, DecoderError, Kind, ModelPreset, Parameter, Role,
    parameter_specs,
};

/// Shapes by name, for `--shape`.
pub(crate) const SHAPES: [&str; 4] = ["qwen2.5-0.5b", "qwen2.5-1.5b", "qwen3-0.6b", "small"];

/// Formats by name, for `--dtype`.
pub(crate) const DTYPES: [(&str, DType); 5] = [
    ("f32", DType::F32),
    ("bf16", DType::Bf16),
    ("q8_0", DType::Block(BlockFormat::Q8_0)),
    ("q4_0", DType::Block(BlockFormat::Q4_0)),
    ("nf4", DType::Block(BlockFormat::Nf4)),
];

/// The shape of this name.
pub(crate) fn shape(name: &str) -> Option<(Architecture, DecoderConfig)> {
    // hidden, intermediate, layers, heads, key/value heads, head size, vocabulary, family.
    let (hidden, inner, layers, heads, kv, head_dim, vocab, family) = match name {
        "qwen2.5-0.5b" => (896, 4864, 24, 14, 2, 64, 151_936, Architecture::QWEN2),
        "qwen2.5-1.5b" => (1536, 8960, 28, 12, 2, 128, 151_936, Architecture::QWEN2),
        "qwen3-0.6b" => (1024, 3072, 28, 16, 8, 128, 151_936, Architecture::QWEN3),
        "small" => (384, 1024, 6, 6, 2, 64, 8192, Architecture::QWEN3),
        _ => return None,
    };
    let block = ArchitectureBlock {
        family: Some(family),
        hidden_size: Some(hidden),
        intermediate_size: Some(inner),
        num_hidden_layers: Some(layers),
        num_attention_heads: Some(heads),
        num_key_value_heads: Some(kv),
        head_dim: (family == Architecture::QWEN3).then_some(head_dim),
        max_position_embeddings: Some(32_768),
        rope_theta: Some(1e6),
        ..ArchitectureBlock::default()
    };
    let (family, config) = block.resolve(ModelPreset::Tiny, vocab).ok()?;
    let bias = if family == Architecture::QWEN2 { Bias::Qkv } else { config.bias };
    Some((family, DecoderConfig { bias, ..config }))
}

/// A decoder of this shape with matrices in `dtype`, and random weights of the magnitude of initial ones:
/// uniform instead of normal, which is faster and makes no difference to the kernels.
pub(crate) fn decoder(config: DecoderConfig, dtype: DType) -> Result<Decoder, DecoderError> {
    // The standard deviation of a uniform distribution is its half width over the root of 3.
    let width = config.initializer_range * 3f32.sqrt();
    let tensor = |index: usize, shape: &[usize], kind: Kind| {
        let len = shape.iter().product();
        let values = match kind {
            Kind::NormWeight => vec![1.0; len],
            Kind::Bias | Kind::LowRank => vec![0.0; len],
            Kind::Matrix => spread(index as u64, width, len),
        };
        Tensor::from_f32(shape, values).map_err(|error| DecoderError::Batch(error.to_string()))
    };
    let mut parameters = Vec::new();
    for (index, spec) in parameter_specs(&config).into_iter().enumerate() {
        let mut tensor = tensor(index, &spec.shape, spec.kind)?;
        // As in GGUF files: embedding and head in 8 bits when the blocks are in 4.
        let own = match (spec.role, dtype) {
            (Role::TokenEmbedding | Role::Head, DType::Block(BlockFormat::Q4_0)) => {
                DType::Block(BlockFormat::Q8_0)
            }
            _ => dtype,
        };
        if spec.kind == Kind::Matrix && own != DType::F32 {
            tensor = tensor.to_dtype(own);
        }
        parameters.push(Parameter { spec, tensor });
    }
    Decoder::new(config, parameters)
}

/// `len` numbers from `-width` to `width` (SplitMix64).
fn spread(seed: u64, width: f32, len: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        // 24 bits, which an f32 holds exactly.
        ((z >> 40) as f32 / (1u32 << 23) as f32 - 1.0) * width
    };
    (0..len).map(|_| next()).collect()
}
