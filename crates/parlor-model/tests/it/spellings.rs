//! Keys of `config.json` with several spellings: each resolves as in transformers 5.23, or is refused by name.

use std::path::Path;

use parlor_model::{
    Architecture, DecoderConfig, LoadOptions, ModelLoadError, Rope, RopeScaling, Workspace, load_directory,
};
use serde_json::{Map, Value, json};

use crate::directories::{copy, edit_json};
use crate::fixture::{Expected, relative};

fn tiny(family: &str) -> Map<String, Value> {
    let Value::Object(map) = json!({
        "model_type": family, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 97, "max_position_embeddings": 128,
        "rms_norm_eps": 1e-6, "hidden_act": "silu"
    }) else {
        panic!()
    };
    map
}

fn read(mut map: Map<String, Value>, keys: Value) -> Result<(DecoderConfig, Vec<String>), ModelLoadError> {
    for (key, value) in keys.as_object().unwrap() {
        map.insert(key.clone(), value.clone());
    }
    let file = Path::new("config.json");
    let family = Architecture::of(&map, file)?;
    Ok((family.decoder_config(&map, file)?, family.notices(&map, file)))
}

fn rope(keys: Value) -> (Rope, Vec<String>) {
    let (config, notices) = read(tiny("llama"), keys).unwrap_or_else(|error| panic!("{error}"));
    let Some(rope) = config.layers[0].rope else { panic!() };
    (rope, notices)
}

#[test]
fn rotary_settings_resolve_as_in_transformers() {
    let linear = json!({ "rope_type": "linear", "factor": 2.0 });
    let default = json!({ "rope_type": "default", "rope_theta": 5e5 });
    let scaling = RopeScaling::Linear { factor: 2.0 };
    for (keys, expected, said) in [
        // Nothing: 10000 in every family.
        (json!({}), (1e4, RopeScaling::Default), 0),
        (json!({ "rope_theta": 7e5 }), (7e5, RopeScaling::Default), 0),
        (json!({ "rope_parameters": default }), (5e5, RopeScaling::Default), 0),
        (json!({ "rope_parameters": default, "rope_theta": 7e5 }), (5e5, RopeScaling::Default), 1),
        (
            json!({ "rope_parameters": { "rope_type": "default" }, "rope_theta": 7e5 }),
            (7e5, RopeScaling::Default),
            0,
        ),
        // The old section counts as a whole: the new one's theta is lost with it.
        (json!({ "rope_parameters": default, "rope_scaling": linear }), (1e4, scaling), 1),
        (json!({ "rope_parameters": default, "rope_scaling": linear, "rope_theta": 7e5 }), (7e5, scaling), 1),
        // An empty one does not.
        (json!({ "rope_parameters": default, "rope_scaling": {} }), (5e5, RopeScaling::Default), 0),
        (json!({ "rope_parameters": default, "rope_scaling": null }), (5e5, RopeScaling::Default), 0),
        (json!({ "rope_parameters": linear, "rope_scaling": false }), (1e4, scaling), 0),
        // The same twice is no reason to speak.
        (
            json!({
                "rope_parameters": { "rope_type": "linear", "factor": 2.0, "rope_theta": 5e5 },
                "rope_scaling": { "type": "linear", "factor": 2.0 }, "rope_theta": 5e5
            }),
            (5e5, scaling),
            0,
        ),
        (json!({ "rope_scaling": { "type": "linear", "factor": 2 } }), (1e4, scaling), 0),
        // `rope_type` counts before `type`, and a factor without a type is not used.
        (
            json!({ "rope_scaling": { "type": "linear", "rope_type": "default", "factor": 2.0 } }),
            (1e4, RopeScaling::Default),
            1,
        ),
        (json!({ "rope_scaling": { "factor": 2.0 } }), (1e4, RopeScaling::Default), 1),
    ] {
        let (rope, notices) = rope(keys.clone());
        assert_eq!((rope.theta, rope.scaling), expected, "{keys}");
        assert_eq!(notices.len(), said, "{keys}: {notices:?}");
    }
}

/// The original length is in the section, at the top level, or is the longest sequence.
#[test]
fn the_original_length_has_three_places() {
    let length = |inside: Value, outside: Value| {
        let mut section =
            json!({ "rope_type": "llama3", "factor": 2, "low_freq_factor": 1, "high_freq_factor": 4 });
        section["original_max_position_embeddings"] = inside;
        let keys = json!({ "rope_scaling": section, "original_max_position_embeddings": outside });
        match rope(keys).0.scaling {
            RopeScaling::ByWavelength { original_max_position_embeddings, .. } => {
                original_max_position_embeddings
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(length(json!(64), Value::Null), 64.0);
    assert_eq!(length(json!(64), json!(32)), 32.0);
    assert_eq!(length(Value::Null, Value::Null), 128.0);
}

#[test]
fn what_is_not_supported_is_refused_wherever_it_stands() {
    let refusal = |family: &str, keys: Value| match read(tiny(family), keys.clone()) {
        Ok(_) => panic!("{keys} loads"),
        Err(error) => error.what,
    };
    let default = json!({ "rope_type": "default", "rope_theta": 1e4 });
    for (keys, word) in [
        (json!({ "rope_scaling": { "type": "yarn", "factor": 4.0 } }), "`rope_scaling.type: \"yarn\"`"),
        (
            json!({ "rope_scaling": { "type": "yarn", "factor": 4.0 }, "rope_parameters": default }),
            "`rope_scaling.type: \"yarn\"`",
        ),
        (
            json!({ "rope_scaling": { "rope_type": "yarn", "factor": 4.0 }, "rope_parameters": default }),
            "`rope_scaling.rope_type: \"yarn\"`",
        ),
        (
            json!({ "rope_parameters": { "rope_type": "dynamic", "factor": 2.0 } }),
            "`rope_parameters.rope_type: \"dynamic\"`",
        ),
        (
            json!({ "rope_scaling": { "type": "longrope" }, "rope_theta": 1e4 }),
            "`rope_scaling.type: \"longrope\"`",
        ),
        (
            json!({ "rope_scaling": { "type": "mrope", "mrope_section": [1, 1, 2] } }),
            "`rope_scaling.type: \"mrope\"`",
        ),
        (
            json!({ "rope_scaling": { "rope_type": null, "type": "linear", "factor": 2.0 } }),
            "`rope_scaling.rope_type`",
        ),
        (json!({ "rope_scaling": "linear" }), "`rope_scaling`"),
        (json!({ "rope_theta": null }), "`rope_theta`"),
        (json!({ "rope_parameters": { "rope_theta": null } }), "`rope_parameters.rope_theta`"),
        (json!({ "partial_rotary_factor": 0.5 }), "`partial_rotary_factor: 0.5`"),
        (json!({ "rope_scaling": { "type": "linear" } }), "`rope_scaling.factor`"),
        (json!({ "rope_parameters": { "full_attention": default } }), "`rope_parameters.full_attention"),
        (json!({ "is_causal": false }), "`is_causal: false`"),
        (json!({ "per_layer_config": { "1": { "num_key_value_heads": 1 } } }), "`per_layer_config"),
        (json!({ "hidden_act": null }), "`hidden_act`"),
        (json!({ "max_position_embeddings": null }), "`max_position_embeddings`"),
    ] {
        for family in ["llama", "mistral", "qwen2", "qwen3"] {
            let what = refusal(family, keys.clone());
            assert!(what.contains(word), "{family} {keys}: {what}");
        }
    }
}

/// Keys that a file lacks have the default of transformers' class.
#[test]
fn absent_keys_have_the_defaults_of_their_class() {
    for (family, length) in [("llama", 2048), ("mistral", 131_072), ("qwen2", 32_768), ("qwen3", 32_768)] {
        let mut map = tiny(family);
        for key in ["max_position_embeddings", "rms_norm_eps", "hidden_act"] {
            map.remove(key);
        }
        let (config, notices) = read(map, json!({ "rope_parameters": null })).unwrap();
        let Some(rope) = config.layers[0].rope else { panic!() };
        assert_eq!((config.max_position_embeddings, rope.theta), (length, 1e4), "{family}");
        assert_eq!(notices, Vec::<String>::new(), "{family}");
    }
    let windows =
        |family: &str, keys: Value| read(tiny(family), keys).unwrap().0.windows().collect::<Vec<_>>();
    for family in ["qwen2", "qwen3"] {
        let keys = json!({ "use_sliding_window": true, "max_window_layers": 1 });
        assert_eq!(windows(family, keys), [None, Some(4096)]);
        let keys = json!({ "use_sliding_window": true, "max_window_layers": 1, "sliding_window": null });
        assert_eq!(windows(family, keys), [None, None]);
        assert_eq!(windows(family, json!({ "sliding_window": 16 })), [None, None]);
    }
    // The other families have no such switch.
    let off = json!({ "use_sliding_window": false, "sliding_window": 16 });
    assert_eq!(windows("mistral", off.clone()), [Some(16), Some(16)]);
    assert_eq!(windows("llama", off), [None, None]);
}

#[test]
fn absent_key_value_heads_are_not_guessed() {
    let heads = |family: &str, value: Option<Value>| {
        let mut map = tiny(family);
        map.remove("num_key_value_heads");
        let keys = value.map_or(json!({}), |value| json!({ "num_key_value_heads": value }));
        read(map, keys).map(|(config, _)| config.num_key_value_heads)
    };
    for family in ["llama", "mistral", "qwen2", "qwen3"] {
        assert_eq!(heads(family, Some(Value::Null)).unwrap(), 4, "{family}");
    }
    assert_eq!(heads("llama", None).unwrap(), 4);
    // Their classes say 8 and 32, which no model of 4 heads has.
    for (family, number) in [("mistral", "8"), ("qwen2", "32"), ("qwen3", "32")] {
        let what = heads(family, None).unwrap_err().what;
        assert!(what.contains("`num_key_value_heads` is missing") && what.contains(number), "{what}");
    }
}

/// `attribute_map`: the general name is set last, so it counts.
#[test]
fn general_names_count_before_a_familys_own() {
    let Value::Object(gpt2) = json!({ "model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "vocab_size": 97 })
    else {
        panic!()
    };
    let (config, notices) = read(gpt2.clone(), json!({})).unwrap();
    assert_eq!((config.hidden_size, config.num_hidden_layers(), notices.len()), (32, 2, 0));
    let general = json!({ "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 77 });
    let (config, notices) = read(gpt2, general).unwrap();
    assert_eq!((config.hidden_size, config.num_hidden_layers(), config.max_position_embeddings), (64, 3, 77));
    assert_eq!(notices.len(), 3, "{notices:?}");
}

#[test]
fn a_family_is_its_model_type() {
    let (_, notices) = read(tiny("llama"), json!({ "architectures": ["MistralForCausalLM"] })).unwrap();
    assert!(notices[0].contains("`architectures: [MistralForCausalLM]`"), "{notices:?}");
    assert!(notices[0].contains("loaded as a `LlamaForCausalLM`"), "{notices:?}");
    let own = json!({ "architectures": ["LlamaForCausalLM"], "auto_map": { "AutoModelForCausalLM": "modeling.Own" } });
    let (_, notices) = read(tiny("llama"), own).unwrap();
    assert!(notices.len() == 1 && notices[0].contains("`auto_map`"), "{notices:?}");
    let foreign =
        read(tiny("own"), json!({ "auto_map": { "AutoModelForCausalLM": "modeling.Own" } })).unwrap_err();
    assert!(foreign.what.contains("`auto_map`"), "{foreign}");
    let classifier =
        read(tiny("llama"), json!({ "architectures": ["LlamaForSequenceClassification"] })).unwrap_err();
    assert!(classifier.what.contains("not a causal language model"), "{classifier}");
}

/// The spelling that counts is the one that is computed with.
#[test]
fn logits_of_a_model_whose_new_section_misleads() {
    let dir = copy("llama_linear_rope");
    let logits = |keys: Value| {
        edit_json(dir.path(), "config.json", |map| {
            for key in ["rope_parameters", "rope_scaling", "rope_theta"] {
                map.remove(key);
            }
            map.extend(keys.as_object().unwrap().clone());
        });
        let model = load_directory(dir.path(), &LoadOptions::default()).unwrap();
        let expected = Expected::read("llama_linear_rope");
        let rows: Vec<usize> = (0..expected.batch.len()).collect();
        let found = model.decoder.logits(&expected.batch, &rows, None, &mut Workspace::default()).unwrap();
        relative(&found, &expected.tensors["logits"])
    };
    let misleading = json!({ "rope_type": "default", "rope_theta": 5e5 });
    let right = json!({ "type": "linear", "factor": 4.0 });
    // The tolerance of `parity.rs`.
    assert!(logits(json!({ "rope_parameters": misleading, "rope_scaling": right })) < 1e-5);
    assert!(logits(json!({ "rope_scaling": right, "rope_theta": 1e4 })) < 1e-5);
    assert!(logits(json!({ "rope_parameters": right, "rope_scaling": misleading })) > 1e-3);
}
