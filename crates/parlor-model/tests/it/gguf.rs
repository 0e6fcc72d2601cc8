//! GGUF files: the same models as in Hugging Face layout, weights of every type, vocabularies, and files that
//! are damaged.

use std::fs;
use std::path::{Path, PathBuf};

use parlor_kernels::{DType, View};
use parlor_model::{
    Batch, Decoder, Head, LoadErrorKind, LoadOptions, LoadedModel, ModelConfig, ModelManager, SaveModel,
    TextArtifacts, TorchDtype, WeightLayout, Workspace, load_directory, load_gguf, load_path, locate_model,
    read_gguf_text, save_directory,
};
use parlor_text::{SpecialTokens, Tokenizer};
use proptest::prelude::*;
use serde_json::Value;

use crate::fixture::{self, Expected, relative};

/// Each file, and the checkpoint of `models/` that it was made from.
const MODELS: [&str; 8] = [
    "qwen2_bf16",
    "qwen3",
    "llama_f16",
    "llama3_bands",
    "llama_linear_rope",
    "llama_attn_bias",
    "mistral",
    "gpt2",
];

fn gguf(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/gguf").join(name)
}

fn open(name: &str, options: &LoadOptions) -> LoadedModel {
    load_gguf(&gguf(name), options).unwrap_or_else(|error| panic!("{error}"))
}

fn logits(decoder: &Decoder, batch: &Batch) -> Vec<f32> {
    let rows: Vec<usize> = (0..batch.len()).collect();
    decoder.logits(batch, &rows, None, &mut Workspace::default()).unwrap()
}

#[test]
fn models_are_those_of_their_directories() {
    for name in MODELS {
        let model = open(&format!("{name}.gguf"), &LoadOptions::default());
        let original = fixture::load(name);
        assert_eq!(model.architecture, original.architecture, "{name}");
        assert_eq!(model.decoder.config(), original.decoder.config(), "{name}");
        assert_eq!(model.max_length, original.max_length, "{name}");
        for (ours, theirs) in model.decoder.parameters().iter().zip(original.decoder.parameters()) {
            assert_eq!(ours.spec, theirs.spec, "{name}");
            assert!(ours.tensor.to_f32_vec() == theirs.tensor.to_f32_vec(), "{name}: {}", ours.spec.role);
        }
        // The same numbers, so that the tolerance is that of the checkpoints themselves: see `parity.rs`.
        let expected = Expected::read(name);
        let difference = relative(&logits(&model.decoder, &expected.batch), &expected.tensors["logits"]);
        assert!(difference < 1e-5, "{name}: logits differ by {difference:e}");
    }
}

#[test]
fn weights_of_every_type_are_what_they_unpack_to() {
    let expected = Expected::of_directory(&gguf("mixed"));
    let model = open("mixed/model.gguf", &LoadOptions::default());
    let difference = relative(&logits(&model.decoder, &expected.batch), &expected.tensors["logits"]);
    // The reference's own f32 numbers are 1e-6 from f64 here; ours may be as far, on the other side, in other
    // orders.
    assert!(difference < 1e-5, "logits differ by {difference:e}");
    let types: std::collections::BTreeSet<&str> =
        model.decoder.parameters().iter().map(|p| p.tensor.dtype().name()).collect();
    for name in ["q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k", "float16", "float32"] {
        assert!(types.contains(name), "{name} is not among {types:?}");
    }
    // In f32, and in memory of their own.
    let wide = LoadOptions { dtype: TorchDtype::Float32, ..LoadOptions::default() };
    for options in [wide, LoadOptions::for_training()] {
        let model = open("mixed/model.gguf", &options);
        assert!(model.decoder.parameters().iter().all(|p| p.tensor.dtype() == DType::F32));
        let difference = relative(&logits(&model.decoder, &expected.batch), &expected.tensors["logits"]);
        assert!(difference < 1e-5, "logits differ by {difference:e}");
    }
    // With prepacked weights inputs are rounded to 8 bits, see `optimized.rs`; the weights keep their values.
    let (stored, layout) = (model, WeightLayout::Prepacked);
    let model = open("mixed/model.gguf", &LoadOptions { layout, ..LoadOptions::default() });
    let packed = model.decoder.parameters().iter().filter(|p| matches!(p.tensor.view(), View::Packed(_)));
    assert_eq!(packed.count(), 14);
    for (packed, stored) in model.decoder.parameters().iter().zip(stored.decoder.parameters()) {
        assert!(packed.tensor.to_f32_vec() == stored.tensor.to_f32_vec(), "{}", packed.spec.role);
    }
    let difference = relative(&logits(&model.decoder, &expected.batch), &expected.tensors["logits"]);
    // 14 layers, each with inputs that are off by up to 1 / 254 of the largest of 32, evenly: a deviation of
    // 1 / sqrt(3) of that. Independent errors add up to sqrt(14) times it, and the worst of n logits is off
    // by sqrt(2 ln n) deviations.
    let n = expected.tensors["logits"].len() as f64;
    let bound = (2.0 * n.ln()).sqrt() * (14f64 / 3.0).sqrt() / 254.0;
    assert!(difference > 0.0 && difference < bound, "logits differ by {difference:e}");
}

#[test]
fn weights_stay_in_the_file() {
    let owned = |model: &LoadedModel| -> Vec<(String, usize)> {
        let parameters = model.decoder.parameters().iter();
        let owned = parameters.filter(|p| p.tensor.owned_bytes() > 0 && p.spec.shape.len() > 1);
        owned.map(|p| (p.spec.role.to_string(), p.tensor.owned_bytes())).collect()
    };
    for name in ["qwen2_bf16.gguf", "qwen3.gguf", "gpt2.gguf", "qwen2_chat.gguf"] {
        assert_eq!(owned(&open(name, &LoadOptions::default())), [], "{name}");
    }
    // Rows of queries and keys are interleaved there, and are copied as whole blocks.
    let copied = owned(&open("mixed/model.gguf", &LoadOptions::default()));
    let names: Vec<&str> = copied.iter().map(|(name, _)| name.as_str()).collect();
    let qk = [
        "layers.0.q_proj.weight",
        "layers.0.k_proj.weight",
        "layers.1.q_proj.weight",
        "layers.1.k_proj.weight",
    ];
    assert_eq!(names, qk);
    assert_eq!(copied[0].1, 64 * 256 / 256 * 144);
}

#[test]
fn a_model_with_a_text_side_is_loaded_through_the_manager_and_saved() {
    let path = gguf("qwen2_chat.gguf");
    let config = ModelConfig {
        name: path.display().to_string(),
        model_type: "auto".to_owned(),
        max_length: 512,
        ..ModelConfig::default()
    };
    let manager = ModelManager::new(config);
    let model = manager.load_model().unwrap();
    let original = load_directory(&fixture::path("qwen2_chat"), &LoadOptions::default()).unwrap();
    let eos = model.tokenizer.as_ref().unwrap().eos().unwrap();
    assert_eq!((eos.text.as_str(), &model.generation.eos_token_ids[..]), ("<|im_end|>", &[eos.id][..]));
    assert_eq!(model.decoder.config().head, Head::Tied);
    assert_eq!(
        model.chat_template.as_ref().unwrap().source(),
        original.chat_template.as_ref().unwrap().source()
    );
    assert_eq!(manager.load_model().unwrap().content_key, model.content_key);
    assert_eq!(manager.get_performance_metrics().cache_hits, 1);

    // Saved in Hugging Face layout it is the same model.
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("saved");
    save_directory(&target, &SaveModel::of(&model)).unwrap();
    let saved = load_path(&target, &LoadOptions::default()).unwrap();
    assert_eq!(saved.decoder.config(), model.decoder.config());
    assert_eq!(saved.generation.eos_token_ids, model.generation.eos_token_ids);
    let text = "Hello <|im_start|> naïve 123";
    let ids =
        |model: &LoadedModel| model.tokenizer.as_ref().unwrap().encode(text, SpecialTokens::Include).unwrap();
    assert_eq!(ids(&saved), ids(&model));
    assert_eq!(ids(&original), ids(&model));
    assert_eq!(saved.chat_template.unwrap().source(), model.chat_template.as_ref().unwrap().source());
}

#[test]
fn parts_of_a_tensor_of_blocks_stay_where_they_are() {
    let model = open("gpt2_q8_0.gguf", &LoadOptions::default());
    let original = fixture::load("gpt2");
    let mut parts = 0;
    for (ours, theirs) in model.decoder.parameters().iter().zip(original.decoder.parameters()) {
        let DType::Block(_) = ours.tensor.dtype() else { continue };
        // The reference quantizes by the same rule.
        let want = theirs.tensor.to_dtype(ours.tensor.dtype());
        assert!(ours.tensor.to_f32_vec() == want.to_f32_vec(), "{}", ours.spec.role);
        assert_eq!(ours.tensor.owned_bytes(), 0, "{}", ours.spec.role);
        parts += 1;
    }
    // Both embeddings, and of each block all but the projection down, whose rows are no whole blocks.
    assert_eq!(parts, 2 + 2 * 5);
    // Prepacked rows are in memory of their own.
    let layout = WeightLayout::Prepacked;
    let packed = open("gpt2_q8_0.gguf", &LoadOptions { layout, ..LoadOptions::default() });
    for (ours, theirs) in packed.decoder.parameters().iter().zip(model.decoder.parameters()) {
        assert!(ours.tensor.to_f32_vec() == theirs.tensor.to_f32_vec(), "{}", ours.spec.role);
    }
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn vocabularies_are_those_of_their_tokenizers() {
    for name in ["qwen2", "llama-bpe", "gpt-2", "smollm", "sentence_piece"] {
        let path = gguf(&format!("vocabularies/{name}.gguf"));
        let TextArtifacts { tokenizer, chat_template: template, warnings } =
            read_gguf_text(&path).unwrap().unwrap();
        assert!(template.is_none() && warnings.is_empty(), "{warnings:?}");
        let tokenizer: Tokenizer = tokenizer.unwrap();
        let text = fs::read(path.with_extension("json")).unwrap();
        let cases: Value = serde_json::from_slice(&text).unwrap();
        for case in cases["encodings"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let plain = tokenizer.encode(text, SpecialTokens::Omit).unwrap();
            assert_eq!(plain, ids(&case["ids"]), "{name}: {text:?}");
            let framed = tokenizer.encode(text, SpecialTokens::Include).unwrap();
            assert_eq!(framed, ids(&case["ids_with_special"]), "{name}: {text:?}");
            for (special, key) in
                [(SpecialTokens::Include, "decoded"), (SpecialTokens::Omit, "decoded_skip_special")]
            {
                assert_eq!(
                    tokenizer.decode(&framed, special).unwrap(),
                    case[key].as_str().unwrap(),
                    "{name}"
                );
            }
        }
        for case in cases["decodings"].as_array().unwrap() {
            let text = tokenizer.decode(&ids(&case["ids"]), SpecialTokens::Include).unwrap();
            assert_eq!(text, case["decoded"].as_str().unwrap(), "{name}");
        }
    }
}

/// A file that may be changed.
fn changed(name: &str, change: impl Fn(&mut Vec<u8>)) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    let mut bytes = fs::read(gguf(name)).unwrap();
    change(&mut bytes);
    fs::write(&path, bytes).unwrap();
    (dir, path)
}

/// The offset of `word`.
fn find(bytes: &[u8], word: &str) -> usize {
    bytes.windows(word.len()).position(|window| window == word.as_bytes()).unwrap()
}

/// The error of loading contains all of `words`, and the file.
fn refused(name: &str, kind: LoadErrorKind, words: &[&str], change: impl Fn(&mut Vec<u8>)) {
    let (_dir, path) = changed(name, change);
    let error =
        load_gguf(&path, &LoadOptions::default()).err().unwrap_or_else(|| panic!("{words:?}: it loads"));
    let text = error.to_string();
    assert_eq!(error.kind, kind, "{text}");
    for word in words.iter().chain(&["model.gguf", "help: "]) {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

/// Writes `value` at `at`.
fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Adds numbers to the metadata, padded to a multiple of the tensors' alignment.
fn with_numbers(bytes: &mut Vec<u8>, numbers: &[(&str, f32)]) {
    let key = |name: &str, kind: u32| {
        let mut out = (name.len() as u64).to_le_bytes().to_vec();
        out.extend(name.as_bytes());
        out.extend(kind.to_le_bytes());
        out
    };
    let mut added: Vec<u8> = Vec::new();
    for (name, number) in numbers {
        added.extend(key(name, 6));
        added.extend(number.to_le_bytes());
    }
    let mut filler = key("test.filler", 8);
    let rest = 32 - (added.len() + filler.len() + 8) % 32;
    filler.extend((rest as u64).to_le_bytes());
    filler.extend(std::iter::repeat_n(b'x', rest));
    added.extend(filler);
    let count = u64::from_le_bytes(bytes[16..24].try_into().unwrap()) + numbers.len() as u64 + 1;
    put(bytes, 16, &count.to_le_bytes());
    bytes.splice(24..24, added);
}

#[test]
fn sampling_settings_are_read_by_the_names_of_generation_configs() {
    let read = |numbers: &[(&str, f32)]| {
        let (_dir, path) = changed("qwen3.gguf", |bytes| with_numbers(bytes, numbers));
        load_gguf(&path, &LoadOptions::default()).unwrap_or_else(|error| panic!("{error}")).generation
    };
    let generation = read(&[
        ("general.sampling.temp", 0.5),
        ("general.sampling.top_k", 20.0),
        ("general.sampling.top_p", 0.75),
        ("general.sampling.min_p", 0.25),
        ("general.sampling.penalty_repeat", 1.5),
        ("general.sampling.mirostat", 2.0),
    ]);
    assert_eq!((generation.do_sample, generation.temperature), (Some(true), Some(0.5)));
    assert_eq!((generation.top_k, generation.top_p), (Some(20), Some(0.75)));
    assert_eq!((generation.settings.min_p, generation.repetition_penalty), (Some(0.25), Some(1.5)));
    assert!(generation.warnings.len() == 1 && generation.warnings[0].contains("mirostat"));
    assert_eq!(read(&[("general.sampling.temp", 0.0)]).do_sample, Some(false));
    let none = read(&[]);
    assert_eq!((none.do_sample, none.temperature, none.top_k), (None, None, None));
    assert!(none.warnings.is_empty() && none.other.is_empty());
}

#[test]
fn damaged_files_are_refused() {
    use LoadErrorKind::{Corrupt, Incompatible};
    let name = "qwen3.gguf";
    let huge = u64::MAX.to_le_bytes();
    refused(name, Corrupt, &["not a GGUF file"], |b| put(b, 0, b"GGML"));
    refused(name, Corrupt, &["truncated"], Vec::clear);
    refused(name, Incompatible, &["version 9"], |b| put(b, 4, &[9]));
    refused(name, Incompatible, &["big-endian"], |b| put(b, 4, &[0, 0, 0, 3]));
    refused(name, Corrupt, &["number of tensors", "no room"], |b| put(b, 8, &huge));
    refused(name, Corrupt, &["number of metadata keys", "no room"], |b| put(b, 16, &huge));
    refused(name, Corrupt, &["metadata key", "no room"], |b| put(b, 24, &huge));
    // One key too many is read as another thing, or not at all.
    refused(name, Corrupt, &["byte "], |b| b[16] += 1);
    let original = fs::read(gguf(name)).unwrap();
    let at = |word: &str| find(&original, word) + word.len();
    // A key's value: its type, then itself.
    let count = at("qwen3.block_count");
    refused(name, Corrupt, &["qwen3.block_count", "type 77"], |b| put(b, count, &[77]));
    refused(name, Corrupt, &["qwen3.block_count", "whole number from 1"], |b| put(b, count + 4, &[0]));
    refused(name, Corrupt, &["missing", "blk.2.attn_norm.weight"], |b| put(b, count + 4, &[3]));
    refused(name, Corrupt, &["no place", "blk.1.attn_k.weight"], |b| put(b, count + 4, &[1]));
    refused(name, Corrupt, &["qwen3.block_count", "missing"], |b| b[count - 1] = b'x');
    refused(name, Corrupt, &["num_attention_heads"], |b| put(b, at("qwen3.attention.head_count") + 4, &[3]));
    let family = at("general.architecture");
    refused(name, Incompatible, &["mamba", "supported"], |b| put(b, family + 12, b"mamba"));
    refused(name, Corrupt, &["general.architecture", "no room"], |b| put(b, family + 4, &huge));
    // A tensor: dimensions, type, offset.
    let tensor = at("blk.1.attn_k.weight");
    let word = "blk.1.attn_k.weight";
    refused(name, Corrupt, &[word, "dimensions"], |b| put(b, tensor, &[9]));
    refused(name, Corrupt, &[word, "dimension of it is 0"], |b| put(b, tensor + 4, &[0]));
    refused(name, Corrupt, &[word, "dimension of it is"], |b| put(b, tensor + 4, &huge));
    refused(name, Corrupt, &[word, "shape"], |b| put(b, tensor + 12, &[23]));
    refused(name, Incompatible, &[word, "Q2_K", "Q4_K"], |b| put(b, tensor + 20, &[10]));
    refused(name, Incompatible, &[word, "number 200"], |b| put(b, tensor + 20, &[200]));
    refused(name, Corrupt, &[word, "whole number of q4_k blocks"], |b| put(b, tensor + 20, &[12]));
    refused(name, Corrupt, &[word, "multiple of 32"], |b| b[tensor + 24] += 1);
    refused(name, Corrupt, &["overlaps the tensor"], |b| put(b, tensor + 24, &[0; 8]));
    refused(name, Corrupt, &[word, "truncated"], |b| put(b, tensor + 24, &[0, 0, 0, 0, 0, 0, 0, 64]));
    refused(name, Corrupt, &["blk.1.attn_q.weight", "a second time"], |b| b[tensor - 8] = b'q');
    refused(name, Corrupt, &["truncated", "bytes"], |b| b.truncate(b.len() - 1));
    // Cut anywhere, it is refused.
    let length = original.len();
    for cut in (1..4000).step_by(53).chain([length / 2, length - 33]) {
        refused(name, Corrupt, &["truncated"], |b| b.truncate(cut));
    }
}

#[test]
fn vocabularies_that_cannot_be_used_are_refused() {
    use LoadErrorKind::{Corrupt, Incompatible};
    let name = "qwen2_chat.gguf";
    let original = fs::read(gguf(name)).unwrap();
    let at = |word: &str| find(&original, word) + word.len();
    let pre = at("tokenizer.ggml.pre");
    refused(name, Incompatible, &["tokenizer.ggml.pre", "`qwen9`", "`llama-bpe`"], |b| b[pre + 16] = b'9');
    let model = at("tokenizer.ggml.model");
    refused(name, Incompatible, &["tokenizer.ggml.model", "`bert`"], |b| put(b, model + 12, b"bert"));
    refused(name, Corrupt, &["tokenizer.ggml.merges", "missing"], |b| {
        let end = find(b, "tokenizer.ggml.merges");
        b[end] = b'x';
    });
    let eos = at("tokenizer.ggml.eos_token_id");
    refused(name, Corrupt, &["eos_token_id", "600 tokens"], |b| put(b, eos + 4, &[0, 9]));
    refused(name, Corrupt, &["tokenizer.ggml.tokens", "UTF-8"], |b| {
        let word = find(b, "<|im_start|>");
        b[word] = 0xFF;
    });
    refused(name, Corrupt, &["the vocabulary is not usable"], |b| {
        // The first merge, after a list's head and a text's length, is now of other tokens, which make none.
        let merges = find(b, "tokenizer.ggml.merges") + "tokenizer.ggml.merges".len();
        b[merges + 24 + 3] = b'!';
    });
    refused(name, Corrupt, &["tokenizer.chat_template", "compile"], |b| {
        let word = find(b, "{%");
        put(b, word, b"{{%%");
    });
}

#[test]
fn names_lead_to_files() {
    let (dir, path) = changed("qwen3.gguf", |_| ());
    assert_eq!(locate_model(path.to_str().unwrap(), None).unwrap(), path);
    assert_eq!(locate_model("model.gguf", Some(dir.path())).unwrap(), path);
    let error = locate_model(dir.path().join("modle.gguf").to_str().unwrap(), None).unwrap_err();
    assert!(error.help.contains("model.gguf"), "{error}");
    // A directory that holds one says how to name it; one without the suffix is known by how it begins.
    let error = load_path(dir.path(), &LoadOptions::default()).unwrap_err();
    assert!(error.help.contains("-m ") && error.help.contains("model.gguf"), "{error}");
    let bare = dir.path().join("bare");
    fs::rename(&path, &bare).unwrap();
    assert_eq!(load_path(&bare, &LoadOptions::default()).unwrap().tensors, 25);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_file_holds_loading_returns(
        name in prop::sample::select(vec!["mixed/model.gguf", "qwen2_chat.gguf", "vocabularies/sentence_piece.gguf"]),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 0..5),
        words in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>()), 0..2),
        cut in prop::option::of(any::<prop::sample::Index>()),
        reach in prop::sample::select(vec![100usize, 2000, 30_000, usize::MAX]),
    ) {
        let (_dir, path) = changed(name, |bytes| {
            let reach = bytes.len().min(reach);
            for (index, bit) in &flips {
                bytes[index.index(reach)] ^= 1 << bit;
            }
            for (index, word) in &words {
                let at = index.index(reach - 8);
                put(bytes, at, &word.to_le_bytes());
            }
            if let Some(cut) = &cut {
                bytes.truncate(cut.index(bytes.len()));
            }
        });
        let _ = load_gguf(&path, &LoadOptions::default());
        let _ = read_gguf_text(&path);
    }
}
