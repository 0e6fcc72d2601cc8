//! `parlor info`: describes a model.

use indicatif::HumanBytes;
use parlor::model::{ModelInfo, TrainableParameters};

use crate::cli::InfoArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::model::load;
use crate::progress::{grouped, parameters_text};

pub(super) fn run(context: &Context, args: &InfoArgs) -> Result<(), Failure> {
    let model = load(context, &args.model)?;
    let info = ModelInfo::of(&model);
    context.output.result(&info, || text(&info))
}

fn text(info: &ModelInfo) -> String {
    let count = |number: usize| grouped(number as u64);
    let bytes = |bytes: u64| HumanBytes(bytes).to_string();
    let (parts, memory) = (&info.parameters_by_part, &info.memory);
    let dtypes: Vec<String> =
        info.dtypes.iter().map(|(name, parameters)| format!("{name} ({})", count(*parameters))).collect();
    let adapters: Vec<String> = info
        .adapters
        .iter()
        .map(|a| {
            format!(
                "{}: r {}, alpha {}, {} modules, {} parameters",
                a.path.display(),
                a.r,
                a.lora_alpha,
                a.modules,
                count(a.parameters)
            )
        })
        .collect();
    let trained = TrainableParameters {
        trainable: info.trainable_parameters,
        all: info.parameters,
        percent: 100.0 * info.trainable_parameters as f64 / info.parameters.max(1) as f64,
    };
    let trained = match info.adapters.is_empty() {
        true => count(info.trainable_parameters),
        false => parameters_text(trained),
    };
    let head = if info.tied_head { "shares the embedding" } else { "its own" };
    let rows: Vec<(&str, String)> = vec![
        ("architecture", format!("{} ({})", info.architecture, info.model_type)),
        ("parameters", count(info.parameters)),
        ("  embedding", count(parts.embedding)),
        ("  attention", count(parts.attention)),
        ("  mlp", count(parts.mlp)),
        ("  norms", count(parts.norms)),
        ("  head", if info.tied_head { head.to_owned() } else { count(parts.head) }),
        ("  trainable", trained),
        ("dtype", dtypes.join(", ")),
        ("layers", count(info.layers)),
        ("hidden size", count(info.hidden_size)),
        ("heads", format!("{} query, {} key/value", info.attention_heads, info.key_value_heads)),
        ("vocabulary", count(info.vocab_size)),
        ("longest sequence", format!("{} tokens", count(info.max_length))),
        ("memory as loaded", bytes(memory.loaded)),
        ("  float32", bytes(memory.float32)),
        ("  bfloat16", bytes(memory.bfloat16)),
        ("  float16", bytes(memory.float16)),
        ("  cache", format!("{} per 1,000 tokens", bytes(memory.kv_cache_per_1k_tokens))),
        ("tensors", count(info.tensors)),
        ("adapters", adapters.join("; ")),
        ("chat template", if info.chat_template { "yes" } else { "no" }.to_owned()),
    ];
    rows.iter()
        .filter(|(name, value)| *name != "adapters" || !value.is_empty())
        .map(|(name, value)| format!("{name:<18}{value}\n"))
        .collect()
}
