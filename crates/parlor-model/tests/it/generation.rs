//! `generation_config.json`: read as leniently as the reference reads it, and written back whole.

use std::path::Path;

use parlor_model::{LoadOptions, LoadedModel, SaveModel, load_directory, save_directory};
use serde_json::{Value, json};

use crate::directories::{copy, edit_json};

fn load(directory: &Path) -> LoadedModel {
    load_directory(directory, &LoadOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// The model with this generation config.
fn with(text: &str) -> LoadedModel {
    let directory = copy("qwen2");
    std::fs::write(directory.path().join("generation_config.json"), text).unwrap();
    load(directory.path())
}

#[test]
fn a_file_that_holds_nothing_counts_as_absent() {
    let directory = copy("qwen2");
    edit_json(directory.path(), "config.json", |map| {
        map.insert("suppress_tokens".to_owned(), json!([5]));
        map.insert("max_length".to_owned(), json!(20));
        map.insert("temperature".to_owned(), Value::Null);
    });
    let path = directory.path().join("generation_config.json");
    for text in ["", " \n", "{", "[]", "null", "{\"eos_token_id\": 3"] {
        std::fs::write(&path, text).unwrap();
        let model = load(directory.path());
        let generation = &model.generation;
        assert_eq!(generation.eos_token_ids, [2], "{text:?}");
        let settings = (&generation.settings.suppress_tokens, generation.settings.max_length);
        assert_eq!(settings, (&vec![5], Some(20)), "{text:?}: settings of config.json");
        assert!(model.warnings.iter().any(|warning| warning.contains("generation_config.json")), "{text:?}");
        assert!(generation.warnings.is_empty() && generation.problems.is_empty());
    }
    std::fs::remove_file(&path).unwrap();
    let absent = load(directory.path());
    assert_eq!(absent.generation.settings.suppress_tokens, [5]);
    assert!(absent.warnings.is_empty(), "{:?}", absent.warnings);
    // With a file that can be read, only ids come from config.json.
    std::fs::write(&path, "{}").unwrap();
    let model = load(directory.path());
    assert_eq!(model.generation.settings.suppress_tokens, Vec::<u32>::new());
    assert_eq!(model.generation.eos_token_ids, [2]);
    assert!(model.warnings.is_empty(), "{:?}", model.warnings);
}

#[test]
fn numbers_that_no_token_has_are_none() {
    for (text, ids) in [
        (r#"{"eos_token_id": -1}"#, vec![2]),
        (r#"{"eos_token_id": [-1, -100]}"#, vec![2]),
        (r#"{"eos_token_id": [7, -1, 99999999999]}"#, vec![7]),
        (r#"{"eos_token_id": null, "bos_token_id": -1, "pad_token_id": -1}"#, vec![2]),
    ] {
        let model = with(text);
        assert_eq!(model.generation.eos_token_ids, ids, "{text}");
        assert_eq!(model.generation.pad_token_id, None, "{text}");
        assert!(model.generation.problems.is_empty(), "{text}");
    }
    let model =
        with(r#"{"top_k": -1, "no_repeat_ngram_size": -1, "min_length": -1, "suppress_tokens": [-1, 4]}"#);
    assert_eq!(model.generation.top_k, Some(0));
    assert_eq!(model.generation.settings.no_repeat_ngram_size, Some(0));
    assert_eq!(model.generation.settings.suppress_tokens, [4]);
    assert!(model.generation.problems.is_empty(), "{:?}", model.generation.problems);
    // Whole numbers are whole however they are written.
    assert_eq!(with(r#"{"top_k": 50.0, "temperature": 1}"#).generation.top_k, Some(50));
}

#[test]
fn a_model_that_names_no_end_has_its_tokenizers() {
    let directory = copy("qwen2_chat");
    let end = load(directory.path()).tokenizer.unwrap().eos().unwrap().id;
    for name in ["config.json", "generation_config.json"] {
        edit_json(directory.path(), name, |map| {
            map.insert("eos_token_id".to_owned(), json!(-1));
        });
    }
    assert_eq!(load(directory.path()).eos_token_ids(), [end]);
    edit_json(directory.path(), "generation_config.json", |map| {
        map.insert("eos_token_id".to_owned(), json!([4, 5]));
    });
    assert_eq!(load(directory.path()).eos_token_ids(), [4, 5]);
}

#[test]
fn settings_that_cannot_be_read_do_not_stop_the_load() {
    let model = with(
        r#"{"temperature": "hot", "top_k": 1.5, "max_new_tokens": 0, "stop_strings": {"a": 1}, "bad_words_ids": [3],
            "sequence_bias": [[[], 1.0]], "forced_eos_token_id": -1, "exponential_decay_length_penalty": [1],
            "do_sample": "yes"}"#,
    );
    let mut keys: Vec<&str> = model.generation.problems.iter().map(|problem| problem.key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "bad_words_ids",
            "do_sample",
            "exponential_decay_length_penalty",
            "forced_eos_token_id",
            "max_new_tokens",
            "sequence_bias",
            "stop_strings",
            "temperature",
            "top_k"
        ]
    );
    for problem in &model.generation.problems {
        assert!(problem.message.contains("generation_config.json"), "{}", problem.message);
        assert!(problem.message.contains(&problem.key), "{}", problem.message);
    }
}

#[test]
fn settings_of_other_programs_are_named_unless_they_ask_for_nothing() {
    let neutral = with(
        r#"{"num_beams": 1, "num_return_sequences": 1, "guidance_scale": 1.0, "penalty_alpha": 0.0, "token_healing": false,
            "constraints": null, "force_words_ids": [], "length_penalty": 2.0, "use_cache": true, "early_stopping": true,
            "cache_implementation": "static", "transformers_version": "5", "_from_model_config": true,
            "output_attentions": false, "renormalize_logits": true, "num_beam_groups": 1, "diversity_penalty": 0}"#,
    );
    assert_eq!(neutral.generation.warnings, Vec::<String>::new());
    for setting in [
        r#""num_beams": 2"#,
        r#""num_beam_groups": 3"#,
        r#""diversity_penalty": 0.5"#,
        r#""penalty_alpha": 0.6"#,
        r#""dola_layers": "high""#,
        r#""constraints": [1]"#,
        r#""force_words_ids": [[1]]"#,
        r#""guidance_scale": 1.5"#,
        r#""watermarking_config": {"bias": 2.0}"#,
        r#""token_healing": true"#,
        r#""num_return_sequences": 3"#,
        r#""prompt_lookup_num_tokens": 10"#,
        r#""assistant_early_exit": 4"#,
        r#""use_mtp": true"#,
        r#""cache_implementation": "quantized""#,
        r#""temprature": 0.5"#,
    ] {
        let model = with(&format!("{{{setting}}}"));
        let key = setting.split('"').nth(1).unwrap();
        let [warning] = model.generation.warnings.as_slice() else {
            panic!("{setting}: {:?}", model.generation.warnings)
        };
        assert!(warning.contains(&format!("`{key}`")), "{warning}");
    }
}

#[test]
fn settings_survive_being_saved() {
    let model = with(
        r#"{"do_sample": true, "min_p": 0.1, "stop_strings": ["a \"NaN\" b"], "suppress_tokens": [3], "chat_format": "x",
            "sequence_bias": [[[5], -Infinity], [[5, 6], 2.5], [[5], Infinity]], "num_beams": 4, "top_h": NaN}"#,
    );
    let expected = vec![(vec![5, 6], 2.5), (vec![5], f64::MAX)];
    assert_eq!(
        model.generation.settings.sequence_bias, expected,
        "the last of several for one sequence counts"
    );
    assert_eq!(model.generation.settings.stop_strings, ["a \"NaN\" b"]);
    assert_eq!(model.generation.settings.top_h, None);
    let out = tempfile::tempdir().unwrap();
    let out = out.path().join("saved");
    save_directory(&out, &SaveModel::of(&model)).unwrap();
    let saved = load(&out).generation;
    assert_eq!(saved.settings, model.generation.settings);
    assert_eq!(saved.to_json(), model.generation.to_json());
    assert_eq!((&saved.other["chat_format"], &saved.other["num_beams"]), (&json!("x"), &json!(4)));
}
