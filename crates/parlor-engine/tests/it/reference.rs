//! Completions and distributions under generation settings, as transformers has them (`fixtures/make/generation.py`).

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use parlor_engine::{EndConditions, GenerationModel, Sampler, SamplingOverrides, generate, resolve};
use parlor_model::{GenerationConfig, LoadOptions, load_directory};
use serde_json::{Map, Value};

/// The committed fixtures.
fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn cases() -> Value {
    serde_json::from_slice(&std::fs::read(fixtures().join("generation.json")).unwrap()).unwrap()
}

/// The model that can chat, in a directory that may be changed.
pub(crate) fn chat_model() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let from = fixtures().join("models/qwen2_chat");
    for name in [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    ] {
        std::fs::copy(from.join(name), directory.path().join(name)).unwrap();
    }
    directory
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn answers_are_those_of_the_reference() {
    let directory = chat_model();
    let cases = cases();
    let answers = cases["answers"].as_array().unwrap();
    assert!(answers.len() > 30);
    for case in answers {
        let settings = case["settings"].as_str().unwrap();
        std::fs::write(directory.path().join("generation_config.json"), settings).unwrap();
        let model = load_directory(directory.path(), &LoadOptions::default()).unwrap();
        let resolved = resolve(&SamplingOverrides::default(), &model.generation).unwrap();
        assert_eq!(resolved.warnings, Vec::<String>::new(), "{settings}");
        let generation_model = GenerationModel {
            decoder: &model.decoder,
            tokenizer: model.tokenizer.as_ref(),
            eos_token_ids: &model.eos_token_ids(),
            max_length: model.max_length,
        };
        let prompt = ids(&case["prompt"]);
        let answer =
            generate(generation_model, &prompt, &resolved.params, 1, &mut |_| ControlFlow::Continue(()))
                .unwrap();
        assert_eq!(answer.ids, ids(&case["ids"]), "{settings}");
    }
}

/// The reference computes the softmax of f32 logits: 6e-8 of a logit of up to 8 over the temperature, and as much again for
/// each of its steps. Probabilities are compared to 1e-5 of themselves; at a temperature of 1e-6 only one is not 0.
#[test]
fn distributions_are_those_of_the_reference() {
    let cases = cases();
    let logits: Vec<f32> =
        cases["logits"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
    for case in cases["warped"].as_array().unwrap() {
        let mut settings: Map<String, Value> = case["settings"].as_object().unwrap().clone();
        settings.insert("do_sample".to_owned(), true.into());
        let file = Path::new("generation_config.json");
        let none = Map::new();
        let config = GenerationConfig::read(Some((&settings, file)), (&none, file)).unwrap();
        let params = resolve(&SamplingOverrides::default(), &config).unwrap().params;
        let sampler = Sampler::new(params, EndConditions::default(), &[1, 2, 3], 1);
        let found = sampler.distribution(&mut logits.clone());
        let kept: Vec<u32> = found.iter().map(|(id, _)| *id).collect();
        assert_eq!(kept, ids(&case["ids"]), "{settings:?}");
        for ((id, found), wanted) in found.iter().zip(case["probabilities"].as_array().unwrap()) {
            let wanted = wanted.as_f64().unwrap();
            assert!(
                (found - wanted).abs() <= 1e-5 * wanted.max(1e-30),
                "{settings:?}: {id} {found} {wanted}"
            );
        }
    }
}
