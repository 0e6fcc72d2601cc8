//! The main job, whole: the released `parlor` trains the quickstart bot from nothing, and the bot is asked the questions
//! of `datasets/quickstart_questions.txt`. A model is no constant, so an answer is held to the words that make it right.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::process::{root, target_dir};

/// Each question, and the words without which an answer to it is wrong.
const RIGHT: &[(&str, &[&str])] = &[
    ("What is Parlor?", &["Rust", "config.yaml", "chatbot"]),
    ("How do I fine-tune a model?", &["training.training_type", "sft", "parlor train"]),
    ("How do I continue a run that was stopped?", &["--resume"]),
    ("What is a learning rate?", &["step", "loss"]),
    ("Hello!", &["Hello"]),
    ("What is the capital of France?", &["Paris"]),
];

/// On text that it never saw, a bot that learned nothing but single words stays above this (nats per token).
const LEARNED: f64 = 2.0;

/// Trains, measures, asks.
pub(crate) fn run() -> anyhow::Result<()> {
    let scratch = target_dir().join("quickstart");
    if scratch.exists() {
        std::fs::remove_dir_all(&scratch)?;
    }
    std::fs::create_dir_all(&scratch)?;
    let summary = parlor(&scratch, &["quickstart", "--no-chat", "--json", "--dir", "bot"])?;
    let number = |key: &str| summary[key].as_f64().with_context(|| format!("quickstart reports no {key}"));
    let loss = number("eval_loss")?;
    eprintln!(
        "quickstart: {} steps in {:.0} s, {:.0} tokens/s, held-out loss {loss:.3}",
        number("steps")?,
        number("train_seconds")?,
        number("tokens_per_second")?
    );
    ensure!(loss < LEARNED, "the held-out loss is {loss:.3}, not below {LEARNED}: the bot did not learn");

    let questions = std::fs::read_to_string(root().join("datasets/quickstart_questions.txt"))?;
    let questions: Vec<&str> = questions.lines().filter(|line| !line.trim().is_empty()).collect();
    ensure!(
        questions.iter().copied().eq(RIGHT.iter().map(|&(question, _)| question)),
        "datasets/quickstart_questions.txt and the table of right answers differ"
    );
    let mut wrong = Vec::new();
    for &(question, words) in RIGHT {
        let answer = ask(&scratch, question)?;
        eprintln!("  > {question}\n  {answer}");
        let missing: Vec<&str> = words.iter().copied().filter(|word| !answer.contains(word)).collect();
        if !missing.is_empty() {
            wrong.push(format!("{question} -> {answer:?} lacks {missing:?}"));
        }
    }
    ensure!(wrong.is_empty(), "the bot answers wrongly:\n{}", wrong.join("\n"));
    Ok(())
}

fn ask(scratch: &Path, question: &str) -> anyhow::Result<String> {
    let messages = json!([{ "role": "user", "content": question }]);
    std::fs::write(scratch.join("messages.json"), messages.to_string())?;
    let answer = parlor(scratch, &["generate", "-m", "bot/model", "--messages", "messages.json", "--json"])?;
    Ok(answer["text"].as_str().context("generate reports no text")?.to_owned())
}

/// Runs the released program in `scratch`; its result is one JSON object on stdout, its progress goes to stderr.
fn parlor(scratch: &Path, arguments: &[&str]) -> anyhow::Result<Value> {
    let program: PathBuf = target_dir().join("release").join("parlor");
    let output = Command::new(&program)
        .args(arguments)
        .current_dir(scratch)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    if !output.status.success() {
        bail!("`parlor {}` ended with {}", arguments.join(" "), output.status);
    }
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("`parlor {}` printed no JSON", arguments.join(" ")))
}
