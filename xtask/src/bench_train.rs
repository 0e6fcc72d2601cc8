//! Training beside PyTorch: the same shapes, alternating in one run, medians and ratios. The peer's packages are in a
//! git-ignored environment that `--python` names; `xtask/bench/peer_train.py` is what it runs.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::process::{cargo, root, target_dir};

/// Steps of one measurement; the first two are not counted.
const STEPS: usize = 10;

/// What is measured: its name, tokens of a step as the peer counts them, and the config.
struct Work {
    name: &'static str,
    tokens: f64,
    /// Settings of the peer.
    peer: &'static [&'static str],
    /// Settings of Parlor, with what each sets.
    own: &'static [(&'static str, &'static [&'static str])],
    set: &'static [&'static str],
}

const SMALL: &[&str] = &[
    "training.from_scratch.vocab_size=8192",
    "training.from_scratch.per_device_train_batch_size=8",
    "training.from_scratch.architecture.hidden_size=384",
    "training.from_scratch.architecture.intermediate_size=1024",
    "training.from_scratch.architecture.num_hidden_layers=6",
    "training.from_scratch.architecture.num_attention_heads=6",
    "training.from_scratch.architecture.num_key_value_heads=2",
    "training.training_type=from_scratch",
    "data.train_data_path=texts.jsonl",
    "data.max_length=256",
    "model.max_length=256",
];

const WORKS: &[Work] = &[
    Work {
        name: "s_full",
        tokens: 2048.0,
        peer: &["f32", "bf16", "compiled"],
        own: &[("f32", &[]), ("bf16", &["training.bf16=true"])],
        set: SMALL,
    },
    Work {
        name: "m_lora",
        tokens: 512.0,
        peer: &["f32", "bf16"],
        own: &[("bf16", &["training.bf16=true"])],
        set: &[
            "model.name=large",
            "model.max_length=512",
            "training.training_type=lora",
            "training.lora.r=16",
            "training.lora.target_modules=[q_proj, k_proj, v_proj, o_proj]",
            "training.lora.lora_dropout=0",
            "training.lora.per_device_train_batch_size=1",
            "data.train_data_path=long.jsonl",
            "data.max_length=512",
        ],
    },
    Work {
        name: "m_full",
        tokens: 512.0,
        peer: &["f32", "bf16"],
        own: &[
            ("bf16", &["training.bf16=true"]),
            ("bf16 weights", &["training.pure_bf16=true", "training.optimizer=adamw_8bit"]),
        ],
        set: &[
            "model.name=large",
            "model.max_length=512",
            "training.training_type=sft",
            "training.lora.enabled=false",
            "training.sft.per_device_train_batch_size=1",
            "data.train_data_path=long.jsonl",
            "data.max_length=512",
        ],
    },
    Work {
        name: "s_dpo",
        tokens: 2048.0,
        peer: &["f32", "bf16"],
        own: &[("f32", &[]), ("bf16", &["training.bf16=true"])],
        set: &[
            "model.name=small",
            "model.max_length=256",
            "training.training_type=dpo",
            "training.lora.enabled=false",
            "training.dpo.per_device_train_batch_size=4",
            "training.dpo.max_length=256",
            "data.train_data_path=pairs.jsonl",
            "data.max_length=256",
        ],
    },
];

/// Measures; `python` is the peer's, `rounds` how often each side is run, `only` a work's name.
pub(crate) fn run(python: &str, rounds: usize, only: Option<&str>) -> anyhow::Result<()> {
    cargo(&["build", "--release", "--package", "parlor"])?;
    let scratch = target_dir().join("bench-train");
    std::fs::create_dir_all(&scratch)?;
    write_data(&scratch)?;
    let mut table = String::from("| work | setting | tokens/s | memory |\n|---|---|---|---|\n");
    for work in WORKS.iter().filter(|work| only.is_none_or(|only| only == work.name)) {
        make_models(&scratch, python, work)?;
        let mut found: Vec<(String, Vec<f64>, Vec<f64>)> = Vec::new();
        let mut add = |name: String, (seconds, bytes): (f64, f64)| {
            let line = json!({"work": work.name, "side": name, "tokens_per_second": work.tokens / seconds, "peak_bytes": bytes});
            println!("{line}");
            match found.iter_mut().find(|(known, ..)| *known == name) {
                Some((_, speeds, peaks)) => {
                    speeds.push(work.tokens / seconds);
                    peaks.push(bytes);
                }
                None => found.push((name, vec![work.tokens / seconds], vec![bytes])),
            }
        };
        for _ in 0..rounds {
            for (setting, set) in work.own {
                add(format!("Parlor {setting}"), parlor(&scratch, work, set)?);
            }
            for setting in work.peer {
                // `torch.compile` needs a C++ compiler that it accepts; without one that setting is left out.
                match peer(&scratch, python, work.name, setting) {
                    Ok(measured) => add(format!("PyTorch {setting}"), measured),
                    Err(error) if *setting == "compiled" => eprintln!("left out: {error:#}"),
                    Err(error) => return Err(error),
                }
            }
        }
        for (name, speeds, peaks) in &mut found {
            writeln!(
                table,
                "| {} | {name} | {:.0} | {:.2} GB |",
                work.name,
                median(speeds),
                median(peaks) / 1e9
            )?;
        }
        let best = |side: &str| {
            found
                .iter()
                .filter(|(name, ..)| name.starts_with(side))
                .max_by(|a, b| median(&mut a.1.clone()).total_cmp(&median(&mut b.1.clone())))
        };
        if let (Some(own), Some(peer)) = (best("Parlor"), best("PyTorch")) {
            writeln!(
                table,
                "| {} | ratio of the best | {:.2} | {:.2} |",
                work.name,
                median(&mut own.1.clone()) / median(&mut peer.1.clone()),
                median(&mut own.2.clone()) / median(&mut peer.2.clone())
            )?;
        }
    }
    println!("\n{table}");
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Seconds of a step and bytes at the peak, of the released program.
fn parlor(scratch: &Path, work: &Work, set: &[&str]) -> anyhow::Result<(f64, f64)> {
    let mut arguments = vec!["train".to_owned(), "--json".to_owned(), "--overwrite".to_owned()];
    arguments.push(format!("--max-steps={STEPS}"));
    let section = match work.name {
        "s_full" => "from_scratch",
        "m_full" => "sft",
        name => &name[2..],
    };
    let common = [
        "training.output_dir=out".to_owned(),
        "monitoring.mlflow.enabled=false".to_owned(),
        format!("training.{section}.logging_steps=1"),
        format!("training.{section}.save_steps=0"),
        format!("data.eval_data_path={}", if work.name == "s_dpo" { "one_pair.jsonl" } else { "one.jsonl" }),
        format!("training.{section}.eval_steps=1000000"),
    ];
    for setting in work.set.iter().chain(set).map(|set| (*set).to_owned()).chain(common) {
        arguments.extend(["--set".to_owned(), setting]);
    }
    let summary = said(&target_dir().join("release/parlor"), scratch, &arguments)?;
    let summary: Value = serde_json::from_str(&summary)?;
    let rows = std::fs::read_to_string(scratch.join("out/metrics.jsonl"))?;
    let mut seconds = Vec::new();
    let mut before = 0.0;
    for line in rows.lines() {
        let row: Value = serde_json::from_str(line)?;
        let (Some(tokens), Some(speed)) = (row["tokens"].as_f64(), row["tokens_per_second"].as_f64()) else {
            continue;
        };
        seconds.push((tokens - before) / speed);
        before = tokens;
    }
    let peak = summary["peak_memory_bytes"].as_f64().context("no peak")?;
    Ok((median(seconds.get_mut(2..).context("too few steps")?), peak))
}

fn peer(scratch: &Path, python: &str, work: &str, setting: &str) -> anyhow::Result<(f64, f64)> {
    let script = root().join("xtask/bench/peer_train.py").display().to_string();
    let arguments = [script, work.to_owned(), setting.to_owned(), STEPS.to_string()];
    let measured: Value = serde_json::from_str(said(Path::new(python), scratch, &arguments)?.trim())?;
    let number = |key: &str| measured[key].as_f64().with_context(|| format!("no {key}"));
    Ok((number("step_seconds")?, number("peak_bytes")?))
}

/// What a program prints on stdout.
fn said(program: &Path, directory: &Path, arguments: &[String]) -> anyhow::Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory).env("OMP_NUM_THREADS", "2");
    let output = command.output().with_context(|| format!("cannot start {}", program.display()))?;
    if !output.status.success() {
        bail!("{} {arguments:?}:\n{}", program.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Rows of made-up words, long enough to fill every example.
fn write_data(scratch: &Path) -> anyhow::Result<()> {
    let mut state = 1u64;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut letters =
        |count: u64| -> String { (0..count).map(|_| (b'a' + next(26) as u8) as char).collect() };
    let words: Vec<String> = (0..9000).map(|index| letters(3 + index % 7)).collect();
    let mut text = |count: usize| -> String {
        (0..count).map(|_| words[next(words.len() as u64) as usize].as_str()).collect::<Vec<_>>().join(" ")
    };
    let rows = |count: usize, row: &mut dyn FnMut() -> Value| -> String {
        (0..count).map(|_| format!("{}\n", row())).collect()
    };
    std::fs::write(scratch.join("texts.jsonl"), rows(400, &mut || json!({"text": text(600)})))?;
    std::fs::write(scratch.join("one.jsonl"), rows(1, &mut || json!({"text": text(20)})))?;
    let talk = |user: String, answer: String| json!({"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]});
    std::fs::write(scratch.join("long.jsonl"), rows(64, &mut || talk(text(4), text(700))))?;
    // A word is about 2.7 tokens: a prompt of 128 of them, and answers that fill the rest of 256.
    let pair = &mut || json!({"prompt": text(44), "chosen": text(70), "rejected": text(70)});
    std::fs::write(scratch.join("pairs.jsonl"), rows(64, pair))?;
    std::fs::write(scratch.join("one_pair.jsonl"), rows(1, pair))?;
    Ok(())
}

/// The models that a work begins with, made when they are not there.
fn make_models(scratch: &Path, python: &str, work: &Work) -> anyhow::Result<()> {
    let program = target_dir().join("release/parlor");
    if work.name != "s_full" && !scratch.join("small/config.json").is_file() {
        let mut arguments: Vec<String> =
            ["train", "--max-steps=1", "--overwrite"].iter().map(|text| (*text).to_owned()).collect();
        for setting in SMALL.iter().chain(&[
            "training.output_dir=small",
            "monitoring.mlflow.enabled=false",
            "data.eval_data_path=one.jsonl",
        ]) {
            arguments.extend(["--set".to_owned(), (*setting).to_owned()]);
        }
        said(&program, scratch, &arguments)?;
    }
    let large: PathBuf = scratch.join("large");
    if work.name.starts_with("m_") && !large.join("tokenizer.json").is_file() {
        let script = root().join("xtask/bench/peer_train.py").display().to_string();
        let arguments = [script, "make_model".to_owned(), large.display().to_string()];
        said(Path::new(python), scratch, &arguments)?;
        for name in
            ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"]
        {
            std::fs::copy(scratch.join("small").join(name), large.join(name))?;
        }
    }
    Ok(())
}
