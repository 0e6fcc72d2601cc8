//! Verbs that look at a model: info, tokenize, render, score, generate, eval. One tiny model serves them all.

use std::path::Path;

use serde_json::{Value, json};

use crate::program::{keys, parlor};
use crate::tiny::{model, text, workplace};

fn run(directory: &Path, args: &[&str]) -> crate::program::Ended {
    let model = model();
    parlor(directory, &[args, &["-m", text(&model)]].concat())
}

fn ids(value: &Value) -> String {
    let ids: Vec<String> = value["ids"].as_array().unwrap().iter().map(Value::to_string).collect();
    ids.join(",")
}

#[test]
fn info_has_the_keys_of_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let value = run(directory.path(), &["info", "--json"]).ok().json();
    for key in [
        "architecture",
        "model_type",
        "parameters",
        "trainable_parameters",
        "dtype",
        "max_length",
        "vocab_size",
        "layers",
        "memory",
        "tensors",
        "chat_template",
    ] {
        assert!(value.get(key).is_some(), "{key} is missing: {value}");
    }
    assert_eq!(value["layers"], 2);
    assert_eq!(value["max_length"], 256);
    assert_eq!(value["chat_template"], true);
    assert_eq!(value["parameters"], value["trainable_parameters"]);
    let shown = run(directory.path(), &["info"]).ok().stdout;
    assert!(shown.contains("longest sequence  256 tokens"), "{shown}");
}

#[test]
fn tokenize_gives_ids_and_their_spelling_and_reads_files() {
    let directory = tempfile::tempdir().unwrap();
    let value = run(directory.path(), &["tokenize", "--json", "Thing 7 is blue"]).ok().json();
    assert_eq!(keys(&value), ["ids", "tokens"]);
    let joined: String = value["tokens"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    assert_eq!(joined, "ThingĠ7ĠisĠblue");
    std::fs::write(directory.path().join("text.txt"), "\u{FEFF}Thing 7 is blue").unwrap();
    let file = run(directory.path(), &["tokenize", "--json", "--file", "text.txt"]).ok().json();
    assert_eq!(file, value);
    std::fs::write(directory.path().join("bad.txt"), b"one\ntwo \xFF").unwrap();
    run(directory.path(), &["tokenize", "--file", "bad.txt"]).refused(&["bad.txt:2", "UTF-8"]);
    run(directory.path(), &["tokenize"]).refused(&["--file"]);
}

#[test]
fn render_marks_what_the_assistant_says() {
    let directory = tempfile::tempdir().unwrap();
    let messages = json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]);
    std::fs::write(directory.path().join("m.json"), messages.to_string()).unwrap();
    let value = run(directory.path(), &["render", "--messages", "m.json", "--json"]).ok().json();
    assert_eq!(keys(&value), ["text", "ids", "assistant_mask"]);
    assert_eq!(value["text"], "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n");
    let mask: Vec<u64> =
        value["assistant_mask"].as_array().unwrap().iter().map(|m| m.as_u64().unwrap()).collect();
    assert_eq!(mask.len(), value["ids"].as_array().unwrap().len());
    assert!(mask.contains(&1) && mask[0] == 0 && mask[mask.len() - 1] == 0, "{mask:?}");
    let args = ["render", "--messages", "m.json", "--add-generation-prompt", "--json"];
    let asked = run(directory.path(), &args).ok().json();
    assert!(asked["text"].as_str().unwrap().ends_with("<|im_start|>assistant\n"));
    assert_eq!(asked["assistant_mask"].as_array().unwrap().len(), asked["ids"].as_array().unwrap().len());
    // An object with tools, and tools in a file of their own.
    let tool = json!({"type": "function", "function": {"name": "clock"}});
    std::fs::write(
        directory.path().join("o.json"),
        json!({"messages": messages, "tools": [tool]}).to_string(),
    )
    .unwrap();
    std::fs::write(directory.path().join("t.json"), json!([tool]).to_string()).unwrap();
    let inside = run(directory.path(), &["render", "--messages", "o.json"]).ok().stdout;
    let beside = run(directory.path(), &["render", "--messages", "m.json", "--tools", "t.json"]).ok().stdout;
    assert!(inside.contains("\"clock\""), "{inside}");
    assert_eq!(inside, beside);
    for wrong in
        ["7", "[{\"content\": \"x\"}]", "{\"rows\": []}", "[", "[{\"role\": \"user\", \"content\": 7}]"]
    {
        std::fs::write(directory.path().join("w.json"), wrong).unwrap();
        run(directory.path(), &["render", "--messages", "w.json"]).refused(&["w.json"]);
    }
}

#[test]
fn score_is_the_log_probability_of_each_token_given_those_before() {
    let directory = tempfile::tempdir().unwrap();
    let text = "What colour is train thing 3?";
    let one = run(directory.path(), &["score", "--text", text, "--top", "40", "--json"]).ok().json();
    assert_eq!(keys(&one), ["ids", "logprobs", "top"]);
    let logprobs = one["logprobs"].as_array().unwrap();
    assert_eq!(logprobs.len(), one["ids"].as_array().unwrap().len());
    assert!(logprobs[0].is_null());
    assert!(logprobs[1..].iter().all(|value| value.as_f64().unwrap() <= 0.0));
    // Where the token is among the likeliest, both ways of computing agree.
    let mut compared = 0;
    for index in 1..logprobs.len() {
        for likely in one["top"][index].as_array().unwrap() {
            if likely["id"] == one["ids"][index] {
                let (a, b) = (logprobs[index].as_f64().unwrap(), likely["logprob"].as_f64().unwrap());
                assert!((a - b).abs() < 1e-4, "{a} {b}");
                compared += 1;
            }
        }
    }
    assert!(compared > 3, "{one}");
    // The same through ids and through a file, as JSONL.
    let through_ids = run(directory.path(), &["score", "--ids", &ids(&one), "--json"]).ok().json();
    assert_eq!(through_ids["logprobs"], one["logprobs"]);
    let rows = format!("{}\n\n{}\n", json!({"text": text}), json!({"ids": [1, 2]}));
    std::fs::write(directory.path().join("rows.jsonl"), rows).unwrap();
    let lines = run(directory.path(), &["score", "--file", "rows.jsonl", "--json"]).ok().stdout;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0], through_ids);
    // Everything is checked before the first row is scored.
    std::fs::write(directory.path().join("bad.jsonl"), "{\"ids\": [1, 2]}\n{\"ids\": [99999]}\n").unwrap();
    run(directory.path(), &["score", "--file", "bad.jsonl"]).refused(&["99999", "vocabulary"]);
    std::fs::write(directory.path().join("bad.jsonl"), "{\"ids\": [1, 2]}\n{\"tokens\": [1]}\n").unwrap();
    run(directory.path(), &["score", "--file", "bad.jsonl"]).refused(&["bad.jsonl:2", "tokens"]);
    run(directory.path(), &["score"]).refused(&["--ids"]);
}

#[test]
fn generate_is_repeatable_and_counts_what_it_did() {
    let directory = tempfile::tempdir().unwrap();
    let greedy = ["generate", "-p", "Thing 3", "--temperature", "0", "--max-tokens", "12", "--json"];
    let first = run(directory.path(), &greedy).ok().json();
    assert_eq!(
        keys(&first),
        [
            "text",
            "ids",
            "finish_reason",
            "prompt_tokens",
            "completion_tokens",
            "seconds",
            "prefill_tokens_per_second",
            "decode_tokens_per_second"
        ]
    );
    let count = first["completion_tokens"].as_u64().unwrap();
    assert_eq!(count as usize, first["ids"].as_array().unwrap().len());
    assert!((1..=12).contains(&count));
    assert_eq!(run(directory.path(), &greedy).ok().json()["ids"], first["ids"]);
    let streamed = run(directory.path(), &greedy[..greedy.len() - 1]).ok();
    assert_eq!(streamed.stdout, format!("{}\n", first["text"].as_str().unwrap()));
    let sampled = |seed: &str| {
        let args = [
            "generate",
            "-p",
            "Thing",
            "--temperature",
            "1.5",
            "--top-k",
            "0",
            "--top-p",
            "1",
            "--seed",
            seed,
        ];
        let more = ["--repetition-penalty", "1", "--max-tokens", "16", "--ignore-eos", "--json"];
        run(directory.path(), &[&args[..], &more].concat()).ok().json()
    };
    assert_eq!(sampled("1")["ids"], sampled("1")["ids"]);
    assert_ne!(sampled("1")["ids"], sampled("2")["ids"]);
    assert_eq!(sampled("3")["finish_reason"], "length");
}

#[test]
fn generate_answers_a_conversation_through_the_template() {
    let directory = tempfile::tempdir().unwrap();
    let messages = json!([{"role": "user", "content": "What colour is train thing 3?"}]);
    std::fs::write(directory.path().join("m.json"), messages.to_string()).unwrap();
    let greedy = ["--temperature", "0", "--max-tokens", "24", "--json"];
    let answer =
        run(directory.path(), &[&["generate", "--messages", "m.json"][..], &greedy].concat()).ok().json();
    let args = ["render", "--messages", "m.json", "--add-generation-prompt", "--json"];
    let prompt = run(directory.path(), &args).ok().json();
    assert_eq!(answer["prompt_tokens"].as_u64().unwrap() as usize, prompt["ids"].as_array().unwrap().len());
    let same =
        run(directory.path(), &[&["generate", "--ids", &ids(&prompt)][..], &greedy].concat()).ok().json();
    assert_eq!(same["ids"], answer["ids"]);
}

#[test]
fn generate_refuses_what_makes_no_sense() {
    let directory = tempfile::tempdir().unwrap();
    let refuse = |args: &[&str], words: &[&str]| {
        run(directory.path(), &[&["generate"], args].concat()).refused(words);
    };
    refuse(&["-p", "x", "--temperature", "-1"], &["temperature"]);
    refuse(&["-p", "x", "--top-p", "1.5"], &["top_p"]);
    refuse(&["-p", "x", "--max-tokens", "many"], &["many"]);
    refuse(&["-p", ""], &["no token"]);
    refuse(&["--ids", "1,99999"], &["99999"]);
    refuse(&["-p", "x", "--ids", "1"], &["--ids"]);
    refuse(&[], &["--prompt"]);
    refuse(&["-p", &"long ".repeat(400)], &["256", "shorten"]);
}

#[test]
fn eval_measures_loss_and_perplexity() {
    let directory = workplace();
    let value = run(directory.path(), &["eval", "--data", "data/eval.jsonl", "--json"]).ok().json();
    assert_eq!(keys(&value), ["loss", "perplexity", "tokens", "tokens_per_second"]);
    let (loss, perplexity) = (value["loss"].as_f64().unwrap(), value["perplexity"].as_f64().unwrap());
    assert!((loss.exp() - perplexity).abs() < 1e-9 * perplexity, "{value}");
    run(directory.path(), &["eval", "--data", "data/none.jsonl"]).refused(&["none.jsonl"]);
}

#[test]
fn devices_and_dtypes_that_this_build_lacks_are_said() {
    let directory = tempfile::tempdir().unwrap();
    run(directory.path(), &["info", "--device", "cuda"]).refused(&["no GPU support", "cpu"]);
    run(directory.path(), &["info", "--device", "gpu"]).refused(&["cuda:N"]);
    run(directory.path(), &["info", "--dtype", "int3"]).refused(&["bfloat16"]);
    let half = run(directory.path(), &["info", "--dtype", "bfloat16", "--json"]).ok().json();
    assert_eq!(half["dtype"], "bfloat16");
}
