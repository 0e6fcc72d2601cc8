//! Quantized models beside llama.cpp: the perplexity of both programs over one text, from one GGUF file.
//!
//! The model is trained here for a minute, so that its weights are not noise. llama.cpp's `llama-perplexity` takes the text in
//! pieces of a context, and in each the second half of the tokens, given all before them; so does this.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::process::{root, target_dir};

/// Tokens of a piece.
const CONTEXT: usize = 256;

/// Formats, and how far apart the perplexities may be: a format's weights are the same numbers for both, inputs are rounded to
/// 8 bits in other blocks.
const FORMATS: [(&str, f64); 9] = [
    ("f32", 0.001),
    ("q8_0", 0.001),
    ("q4_0", 0.01),
    ("q4_1", 0.01),
    ("q5_0", 0.01),
    ("q5_1", 0.01),
    ("q4_K_S", 0.01),
    ("q5_K_S", 0.01),
    ("q6_K", 0.01),
];
/// Those that the script writes; the others are made of f32 by llama.cpp's `llama-quantize`.
const WRITTEN: [&str; 3] = ["f32", "q8_0", "q4_0"];

const TRAINING: &[&str] = &[
    "training.training_type=from_scratch",
    "training.from_scratch.vocab_size=2048",
    "training.from_scratch.architecture.hidden_size=256",
    "training.from_scratch.architecture.intermediate_size=768",
    "training.from_scratch.architecture.num_hidden_layers=4",
    "training.from_scratch.architecture.num_attention_heads=4",
    "training.from_scratch.architecture.num_key_value_heads=2",
    "training.from_scratch.learning_rate=0.002",
    "training.from_scratch.save_steps=0",
    "data.max_length=256",
    "model.max_length=512",
    "training.output_dir=model",
    "monitoring.mlflow.enabled=false",
];

/// Measures; `program` is llama.cpp's `llama-perplexity`, with its `llama-quantize` beside it; `python` has the packages of `xtask/bench/gguf_of.py`.
pub(crate) fn run(program: &str, python: &str) -> anyhow::Result<()> {
    let scratch = target_dir().join("perplexity");
    std::fs::create_dir_all(&scratch)?;
    let documents = root().join("datasets/documents");
    if !scratch.join("model/model.safetensors").is_file() {
        let mut arguments: Vec<String> =
            ["train", "--max-steps=600", "--overwrite"].iter().map(|text| (*text).to_owned()).collect();
        let data = [
            format!("data.train_data_path={}", documents.display()),
            format!("data.eval_data_path={}", root().join("datasets/documents_eval").display()),
        ];
        for setting in TRAINING.iter().map(|set| (*set).to_owned()).chain(data) {
            arguments.extend(["--set".to_owned(), setting]);
        }
        parlor(&scratch, &arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    let mut text = String::new();
    for directory in [documents, root().join("datasets/documents_eval")] {
        let mut files = std::fs::read_dir(directory)?
            .map(|entry| Ok(entry?.path()))
            .collect::<anyhow::Result<Vec<_>>>()?;
        files.sort();
        for file in files {
            text += &std::fs::read_to_string(file)?;
        }
    }
    std::fs::write(scratch.join("text.txt"), &text)?;

    let mut table = String::from("| format | Parlor | llama.cpp | apart |\n|---|---|---|---|\n");
    let mut wrong = Vec::new();
    for (format, bound) in FORMATS {
        let file = format!("{format}.gguf");
        if WRITTEN.contains(&format) {
            let script = root().join("xtask/bench/gguf_of.py").display().to_string();
            said(&scratch, Path::new(python), &[&script, "model", format, &file])?;
        } else {
            let quantize = Path::new(program).with_file_name("llama-quantize");
            said(&scratch, &quantize, &["--pure", "f32.gguf", &file, &format.to_uppercase()])?;
        }
        let (own, pieces) = own(&scratch, &file)?;
        let peer = peer(&scratch, program, &file, pieces)?;
        let apart = own / peer - 1.0;
        writeln!(table, "| {format} | {own:.4} | {peer:.4} | {:+.3}% |", 100.0 * apart)?;
        if apart.abs() > bound {
            wrong.push(format!("{format}: {:.3}% apart, at most {:.1}%", 100.0 * apart, 100.0 * bound));
        }
    }
    println!("{table}");
    ensure!(wrong.is_empty(), "perplexities: {}", wrong.join("; "));
    Ok(())
}

/// The perplexity, and of how many pieces.
fn own(scratch: &Path, file: &str) -> anyhow::Result<(f64, usize)> {
    let tokens: Value =
        serde_json::from_str(&parlor(scratch, &["tokenize", "-m", file, "--json", "--file", "text.txt"])?)?;
    let ids = tokens["ids"].as_array().context("no ids")?;
    let pieces = ids.chunks_exact(CONTEXT);
    let rows: String = pieces.map(|ids| format!("{}\n", serde_json::json!({"ids": ids}))).collect();
    std::fs::write(scratch.join("pieces.jsonl"), rows)?;
    let scores = parlor(scratch, &["score", "-m", file, "--json", "--file", "pieces.jsonl"])?;
    let (mut sum, mut count) = (0.0, 0);
    for line in scores.lines() {
        let score: Value = serde_json::from_str(line)?;
        let logprobs = score["logprobs"].as_array().context("no log-probabilities")?;
        for logprob in &logprobs[CONTEXT / 2 + 1..] {
            sum -= logprob.as_f64().context("a token without a log-probability")?;
            count += 1;
        }
    }
    ensure!(count > 0, "the text is shorter than a piece");
    Ok(((sum / f64::from(count)).exp(), ids.len() / CONTEXT))
}

/// That of all `pieces`. The program's last words are sometimes lost when it ends, so that it is asked again.
fn peer(scratch: &Path, program: &str, file: &str, pieces: usize) -> anyhow::Result<f64> {
    let context = CONTEXT.to_string();
    let arguments = ["-m", file, "-f", "text.txt", "-c", &context, "-b", &context, "-t", "2"];
    for _ in 0..5 {
        // `[1]308.5,[2]313.0,...`: after each piece, that of all so far.
        let output = said(scratch, Path::new(program), &arguments)?;
        let last =
            output.trim().trim_end_matches(',').rsplit_once('[').and_then(|(_, last)| last.split_once(']'));
        if let Some((index, perplexity)) = last
            && index.parse() == Ok(pieces)
        {
            return perplexity.trim().parse().context("llama-perplexity gave no estimate");
        }
    }
    bail!("llama-perplexity never came to piece {pieces}")
}

fn parlor(scratch: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    said(scratch, &target_dir().join("release/parlor"), arguments)
}

/// What a program prints.
fn said(scratch: &Path, program: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(scratch)
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    if !output.status.success() {
        bail!("{} {arguments:?}:\n{}", program.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
