//! Loading never panics, whatever the files hold.

use std::fs;
use std::path::Path;

use parlor_model::{Architecture, LoadOptions, WeightFiles, load_directory};
use proptest::prelude::*;
use serde_json::{Map, Value};

use crate::directories::{copy, fixture};

fn config_of(name: &str) -> Map<String, Value> {
    serde_json::from_slice(&fs::read(fixture(name).join("config.json")).unwrap()).unwrap()
}

fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0u64..300).prop_map(Value::from),
        prop::sample::select(vec!["", "silu", "llama3", "linear", "sliding_attention"]).prop_map(Value::from),
        prop::collection::vec(any::<u8>().prop_map(Value::from), 0..3).prop_map(Value::from),
        Just(serde_json::json!({ "rope_type": "llama3", "factor": 0, "low_freq_factor": 1 })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn random_weight_files(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        fs::write(&path, bytes).unwrap();
        let _ = WeightFiles::open(dir.path());
    }

    #[test]
    fn random_headers(header in "\\{(\"[a-z]{1,3}\":\\{\"dtype\":\"(F32|BF16|U8|F4)\",\"shape\":\\[[0-9,]{0,24}\\],\"data_offsets\":\\[[0-9]{1,20},[0-9]{1,20}\\]\\},?){0,3}\\}") {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([0; 64]);
        fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
        let _ = WeightFiles::open(dir.path());
    }

    #[test]
    fn odd_configs(
        name in prop::sample::select(vec!["qwen2", "qwen3", "llama3", "mistral", "gpt2"]),
        edits in prop::collection::vec((any::<prop::sample::Index>(), odd_value()), 1..4),
        section in any::<bool>(),
    ) {
        let mut map = config_of(name);
        for (index, value) in edits {
            let target = match map.get_mut("rope_parameters") {
                Some(Value::Object(inner)) if section => inner,
                _ => &mut map,
            };
            if let Some(key) = target.keys().nth(index.index(target.len().max(1))).cloned() {
                target.insert(key, value);
            }
        }
        let file = Path::new("config.json");
        if let Ok(family) = Architecture::of(&map, file)
            && let Ok(config) = family.decoder_config(&map, file)
            && config.num_hidden_layers() < 300
        {
            let tensors = family.checkpoint_tensors(&config);
            prop_assert!(!tensors.is_empty());
            let _ = family.hf_config(&config);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bits_and_cuts(
        file in prop::sample::select(vec!["model.safetensors", "config.json", "generation_config.json"]),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 0..4),
        early in any::<bool>(),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let dir = copy("qwen3");
        let path = dir.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        // Half of the time in the first bytes, where headers are.
        let reach = if early { bytes.len().min(2000) } else { bytes.len() };
        for (index, bit) in flips {
            bytes[index.index(reach)] ^= 1 << bit;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(&path, bytes).unwrap();
        let _ = load_directory(dir.path(), &LoadOptions::default());
    }
}
