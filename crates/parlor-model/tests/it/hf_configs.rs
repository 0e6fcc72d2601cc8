//! `config.json` of real models, old and new spelling, and back.

use std::path::Path;

use parlor_model::{Architecture, Bias, DecoderConfig, Head, RopeScaling};
use serde_json::{Map, Value, json};

fn read(config: Value) -> (Architecture, DecoderConfig) {
    let Value::Object(map) = config else { panic!() };
    let file = Path::new("config.json");
    let family = Architecture::of(&map, file).unwrap_or_else(|error| panic!("{error}"));
    let config = family.decoder_config(&map, file).unwrap_or_else(|error| panic!("{error}"));
    (family, config)
}

/// As published with the 3B model, transformers 4.
fn qwen25() -> Value {
    json!({
        "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643,
        "eos_token_id": 151643, "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02,
        "intermediate_size": 11008, "max_position_embeddings": 32768, "max_window_layers": 36,
        "model_type": "qwen2", "num_attention_heads": 16, "num_hidden_layers": 36, "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": true,
        "torch_dtype": "bfloat16", "transformers_version": "4.40.1", "use_cache": true,
        "use_mrope": false, "use_sliding_window": false, "vocab_size": 151936
    })
}

fn with(mut config: Value, keys: Value) -> Value {
    for (key, value) in keys.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

fn theta(config: &DecoderConfig) -> f64 {
    let Some(rope) = config.layers[0].rope else { panic!() };
    rope.theta
}

#[test]
fn the_default_model_of_the_config() {
    let (family, config) = read(qwen25());
    assert_eq!(family, Architecture::QWEN2);
    assert_eq!((config.head_dim, config.bias, config.head), (128, Bias::Qkv, Head::Tied));
    assert_eq!(config.windows().collect::<Vec<_>>(), vec![None; 36]);
    assert_eq!(theta(&config), 1e6);
}

#[test]
fn either_spelling_of_rotary_settings() {
    let new = json!({ "rope_parameters": { "rope_theta": 5e5, "rope_type": "default" } });
    assert_eq!(theta(&read(with(qwen25(), new)).1), 5e5);
    let without = json!({ "rope_parameters": { "rope_type": "default" }, "rope_scaling": null });
    assert_eq!(theta(&read(with(qwen25(), without)).1), 1e6);
    let old = json!({ "rope_scaling": { "type": "linear", "factor": 2.0 } });
    let (_, config) = read(with(qwen25(), old));
    let Some(rope) = config.layers[0].rope else { panic!() };
    assert_eq!(rope.scaling, RopeScaling::Linear { factor: 2.0 });
}

#[test]
fn windows_by_layer() {
    let first = json!({ "use_sliding_window": true, "sliding_window": 64, "max_window_layers": 34 });
    let (_, config) = read(with(qwen25(), first));
    assert_eq!(config.windows().collect::<Vec<_>>()[..34], vec![None; 34]);
    assert_eq!(config.windows().collect::<Vec<_>>()[34..], [Some(64), Some(64)]);
    let mut types = vec!["full_attention"; 36];
    types[0] = "sliding_attention";
    let named = json!({ "use_sliding_window": true, "sliding_window": 64, "layer_types": types });
    let (_, config) = read(with(qwen25(), named));
    assert_eq!((config.layers[0].window, config.layers[35].window), (Some(64), None));
}

#[test]
fn absent_and_null_keys_take_the_familys_meaning() {
    let mut config = qwen25();
    for key in ["tie_word_embeddings", "use_sliding_window"] {
        config.as_object_mut().unwrap().remove(key);
    }
    let (_, config) = read(with(config, json!({ "head_dim": null, "num_key_value_heads": null })));
    assert_eq!((config.num_key_value_heads, config.head_dim, config.head), (16, 128, Head::Separate));
    // Llama 2 was published without a theta.
    let mut llama = with(qwen25(), json!({ "model_type": "llama", "architectures": ["LlamaForCausalLM"] }));
    llama.as_object_mut().unwrap().remove("rope_theta");
    assert_eq!(theta(&read(llama).1), 1e4);
    let mut mistral =
        with(qwen25(), json!({ "model_type": "mistral", "architectures": ["MistralForCausalLM"] }));
    assert_eq!(read(mistral.clone()).1.layers[0].window, Some(32768));
    mistral["sliding_window"] = Value::Null;
    assert_eq!(read(mistral).1.layers[0].window, None);
    // The first GPT-2 files: no n_inner, no tie_word_embeddings.
    let gpt2 = json!({
        "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
        "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12,
        "n_layer": 12, "n_positions": 1024, "resid_pdrop": 0.1, "vocab_size": 50257
    });
    let (_, config) = read(gpt2);
    assert_eq!((config.intermediate_size, config.head, config.bias), (3072, Head::Tied, Bias::All));
}

#[test]
fn llama_31_stretches_its_wavelengths() {
    let keys = json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "rope_theta": 500000.0,
        "rope_scaling": {
            "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3"
        }
    });
    let (_, config) = read(with(qwen25(), keys));
    let Some(rope) = config.layers[0].rope else { panic!() };
    let expected = RopeScaling::ByWavelength {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192.0,
    };
    assert_eq!((rope.theta, rope.scaling), (5e5, expected));
}

/// Both spellings are written, and either alone reads back to the same shape.
#[test]
fn what_is_written_reads_the_same_in_both_spellings() {
    let linear = json!({ "rope_scaling": { "rope_type": "linear", "factor": 2.0 } });
    let (family, config) = read(with(qwen25(), linear));
    let written = family.hf_config(&config).unwrap();
    let without = |keys: &[&str]| -> Map<String, Value> {
        written
            .iter()
            .filter(|(key, _)| !keys.contains(&key.as_str()))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    };
    for map in [&written, &without(&["rope_theta", "rope_scaling"]), &without(&["rope_parameters"])] {
        assert_eq!(family.decoder_config(map, Path::new("config.json")).unwrap(), config);
    }
}

#[test]
fn a_family_refuses_a_shape_that_is_not_its_own() {
    let (_, config) = read(qwen25());
    let problems = Architecture::GPT2.hf_config(&config).unwrap_err();
    assert!(problems.len() >= 4, "{problems:?}");
    assert!(Architecture::LLAMA.hf_config(&config).is_err());
}
