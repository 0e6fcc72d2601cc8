//! A saved model loads again, equal.

use std::fs;
use std::path::Path;

use parlor_kernels::DType;
use parlor_model::{
    LoadOptions, LoadedModel, MAX_SHARD_BYTES, SaveModel, WeightFiles, load_directory, read_decoder,
    save_directory, save_weights,
};
use serde_json::{Value, json};

use crate::directories::{copy, fixture, fixtures};

fn load(dir: &Path) -> LoadedModel {
    load_directory(dir, &LoadOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn check_equal(a: &LoadedModel, b: &LoadedModel, name: &str) {
    assert_eq!(a.decoder.config(), b.decoder.config(), "{name}");
    assert_eq!(a.generation, b.generation, "{name}");
    assert_eq!(a.text_files, b.text_files, "{name}");
    for (a, b) in a.decoder.parameters().iter().zip(b.decoder.parameters()) {
        assert_eq!(a.tensor.dtype(), b.tensor.dtype(), "{name} {}", a.spec.role);
        assert_eq!(a.tensor.bytes(), b.tensor.bytes(), "{name} {}", a.spec.role);
    }
}

#[test]
fn saved_and_loaded_is_equal_single_and_sharded_kept_and_new() {
    for name in fixtures() {
        let model = load(&fixture(&name));
        let out = tempfile::tempdir().unwrap();
        for (kind, max_shard_bytes, hf_config) in [
            ("single", MAX_SHARD_BYTES, Some(&model.hf_config)),
            ("sharded", 20_000, Some(&model.hf_config)),
            ("new", MAX_SHARD_BYTES, None),
        ] {
            let dir = out.path().join(kind);
            save_directory(&dir, &SaveModel { max_shard_bytes, hf_config, ..SaveModel::of(&model) }).unwrap();
            check_equal(&model, &load(&dir), &format!("{name} {kind}"));
            let sharded = dir.join("model.safetensors.index.json").exists();
            assert_eq!(sharded, kind == "sharded", "{name}");
        }
        // Nothing temporary stays behind.
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 3, "{name}");
    }
}

#[test]
fn the_same_weights_make_the_same_file() {
    for name in ["gpt2", "qwen3", "qwen2_bf16", "llama_f16"] {
        let model = load(&fixture(name));
        let out = tempfile::tempdir().unwrap();
        save_directory(&out.path().join("m"), &SaveModel::of(&model)).unwrap();
        let own = fs::read(out.path().join("m/model.safetensors")).unwrap();
        // transformers wrote the fixture, through the same format's reference implementation.
        assert!(own == fs::read(fixture(name).join("model.safetensors")).unwrap(), "{name}");
    }
}

#[test]
fn config_keeps_foreign_keys_and_serves_both_transformers() {
    let dir = copy("llama3");
    crate::directories::edit_json(dir.path(), "config.json", |map| {
        map.insert("made_by".to_owned(), json!({ "a": 1 }));
    });
    let model = load(dir.path());
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("m");
    save_directory(&target, &SaveModel { dtype: Some(DType::Bf16), ..SaveModel::of(&model) }).unwrap();
    let config: Value = serde_json::from_slice(&fs::read(target.join("config.json")).unwrap()).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&config).unwrap());
    let files = WeightFiles::open(&target).unwrap();
    assert!(files.iter().all(|(_, entry)| entry.weight_dtype() == Some(DType::Bf16)));
}

#[test]
fn a_directory_that_exists_keeps_its_other_files_and_loses_stale_weights() {
    let model = load(&fixture("llama"));
    let out = tempfile::tempdir().unwrap();
    fs::write(out.path().join("metrics.jsonl"), "{}").unwrap();
    save_directory(out.path(), &SaveModel { max_shard_bytes: 20_000, ..SaveModel::of(&model) }).unwrap();
    assert!(out.path().join("model.safetensors.index.json").exists());
    save_directory(out.path(), &SaveModel::of(&model)).unwrap();
    let mut names: Vec<String> = fs::read_dir(out.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["config.json", "generation_config.json", "metrics.jsonl", "model.safetensors"]);
    check_equal(&model, &load(out.path()), "llama");
}

#[test]
fn text_files_are_kept_byte_for_byte() {
    let dir = copy("llama");
    let template = "{% for m in messages %}{{ m.content }}{% endfor %}\r\n";
    fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    let model = load(dir.path());
    assert!(model.tokenizer.is_none() && model.text_files.get("chat_template.jinja").is_some());
    let out = tempfile::tempdir().unwrap();
    save_directory(&out.path().join("m"), &SaveModel::of(&model)).unwrap();
    assert_eq!(fs::read_to_string(out.path().join("m/chat_template.jinja")).unwrap(), template);
}

#[test]
fn a_checkpoints_weights_load_back_without_a_directory() {
    for name in ["gpt2", "llama3", "qwen2_bf16"] {
        let model = load(&fixture(name));
        let out = tempfile::tempdir().unwrap();
        let path = out.path().join("model.safetensors");
        save_weights(&path, &model.decoder, model.architecture).unwrap();
        let files = WeightFiles::open_file(&path).unwrap();
        let (decoder, _) =
            read_decoder(&files, model.architecture, model.decoder.config(), &LoadOptions::for_training())
                .unwrap();
        for (a, b) in decoder.parameters().iter().zip(model.decoder.parameters()) {
            assert_eq!(a.tensor.to_f32_vec(), b.tensor.to_f32_vec(), "{name}");
        }
    }
}

#[test]
fn a_place_that_cannot_be_written_is_an_error_and_leaves_nothing() {
    let model = load(&fixture("llama"));
    let out = tempfile::tempdir().unwrap();
    fs::write(out.path().join("file"), "x").unwrap();
    let error = save_directory(&out.path().join("file/m"), &SaveModel::of(&model)).unwrap_err();
    assert!(error.to_string().contains("cannot write"), "{error}");
    assert_eq!(fs::read_to_string(out.path().join("file")).unwrap(), "x");
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn saved_directories_are_as_readable_as_any_other() {
    use std::os::unix::fs::PermissionsExt;
    let model = load(&fixture("llama"));
    let out = tempfile::tempdir().unwrap();
    let usual = out.path().join("usual");
    fs::create_dir(&usual).unwrap();
    save_directory(&out.path().join("m"), &SaveModel::of(&model)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&out.path().join("m")), mode(&usual));
}
