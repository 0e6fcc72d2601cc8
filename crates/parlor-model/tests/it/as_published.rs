//! Checkpoints as they are published: saved by other programs, with unrelated tensors, and with files that
//! are not what their names say. Each loads as transformers 5.23 loads it, or the error names the file and
//! what to do.

use std::fs;
use std::path::Path;

use parlor_model::{
    Batch, Head, LoadErrorKind, LoadOptions, LoadedModel, ModelLoadError, Targets, Workspace, load_directory,
    load_with_adapters, locate_with_adapters, read_gguf_text,
};
use parlor_text::SpecialTokens;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::directories::{copy, edit_json, fixture};
use crate::fixture::{Expected, relative};

const SINGLE: &str = "model.safetensors";

fn load(dir: &Path) -> Result<LoadedModel, ModelLoadError> {
    load_directory(dir, &LoadOptions::default())
}

fn loaded(dir: &Path) -> LoadedModel {
    load(dir).unwrap_or_else(|error| panic!("{error}"))
}

/// Rewrites the weights: each tensor under the name that `name` gives it, those without one left out, and
/// `extra`.
fn rewrite(dir: &Path, name: impl Fn(&str) -> Option<String>, extra: &[(&str, Vec<usize>)]) {
    let bytes = fs::read(dir.join(SINGLE)).unwrap();
    let old = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let ones = 1.0f32.to_le_bytes().repeat(1 << 14);
    let mut tensors: Vec<(String, TensorView<'_>)> =
        old.iter().filter_map(|(own, view)| Some((name(own)?, view))).collect();
    for (name, shape) in extra {
        let length = 4 * shape.iter().product::<usize>();
        tensors
            .push(((*name).to_owned(), TensorView::new(Dtype::F32, shape.clone(), &ones[..length]).unwrap()));
    }
    fs::write(dir.join(SINGLE), safetensors::serialize(tensors, None).unwrap()).unwrap();
}

fn same(name: &str) -> Option<String> {
    Some(name.to_owned())
}

/// How far its logits are from those of the fixture `name`.
fn difference(model: &LoadedModel, name: &str) -> f64 {
    let expected = Expected::read(name);
    let rows: Vec<usize> = (0..expected.batch.len()).collect();
    let logits = model.decoder.logits(&expected.batch, &rows, None, &mut Workspace::default()).unwrap();
    relative(&logits, &expected.tensors["logits"])
}

/// The tolerance of `parity.rs`.
const LOGITS: f64 = 1e-5;

#[test]
fn either_name_of_a_tied_matrix_is_enough() {
    for (name, embedding) in [("gpt2", "transformer.wte.weight"), ("llama3", "model.embed_tokens.weight")] {
        let dir = copy(name);
        rewrite(
            dir.path(),
            |own| Some(if own == embedding { "lm_head.weight" } else { own }.to_owned()),
            &[],
        );
        let model = loaded(dir.path());
        assert_eq!(model.decoder.config().head, Head::Tied, "{name}");
        assert_eq!(model.warnings, Vec::<String>::new(), "{name}");
        assert!(difference(&model, name) < LOGITS, "{name}");
        // With neither there is no vocabulary.
        rewrite(dir.path(), |own| Some(own.to_owned()).filter(|own| own != "lm_head.weight"), &[]);
        assert!(load(dir.path()).unwrap_err().what.contains(embedding), "{name}");
    }
}

#[test]
fn a_head_that_differs_from_its_embedding_is_not_tied() {
    let dir = copy("llama");
    edit_json(dir.path(), "config.json", |map| {
        map.insert("tie_word_embeddings".to_owned(), json!(true));
    });
    let model = loaded(dir.path());
    assert_eq!(model.decoder.config().head, Head::Separate);
    assert!(
        model.warnings[0].contains("`lm_head.weight` and `model.embed_tokens.weight` differ"),
        "{:?}",
        model.warnings
    );
    assert!(difference(&model, "llama") < LOGITS);
    // One of another shape is an error.
    let dir = copy("llama3");
    rewrite(dir.path(), same, &[("lm_head.weight", vec![4, 32])]);
    let error = load(dir.path()).unwrap_err();
    assert!(error.place.contains("lm_head.weight") && error.what.contains("[4, 32]"), "{error}");
}

#[test]
fn tensors_outside_the_model_are_a_warning() {
    let dir = copy("llama");
    rewrite(
        dir.path(),
        same,
        &[
            ("v_head.summary.weight", vec![1, 32]),
            ("score.weight", vec![2, 32]),
            ("model.vision.patch", vec![3]),
        ],
    );
    let model = loaded(dir.path());
    let [warning] = &model.warnings[..] else { panic!("{:?}", model.warnings) };
    for name in ["`v_head.summary.weight`", "`score.weight`", "`model.vision.patch`", "(3)"] {
        assert!(warning.contains(name), "{warning}");
    }
    assert!(difference(&model, "llama") < LOGITS);
}

/// They were part of the computation, so leaving them out would make another model.
#[test]
fn tensors_inside_the_model_that_its_config_does_not_know_are_an_error() {
    for name in [
        "model.layers.0.self_attn.q_proj.bias",
        "layers.1.mlp.up_proj.bias",
        "model.layers.0.self_attn.q_norm.weight",
        "model.layers.0.pre_feedforward_layernorm.weight",
        "model.layers.7.mlp.up_proj.weight",
        "model.layers.0.self_attn.q_proj.lora_A.weight",
        "model.norm.bias",
        "lm_head.bias",
    ] {
        let dir = copy("llama");
        rewrite(dir.path(), same, &[(name, vec![8])]);
        let error = load(dir.path()).unwrap_err();
        assert!(error.what.contains(name), "{error}");
    }
}

#[test]
fn a_model_type_counts_before_its_class_and_its_code() {
    let dir = copy("llama");
    edit_json(dir.path(), "config.json", |map| {
        map.insert("architectures".to_owned(), json!(["MistralForCausalLM"]));
        map.insert("auto_map".to_owned(), json!({ "AutoConfig": "configuration.Own" }));
    });
    let model = loaded(dir.path());
    assert_eq!(model.warnings.len(), 2, "{:?}", model.warnings);
    assert!(difference(&model, "llama") < LOGITS);
}

#[test]
fn ids_below_zero_are_no_tokens() {
    let eos = |value: Value| {
        let dir = copy("llama");
        fs::remove_file(dir.path().join("generation_config.json")).unwrap();
        edit_json(dir.path(), "config.json", |map| {
            map.insert("eos_token_id".to_owned(), value);
            map.insert("pad_token_id".to_owned(), json!(-1));
        });
        let model = loaded(dir.path());
        (model.generation.eos_token_ids, model.warnings.len())
    };
    assert_eq!(eos(json!(-1)), (vec![], 1));
    assert_eq!(eos(json!([7, -1])), (vec![7], 1));
    assert_eq!(eos(json!(7)), (vec![7], 0));
    assert_eq!(eos(Value::Null), (vec![], 0));
}

#[test]
fn a_tokenizer_with_a_token_too_many_loads_and_refuses_that_token() {
    let dir = copy("qwen2_chat");
    let rows = loaded(dir.path()).decoder.config().vocab_size;
    edit_json(dir.path(), "tokenizer.json", |map| {
        let added = map["added_tokens"].as_array_mut().unwrap();
        added.push(json!({
            "id": rows, "content": "<|pad|>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true
        }));
    });
    let model = loaded(dir.path());
    let expected = format!("the tokenizer has {} tokens (the last one is {rows}, `<|pad|>`)", rows + 1);
    assert!(model.warnings.iter().any(|warning| warning.contains(&expected)), "{:?}", model.warnings);
    let tokenizer = model.tokenizer.unwrap();
    assert!(!tokenizer.encode("hello", SpecialTokens::Include).unwrap().is_empty());
    let refused = [
        tokenizer.encode("a <|pad|>", SpecialTokens::Omit).unwrap_err(),
        tokenizer.encode_with_offsets("a <|pad|>").unwrap_err(),
        tokenizer.encode_batch(vec!["a".to_owned(), "<|pad|>".to_owned()], SpecialTokens::Omit).unwrap_err(),
        tokenizer.require_rows(&[0, rows as u32]).unwrap_err(),
    ];
    for error in refused {
        let text = error.to_string();
        assert!(text.contains("<|pad|>") && text.contains(&format!("{rows} rows")), "{text}");
    }
}

const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";

#[test]
fn a_git_lfs_pointer_is_named() {
    for (name, file) in [
        ("llama", SINGLE),
        ("llama", "config.json"),
        ("llama", "generation_config.json"),
        ("llama_sharded", "model.safetensors.index.json"),
        ("llama_sharded", "model-00002-of-00003.safetensors"),
        ("qwen2_chat", "tokenizer.json"),
        ("qwen2_chat", "tokenizer_config.json"),
        ("qwen2_chat", "chat_template.jinja"),
    ] {
        let dir = copy(name);
        fs::write(dir.path().join(file), POINTER).unwrap();
        let error = load(dir.path()).unwrap_err();
        assert_eq!(error.kind, LoadErrorKind::NotFound, "{file}: {error}");
        assert!(error.what.contains("this is a Git LFS pointer, not the file"), "{file}: {error}");
        assert!(error.help.contains("git lfs pull") && error.place.ends_with(file), "{file}: {error}");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.gguf");
    fs::write(&file, POINTER).unwrap();
    assert!(read_gguf_text(&file).unwrap_err().what.contains("Git LFS pointer"));
}

#[test]
fn an_index_may_begin_its_names_with_a_dot() {
    let dir = copy("llama_sharded");
    edit_json(dir.path(), "model.safetensors.index.json", |map| {
        for shard in map["weight_map"].as_object_mut().unwrap().values_mut() {
            *shard = json!(format!("./{}", shard.as_str().unwrap()));
        }
    });
    let (found, expected) = (loaded(dir.path()), loaded(&fixture("llama_sharded")));
    for (a, b) in found.decoder.parameters().iter().zip(expected.decoder.parameters()) {
        assert_eq!(a.tensor.bytes(), b.tensor.bytes(), "{}", a.spec.role);
    }
}

#[test]
fn the_tensor_that_is_not_finite_is_named() {
    assert_eq!(loaded(&fixture("gpt2")).tensor_not_finite(), None);
    for (name, tensor) in
        [("gpt2", "transformer.h.1.attn.c_attn.weight"), ("llama", "model.layers.1.mlp.up_proj.weight")]
    {
        let dir = copy(name);
        let mut bytes = fs::read(dir.path().join(SINGLE)).unwrap();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let list: Value = serde_json::from_slice(&bytes[8..header]).unwrap();
        let start = header + list[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
        bytes[start..start + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        fs::write(dir.path().join(SINGLE), bytes).unwrap();
        let model = loaded(dir.path());
        assert_eq!(model.tensor_not_finite().as_deref(), Some(tensor));
        assert!(model.why_not_finite().contains(tensor));
    }
}

fn adapter(name: &str) -> TempDir {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/adapters").join(name);
    let dir = tempfile::tempdir().unwrap();
    for file in ["adapter_config.json", ADAPTER] {
        fs::copy(from.join(file), dir.path().join(file)).unwrap();
    }
    dir
}

const ADAPTER: &str = "adapter_model.safetensors";
const EMBEDDING: &str = "base_model.model.model.embed_tokens";

/// Rewrites an adapter's tensors: each may be copied under other names, or grow by rows of ones.
fn rewrite_adapter(dir: &Path, copies: &[&str], rows: usize) {
    let bytes = fs::read(dir.join(ADAPTER)).unwrap();
    let old = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, view) in old.iter() {
        let (mut shape, mut data) = (view.shape().to_vec(), view.data().to_vec());
        if let Some(module) = name.strip_suffix(".weight").filter(|module| *module == EMBEDDING) {
            shape[0] += rows;
            data.extend(1.0f32.to_le_bytes().repeat(rows * shape[1]));
            tensors.extend(
                copies.iter().map(|part| (format!("{module}.{part}.weight"), shape.clone(), data.clone())),
            );
        }
        tensors.push((name.to_owned(), shape, data));
    }
    let views: Vec<_> = tensors
        .iter()
        .map(|(name, shape, data)| (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap()))
        .collect();
    let bytes = safetensors::serialize(views, None).unwrap();
    fs::write(dir.join(ADAPTER), bytes).unwrap();
}

/// PEFT saves the embedding when the vocabulary was resized, whether or not `modules_to_save` names it.
#[test]
fn an_adapter_that_brings_its_embedding_along() {
    let base = fixture("qwen2");
    let difference = |dir: &TempDir| {
        let model = load_with_adapters(&base, &[dir.path().to_owned()], &LoadOptions::default());
        let model = model.unwrap_or_else(|error| panic!("{error}"));
        let wanted = Expected::of_directory(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/adapters/own_embedding"),
        );
        let rows: Vec<usize> = (0..wanted.batch.len()).collect();
        let logits = model.decoder.logits(&wanted.batch, &rows, None, &mut Workspace::default()).unwrap();
        relative(&logits, &wanted.tensors["logits"])
    };
    let named = adapter("own_embedding");
    assert!(difference(&named) < LOGITS);
    // Unnamed, it takes the place of the model's, which is tied to the head. The numbers are PEFT 0.21's, in
    // f32.
    let unnamed = adapter("own_embedding");
    edit_json(unnamed.path(), "adapter_config.json", |map| {
        map.insert("modules_to_save".to_owned(), Value::Null);
    });
    let model = load_with_adapters(&base, &[unnamed.path().to_owned()], &LoadOptions::default());
    let model = model.unwrap_or_else(|error| panic!("{error}"));
    let batch = Batch::of_sequences([&[1, 60, 7, 9][..]]);
    let targets = Targets::next_token(&batch, &[1.0; 4]);
    let found = model.decoder.evaluate(&batch, &targets, &mut Workspace::default()).unwrap();
    for (found, wanted) in found.iter().zip([-5.46255, -5.28767, -4.26603f32]) {
        assert!((found - wanted).abs() < 2e-5, "{found}, want {wanted}");
    }
    let copied = adapter("own_embedding");
    rewrite_adapter(copied.path(), &["modules_to_save", "original_module"], 0);
    assert!(difference(&copied) < LOGITS);
}

#[test]
fn an_adapter_of_a_resized_vocabulary_says_how_to_resize() {
    let dir = adapter("own_embedding");
    rewrite_adapter(dir.path(), &[], 2);
    let error =
        load_with_adapters(&fixture("qwen2"), &[dir.path().to_owned()], &LoadOptions::default()).unwrap_err();
    assert!(error.what.contains("a vocabulary of 99 rows, and this model has 97"), "{error}");
    assert!(error.help.contains("resize_token_embeddings(99)"), "{error}");
}

#[test]
fn a_pattern_that_is_none_names_its_key() {
    for (key, value) in [
        ("target_modules", json!("([")),
        ("exclude_modules", json!("([")),
        ("rank_pattern", json!({ "([": 4 })),
        ("alpha_pattern", json!({ "([": 4 })),
    ] {
        let dir = adapter("plain");
        edit_json(dir.path(), "adapter_config.json", |map| {
            map.insert(key.to_owned(), value);
        });
        let error = load_with_adapters(&fixture("qwen2"), &[dir.path().to_owned()], &LoadOptions::default())
            .unwrap_err();
        assert!(error.what.contains(key) && error.what.contains("no regular expression"), "{error}");
    }
}

/// A base that is named by a relative path may be in the adapter's directory.
#[test]
fn the_base_of_an_adapter_in_its_directory() {
    let dir = adapter("plain");
    let named = |base: &str| {
        edit_json(dir.path(), "adapter_config.json", |map| {
            map.insert("base_model_name_or_path".to_owned(), json!(base));
        });
        locate_with_adapters(dir.path(), &[], None)
    };
    fs::create_dir(dir.path().join("its-base")).unwrap();
    let (base, adapters) = named("its-base").unwrap();
    assert_eq!((base, adapters), (dir.path().join("its-base"), vec![dir.path().to_owned()]));
    let error = named("no-base").unwrap_err();
    assert!(
        error.what.contains("neither no-base nor") && error.what.contains("that model is not found"),
        "{error}"
    );
}
