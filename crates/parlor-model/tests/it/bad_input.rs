//! Damaged and foreign models end in an error that says what, where, and what to do.

use std::fs;
use std::path::Path;

use parlor_model::{LoadOptions, MaxLength, TorchDtype, load_directory, locate_model};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use crate::directories::{copy, edit_json, fixture, text};

/// The error of loading a damaged copy of the fixture `name`.
fn damaged(name: &str, damage: impl FnOnce(&Path)) -> String {
    with_options(name, &LoadOptions::default(), damage)
}

fn with_options(name: &str, options: &LoadOptions, damage: impl FnOnce(&Path)) -> String {
    let dir = copy(name);
    damage(dir.path());
    match load_directory(dir.path(), options) {
        Ok(_) => "loaded".to_owned(),
        Err(error) => text(&error, dir.path()),
    }
}

/// The error of loading `name` with other keys in `config.json`.
fn configured(name: &str, edit: impl FnOnce(&mut serde_json::Map<String, Value>)) -> String {
    damaged(name, |dir| edit_json(dir, "config.json", edit))
}

fn set(key: &'static str, value: Value) -> impl FnOnce(&mut serde_json::Map<String, Value>) {
    move |map| {
        map.insert(key.to_owned(), value);
    }
}

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

fn truncate(dir: &Path, length: usize) {
    let bytes = fs::read(dir.join(SINGLE)).unwrap();
    fs::write(dir.join(SINGLE), &bytes[..length]).unwrap();
}

/// Rewrites the weights with one tensor changed, added, or left out (`None`).
fn replace(dir: &Path, file: &str, tensor: &str, with: Option<(Dtype, Vec<usize>)>) {
    let bytes = fs::read(dir.join(file)).unwrap();
    let old = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let zeros = vec![0u8; 1 << 16];
    let mut tensors: Vec<(&str, TensorView<'_>)> = old.iter().filter(|(name, _)| *name != tensor).collect();
    if let Some((dtype, shape)) = with {
        let length = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        tensors.push((tensor, TensorView::new(dtype, shape, &zeros[..length]).unwrap()));
    }
    fs::write(dir.join(file), safetensors::serialize(tensors, None).unwrap()).unwrap();
}

#[test]
fn damaged_weight_files() {
    let q = "model.layers.0.self_attn.q_proj.weight";
    let cases = [
        ("empty", damaged("llama", |dir| truncate(dir, 0))),
        ("five bytes", damaged("llama", |dir| truncate(dir, 5))),
        ("in the header", damaged("llama", |dir| truncate(dir, 300))),
        ("in the data", damaged("llama", |dir| truncate(dir, 50_000))),
        (
            "bit flipped",
            damaged("llama", |dir| {
                let mut bytes = fs::read(dir.join(SINGLE)).unwrap();
                bytes[8] ^= 1;
                fs::write(dir.join(SINGLE), bytes).unwrap();
            }),
        ),
        ("not safetensors", damaged("llama", |dir| fs::write(dir.join(SINGLE), "hello, world").unwrap())),
        ("wrong shape", damaged("llama", |dir| replace(dir, SINGLE, q, Some((Dtype::F32, vec![32, 31]))))),
        ("wrong dtype", damaged("llama", |dir| replace(dir, SINGLE, q, Some((Dtype::I8, vec![32, 32]))))),
        ("missing", damaged("llama", |dir| replace(dir, SINGLE, q, None))),
        (
            "unused",
            damaged("llama", |dir| replace(dir, SINGLE, "model.norm.bias", Some((Dtype::F32, vec![1])))),
        ),
        ("no head", damaged("llama", |dir| replace(dir, SINGLE, "lm_head.weight", None))),
        ("twice", damaged("llama", |dir| replace(dir, SINGLE, "norm.weight", Some((Dtype::F32, vec![32]))))),
        ("too many layers", configured("llama", set("num_hidden_layers", json!(4)))),
        ("too few layers", configured("llama", set("num_hidden_layers", json!(1)))),
    ];
    insta::assert_snapshot!(listing(&cases));
}

#[test]
fn shards_and_index_that_disagree() {
    let second = "model-00002-of-00003.safetensors";
    let some_tensor = |dir: &Path| {
        let index: Value = serde_json::from_slice(&fs::read(dir.join(INDEX)).unwrap()).unwrap();
        let map = index["weight_map"].as_object().unwrap();
        map.iter().find(|(_, shard)| *shard == second).unwrap().0.clone()
    };
    let index = |edit: fn(&mut serde_json::Map<String, Value>, &str)| {
        damaged("llama_sharded", |dir| {
            let tensor = some_tensor(dir);
            edit_json(dir, INDEX, |map| edit(map["weight_map"].as_object_mut().unwrap(), &tensor));
        })
    };
    let cases = [
        ("not on disk", damaged("llama_sharded", |dir| fs::remove_file(dir.join(second)).unwrap())),
        (
            "not in the index",
            index(|map, _| map.retain(|_, shard| !shard.as_str().unwrap().contains("02-of"))),
        ),
        (
            "tensor not in the index",
            index(|map, tensor| {
                map.remove(tensor);
            }),
        ),
        (
            "tensor in another shard",
            index(|map, tensor| map[tensor] = json!("model-00001-of-00003.safetensors")),
        ),
        ("path", index(|map, tensor| map[tensor] = json!("../model.safetensors"))),
        ("not a name", index(|map, tensor| map[tensor] = json!(7))),
        ("not JSON", damaged("llama_sharded", |dir| fs::write(dir.join(INDEX), "{").unwrap())),
        ("no map", damaged("llama_sharded", |dir| fs::write(dir.join(INDEX), "{}").unwrap())),
        ("no index", damaged("llama_sharded", |dir| fs::remove_file(dir.join(INDEX)).unwrap())),
        (
            "two shards with the same tensor",
            damaged("llama_sharded", |dir| {
                let tensor = some_tensor(dir);
                let first = "model-00001-of-00003.safetensors";
                replace(dir, first, &tensor, Some((Dtype::F32, vec![1])));
            }),
        ),
    ];
    insta::assert_snapshot!(listing(&cases));
}

#[test]
fn configs_that_cannot_be_run() {
    let without = |key: &'static str| {
        move |map: &mut serde_json::Map<String, Value>| {
            map.remove(key);
        }
    };
    let rope = |value: Value| set("rope_parameters", value);
    let cases = [
        ("no hidden_size", configured("qwen2", without("hidden_size"))),
        ("no n_embd", configured("gpt2", without("n_embd"))),
        (
            "no model_type",
            configured("llama", |map| map.retain(|key, _| key != "model_type" && key != "architectures")),
        ),
        ("text for a number", configured("llama", set("hidden_size", json!("32")))),
        ("a huge number", configured("llama", set("num_hidden_layers", json!(1e18 as u64)))),
        ("zero", configured("llama", set("vocab_size", json!(0)))),
        ("heads do not divide", configured("llama", set("num_key_value_heads", json!(3)))),
        ("unknown family", configured("llama", set("model_type", json!("falcon")))),
        (
            "remote code",
            configured("llama", |map| {
                map.insert("auto_map".to_owned(), json!({ "AutoModel": "x.Y" }));
                map.insert("model_type".to_owned(), json!("own"));
            }),
        ),
        ("classifier", configured("llama", set("architectures", json!(["LlamaForSequenceClassification"])))),
        ("quantized", configured("llama", set("quantization_config", json!({ "quant_method": "gptq" })))),
        ("activation", configured("llama", set("hidden_act", json!("gelu")))),
        ("gpt2 activation", configured("gpt2", set("activation_function", json!("gelu")))),
        ("gpt2 scaling", configured("gpt2", set("scale_attn_by_inverse_layer_idx", json!(true)))),
        ("yarn", configured("llama", rope(json!({ "rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4 })))),
        (
            "dynamic",
            configured("llama", rope(json!({ "rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4 }))),
        ),
        ("longrope", configured("llama", rope(json!({ "type": "longrope", "rope_theta": 1e4 })))),
        (
            "linear without factor",
            configured("llama", rope(json!({ "rope_type": "linear", "rope_theta": 1e4 }))),
        ),
        ("partial", configured("llama", rope(json!({ "rope_theta": 1e4, "partial_rotary_factor": 0.5 })))),
        ("null theta", configured("qwen2", rope(json!({ "rope_theta": null })))),
        (
            "layer types",
            configured("qwen2", set("layer_types", json!(["full_attention", "chunked_attention"]))),
        ),
        ("empty config", damaged("llama", |dir| fs::write(dir.join("config.json"), "").unwrap())),
        (
            "broken config",
            damaged("llama", |dir| fs::write(dir.join("config.json"), "{\n  \"a\": tru\n}").unwrap()),
        ),
        ("a list", damaged("llama", |dir| fs::write(dir.join("config.json"), "[]").unwrap())),
        ("no config", damaged("llama", |dir| fs::remove_file(dir.join("config.json")).unwrap())),
        (
            "bad eos",
            damaged("llama", |dir| {
                edit_json(dir, "generation_config.json", set("eos_token_id", json!("</s>")))
            }),
        ),
    ];
    insta::assert_snapshot!(listing(&cases));
}

#[test]
fn models_that_do_not_fit() {
    let long = LoadOptions { max_length: MaxLength::Exactly(4096), ..Default::default() };
    let small = LoadOptions { memory_limit: Some(60_000), ..LoadOptions::for_training() };
    let half = LoadOptions { memory_limit: Some(60_000), dtype: TorchDtype::Bfloat16, ..Default::default() };
    let cases = [
        ("max_length", with_options("llama", &long, |_| {})),
        ("memory", with_options("llama", &small, |_| {})),
        ("memory, converted", with_options("llama", &half, |_| {})),
        (
            "pickle",
            damaged("llama", |dir| fs::rename(dir.join(SINGLE), dir.join("pytorch_model.bin")).unwrap()),
        ),
        ("no weights", damaged("llama", |dir| fs::remove_file(dir.join(SINGLE)).unwrap())),
    ];
    insta::assert_snapshot!(listing(&cases));
}

#[test]
fn names_that_are_no_directory() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("my-model")).unwrap();
    fs::write(dir.path().join("model.bin"), "PK").unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let locate = |name: &str| match locate_model(name, Some(dir.path())) {
        Ok(path) => path.display().to_string().replace(&dir.path().display().to_string(), "DIR"),
        Err(error) => text(&error, dir.path()),
    };
    let cases = [
        ("a typo", locate(&at("my-modle"))),
        ("nothing like it", locate(&at("other"))),
        ("a hub name", locate("org/some-model")),
        ("a hub name without organisation", locate("some-model")),
        ("a file", locate(&at("model.bin"))),
        ("nothing", locate(" ")),
        ("in the cache directory", locate("my-model")),
        ("not a path, not a hub name", locate("a/b/c")),
    ];
    insta::assert_snapshot!(listing(&cases));
}

#[test]
fn directories_of_another_kind() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    fs::create_dir_all(run.join("checkpoint-20")).unwrap();
    fs::create_dir_all(run.join("checkpoint-100")).unwrap();
    for name in ["checkpoint-20", "checkpoint-100"] {
        fs::copy(fixture("llama").join("config.json"), run.join(name).join("config.json")).unwrap();
    }
    let adapter = dir.path().join("adapter");
    fs::create_dir(&adapter).unwrap();
    fs::write(adapter.join("adapter_config.json"), "{}").unwrap();
    let load = |path: &Path| match load_directory(path, &LoadOptions::default()) {
        Ok(_) => "loaded".to_owned(),
        Err(error) => text(&error, dir.path()),
    };
    insta::assert_snapshot!(listing(&[("run", load(&run)), ("adapter", load(&adapter))]));
}

fn listing(cases: &[(&str, String)]) -> String {
    cases.iter().map(|(name, text)| format!("{name}:\n{text}\n")).collect::<Vec<_>>().join("\n")
}
