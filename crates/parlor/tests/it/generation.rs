//! Generation settings, stops, template variables and free text, as they are typed.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program::{Ended, parlor};

/// A directory with the committed model that can chat in `m`, and these generation settings.
pub(crate) fn place(settings: &Value) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/qwen2_chat");
    let to = directory.path().join("m");
    std::fs::create_dir(&to).unwrap();
    let names = [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    ];
    for name in names {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
    std::fs::write(to.join("generation_config.json"), settings.to_string()).unwrap();
    std::fs::write(directory.path().join("messages.json"), r#"[{"role": "user", "content": "Hi"}]"#).unwrap();
    directory
}

fn generate(directory: &TempDir, args: &[&str]) -> Ended {
    parlor(directory.path(), &[&["generate", "-m", "m", "--ids", "11,50,11,50,23", "--json"], args].concat())
}

fn ids(ended: Ended) -> Vec<u64> {
    ended.ok().json()["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
}

/// The first tokens of the greedy answer (`fixtures/generation.json`).
const GREEDY: [u64; 4] = [577, 79, 79, 572];

#[test]
fn what_the_model_does_not_set_is_neutral() {
    let four = ["--max-tokens", "4"];
    for settings in [json!({}), json!({"do_sample": false}), json!({"do_sample": true, "top_k": 1})] {
        let directory = place(&settings);
        assert_eq!(ids(generate(&directory, &four)), GREEDY, "{settings}");
    }
    let directory = place(&json!({"do_sample": true, "temperature": 50.0, "max_new_tokens": 4, "top_k": 0}));
    assert_eq!(ids(generate(&directory, &["--temperature", "0"])), GREEDY);
    for temperature in ["1e-38", "1e-45"] {
        assert_eq!(ids(generate(&directory, &["--temperature", temperature])), GREEDY);
    }
    assert_eq!(ids(generate(&directory, &["--top-p", "0"])), GREEDY);
    assert_ne!(ids(generate(&directory, &["--seed", "1"])), GREEDY);
}

#[test]
fn flags_count_before_the_config_and_the_config_before_the_model() {
    let directory = place(&json!({"do_sample": true, "temperature": 50.0, "max_new_tokens": 9}));
    let config = "serving:\n  sampling_defaults:\n    temperature: 0\n    max_new_tokens: 4\n";
    std::fs::write(directory.path().join("config.yaml"), config).unwrap();
    assert_eq!(ids(generate(&directory, &[])), GREEDY);
    assert_eq!(ids(generate(&directory, &["--max-tokens", "2"])), GREEDY[..2]);
    assert_ne!(ids(generate(&directory, &["--temperature", "50", "--seed", "1"])), GREEDY);
    let bad = ["--set", "serving.sampling_defaults.top_p=1.5"];
    generate(&directory, &bad).refused(&["serving.sampling_defaults.top_p", "1.5"]);
}

#[test]
fn settings_that_are_not_applied_are_said_and_those_that_cannot_be_are_refused() {
    let directory = place(&json!({"num_beams": 4, "temperature": 0.5, "max_new_tokens": 4}));
    let ended = generate(&directory, &[]).ok();
    for words in
        ["generation_config.json: `num_beams` (4) asks for beam search", "`temperature` without `do_sample"]
    {
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
    }
    assert_eq!(ids(ended), GREEDY);
    let directory = place(&json!({"no_repeat_ngram_size": "two"}));
    generate(&directory, &[]).refused(&["generation_config.json", "`no_repeat_ngram_size`", "two"]);
    parlor(directory.path(), &["score", "-m", "m", "--ids", "1,2"]).ok();
    let directory = place(&json!({"max_length": 5}));
    generate(&directory, &[]).refused(&["`max_length: 5`", "5 tokens"]);
    assert_eq!(ids(generate(&directory, &["--max-tokens", "2"])), GREEDY[..2]);
}

#[test]
fn a_stop_text_may_be_a_special_token() {
    let bias = json!({"sequence_bias": [[[23, 577], 50.0], [[577, 2], 50.0], [[2, 79], 50.0]], "max_new_tokens": 3,
        "eos_token_id": 5});
    let directory = place(&bias);
    assert_eq!(ids(generate(&directory, &[])), [577, 2, 79]);
    for stop in ["<|im_end|>", "--stop=<|im_end|>"] {
        let args = if stop.starts_with("--") { vec![stop] } else { vec!["--stop", stop] };
        let answer = generate(&directory, &args).ok().json();
        assert_eq!(answer["ids"], json!([577, 2]));
        assert_eq!(answer["finish_reason"], "stop");
    }
}

#[test]
fn template_variables_reach_the_template() {
    let directory = place(&json!({"max_new_tokens": 2}));
    let template = "{{ style | default('plain') }}:{% if documents %}{{ documents[0].text }}{% endif %}\
        {% for m in messages %}{{ m.content }}{% endfor %}";
    std::fs::write(directory.path().join("m/chat_template.jinja"), template).unwrap();
    let render = |args: &[&str]| {
        let args = [&["render", "-m", "m", "--messages", "messages.json", "--json"], args].concat();
        parlor(directory.path(), &args)
    };
    let rendered = |args: &[&str]| render(args).ok().json()["text"].as_str().unwrap().to_owned();
    assert_eq!(rendered(&[]), "plain:Hi");
    let flag = r#"{"style": "terse", "documents": [{"text": "D "}]}"#;
    assert_eq!(rendered(&["--template-kwargs", flag]), "terse:D Hi");
    assert_eq!(rendered(&["--set", "model.chat_template_kwargs.style=long"]), "long:Hi");
    let both = [
        "--set",
        "model.chat_template_kwargs.style=long",
        "--template-kwargs",
        r#"{"style": "as short as can be"}"#,
    ];
    assert_eq!(rendered(&both), "as short as can be:Hi");
    // The same prompt in every verb that goes through the template.
    let tokens = |args: &[&str]| {
        let prompt = render(args).ok().json()["ids"].as_array().unwrap().len();
        let generate = ["generate", "-m", "m", "--messages", "messages.json", "--json"];
        let answer = parlor(directory.path(), &[&generate, args].concat()).ok().json();
        assert_eq!(answer["prompt_tokens"], prompt, "{args:?}");
        prompt
    };
    assert_ne!(tokens(&[]), tokens(&["--template-kwargs", flag]));
    assert_ne!(tokens(&[]), tokens(&both));
    let row = json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]});
    std::fs::write(directory.path().join("rows.jsonl"), row.to_string()).unwrap();
    let inspect = |args: &[&str]| {
        let all =
            ["data", "inspect", "rows.jsonl", "-m", "m", "--set", "training.training_type=from_scratch"];
        // Without the marks of what is trained.
        parlor(directory.path(), &[&all, args].concat()).ok().stdout.replace(['«', '»'], "")
    };
    assert!(inspect(&["--template-kwargs", flag]).contains("terse:"), "{}", inspect(&[]));
    assert!(inspect(&["--set", "model.chat_template_kwargs.style=long"]).contains("long:"));
    for (kwargs, words) in [
        ("[]", ["JSON object", "[]"]),
        ("{", ["JSON object", "EOF"]),
        (r#"{"messages": []}"#, ["`messages`", "variable"]),
        (r#"{"tools": []}"#, ["`tools`", "variable"]),
    ] {
        render(&["--template-kwargs", kwargs]).refused(&words);
    }
    render(&["--set", "model.chat_template_kwargs={messages: 1}"])
        .refused(&["model.chat_template_kwargs", "`messages`"]);
    generate_raw(directory.path(), &["-p", "x", "--template-kwargs", "{}"]).refused(&["--messages"]);
}

fn generate_raw(directory: &Path, args: &[&str]) -> Ended {
    parlor(directory, &[&["generate", "-m", "m"], args].concat())
}

#[test]
fn a_flag_is_no_text() {
    let directory = place(&json!({"max_new_tokens": 2}));
    let run = |args: &[&str]| parlor(directory.path(), args);
    run(&["tokenize", "-m", "m", "--text", "X"]).refused(&["'--text'"]);
    run(&["tokenize", "-m", "m", "-x"]).refused(&["'-x'"]);
    let dashes = run(&["tokenize", "-m", "m", "--json", "--", "--text"]).ok().json();
    let joined: Vec<&str> =
        dashes["tokens"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    assert_eq!(joined.concat(), "--text");
    run(&["tokenize", "-m", "m", "-5"]).ok();
    for args in [
        &["generate", "-m", "m", "-p", "--json"][..],
        &["generate", "-m", "m", "--prompt", "--temperature=0"],
        &["generate", "-m", "m", "-p", "x", "--stop", "-q"],
        &["score", "-m", "m", "--text", "--json"],
        &["chat", "-m", "m", "--system", "--json"],
    ] {
        run(args).refused(&["is a flag", "tip: to pass it as the text"]);
    }
    run(&["generate", "-m", "m", "--prompt=--json"]).ok();
    run(&["generate", "-m", "m", "-p", "- item", "--stop", "---"]).ok();
    run(&["score", "-m", "m", "--text", "--none-of-ours"]).ok();
}
