//! `parlor plan`: what it forecasts is what a run then takes; a run that does not fit is refused with what would help.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::program::{command, ended, keys, parlor, thorough};
use crate::tiny::workplace;

/// Large enough that the model, and not the program, takes the memory.
const CONFIG: &str = r#"
training:
  training_type: from_scratch
  output_dir: out
  from_scratch:
    architecture:
      hidden_size: 512
      intermediate_size: 1280
      num_hidden_layers: 4
      num_attention_heads: 8
      num_key_value_heads: 2
      max_position_embeddings: 256
    vocab_size: 2000
    per_device_train_batch_size: 12
    save_steps: 0
  sft: {per_device_train_batch_size: 8, save_steps: 0}
  lora: {per_device_train_batch_size: 8, save_steps: 0}
  dpo: {per_device_train_batch_size: 4, save_steps: 0}
model: {max_length: 256}
data: {eval_data_path: eval.jsonl, max_length: 256}
monitoring: {mlflow: {enabled: false}}
"#;

fn datasets(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets").join(name);
    format!("data.train_data_path={}", path.canonicalize().unwrap().display())
}

/// What the plan says and what the run took, in bytes.
fn check(directory: &Path, name: &str, settings: &[&str]) {
    let chat = datasets("chat");
    let mut args = vec!["--max-steps", "2", "--json", "--set", &chat];
    settings.iter().for_each(|setting| args.extend(["--set", *setting]));
    let run = |verb: &[&str]| ended(&mut command(directory, &[verb, &args].concat())).ok().json();
    let plan = run(&["plan"]);
    let memory = &plan["memory"];
    let parts: u64 = memory
        .as_object()
        .unwrap()
        .iter()
        .filter(|(key, _)| !["total", "available"].contains(&key.as_str()))
        .map(|(_, bytes)| bytes.as_u64().unwrap())
        .sum();
    let total = memory["total"].as_u64().unwrap();
    assert_eq!(parts, total, "{name}: {memory}");
    assert_eq!((plan["fits"].as_bool(), plan["steps"].as_u64()), (Some(true), Some(2)));
    let summary = run(&["train", "--overwrite"]);
    check_time(name, &plan, &directory.join("out"));
    let measured = summary["peak_memory_bytes"].as_u64().unwrap();
    let ratio = total as f64 / measured as f64;
    assert!((0.9..=1.1).contains(&ratio), "{name}: {total} forecast, {measured} measured; {memory}");
}

/// Most that the estimate and the measured time of the steps may differ by. The estimate comes from half a second of a
/// smaller model, and both are wall-clock times: on a quiet machine they agree within a factor of 2, and other processes
/// may slow either one several times. A factor of 10 still catches a wrong unit, a count of blocks, steps or tokens that
/// is missing, and an estimate of nothing.
const TIME_FACTOR: f64 = 10.0;

/// Compares the plan's estimate with the second of the two steps, which is free of warm-up.
fn check_time(name: &str, plan: &Value, output: &Path) {
    let text = std::fs::read_to_string(output.join("metrics.jsonl")).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let steps: Vec<&Value> = rows.iter().filter(|row| !row["loss"].is_null()).collect();
    let [first, second] = steps[..] else { panic!("{name}: {steps:?}") };
    let number = |row: &Value, key: &str| row[key].as_f64().unwrap();
    let tokens = number(second, "tokens") - number(first, "tokens");
    let measured = 2.0 * tokens / number(second, "tokens_per_second");
    let estimate = plan["seconds_estimate"].as_f64().unwrap();
    let ratio = estimate / measured;
    assert!(
        (1.0 / TIME_FACTOR..=TIME_FACTOR).contains(&ratio),
        "{name}: {estimate} s estimated, {measured} s measured"
    );
}

/// All cases, or every third one unless the tests are to be thorough.
fn cases<'a>(all: &'a [Case<'a>]) -> impl Iterator<Item = &'a Case<'a>> {
    all.iter().step_by(if thorough() { 1 } else { 3 })
}

/// A name, and settings.
type Case<'a> = (&'a str, &'a [&'a str]);

fn prepared() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config.yaml"), CONFIG).unwrap();
    std::fs::write(directory.path().join("eval.jsonl"), "{\"text\": \"One row to evaluate on.\"}\n").unwrap();
    directory
}

/// Within 10% of the measured peak. The test's own heap settings are the system's.
#[test]
fn forecasts_of_new_models_are_what_runs_take() {
    let directory = prepared();
    let section = "training.from_scratch";
    let all: &[Case] = &[
        ("as it is", &[]),
        ("small passes", &["per_device_train_batch_size=3"]),
        ("accumulation", &["gradient_accumulation_steps=2", "per_device_train_batch_size=6"]),
        ("recomputed activations", &["training.gradient_checkpointing=full"]),
        ("every second block", &["training.gradient_checkpointing=every_2"]),
        ("8-bit moments", &["training.optimizer=adamw_8bit"]),
        ("no state", &["training.optimizer=sgd"]),
        ("muon", &["training.optimizer=muon"]),
        ("bf16", &["training.bf16=true"]),
        ("bf16 weights", &["training.pure_bf16=true", "training.optimizer=adamw_8bit"]),
        ("a larger vocabulary", &["vocab_size=4000"]),
        ("wide", &["architecture.intermediate_size=2560", "architecture.num_hidden_layers=2"]),
    ];
    for (name, settings) in cases(all) {
        let settings: Vec<String> = settings
            .iter()
            .map(|setting| match setting.starts_with("training.") {
                true => (*setting).to_owned(),
                false => format!("{section}.{setting}"),
            })
            .collect();
        check(directory.path(), name, &settings.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

#[test]
fn forecasts_of_fine_tuning_are_what_runs_take() {
    let directory = prepared();
    let chat = datasets("chat");
    let base = ["train", "--max-steps", "1", "--set", &chat, "--set", "training.output_dir=base"];
    parlor(directory.path(), &base).ok();
    let preferences = datasets("preferences");
    let held_out = datasets("preferences_eval").replace("train_data_path", "eval_data_path");
    let all: &[Case] = &[
        ("lora", &["training.training_type=lora"]),
        ("dora", &["training.training_type=lora", "training.lora.use_dora=true", "training.lora.r=64"]),
        ("qlora", &["training.training_type=lora", "model.load_in_8bit=true"]),
        ("sft, all weights", &["training.training_type=sft", "training.lora.enabled=false"]),
        ("dpo", &["training.training_type=dpo", &preferences, &held_out]),
    ];
    for (name, settings) in cases(all) {
        check(directory.path(), name, &[&["model.name=base"], *settings].concat());
    }
}

#[test]
fn the_plan_has_the_keys_of_the_contract() {
    let directory = workplace();
    let plan = parlor(directory.path(), &["plan", "--json"]).ok().json();
    for key in ["device", "dtype", "memory", "tokens_per_epoch", "steps", "seconds_estimate"] {
        assert!(!plan[key].is_null(), "{key}");
    }
    let memory = keys(&plan["memory"]);
    for key in
        ["weights", "gradients", "optimizer", "activations", "logits", "adapters", "total", "available"]
    {
        assert!(memory.contains(&key), "{key}");
    }
    assert!(!directory.path().join("out").exists(), "a plan leaves nothing behind");
    let text = parlor(directory.path(), &["plan"]).ok().stdout;
    for words in ["memory", "optimizer", "in all", "steps", "about"] {
        assert!(text.contains(words), "{text}");
    }
}

/// Runs the program under the shell's limit of address space, which counts as memory that is there.
fn limited(directory: &Path, kib: u64, args: &[&str]) -> Command {
    let direct = command(directory, args);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -v {kib}; exec \"$0\" \"$@\"")]).arg(direct.get_program());
    command.args(args).current_dir(directory).env_clear().env("RAYON_NUM_THREADS", "1");
    // Else each thread sets addresses aside for a heap of its own, and how many there are differs.
    command.env("MALLOC_ARENA_MAX", "1");
    command
}

#[test]
fn a_run_that_does_not_fit_is_refused_with_what_would_help_and_fit_takes_it() {
    let directory = prepared();
    let chat = datasets("chat");
    let args =
        ["--max-steps", "1", "--set", &chat, "--set", "training.from_scratch.per_device_train_batch_size=64"];
    let plan = |kib: u64, more: &[&str]| {
        ended(&mut limited(directory.path(), kib, &[&["plan", "--json"], more, &args].concat())).ok().json()
    };
    let ample: u64 = 4 << 30;
    let whole = plan(ample >> 10, &[]);
    assert_eq!(whole["fits"], true, "{whole}");
    let bytes = |key: &str| whole["memory"][key].as_u64().unwrap();
    // Less than it needs by half of its activations; addresses that were only set aside are not to be had.
    let most = bytes("total") - bytes("activations") / 2;
    let limit = (most + ample - bytes("available")) >> 10;
    let tight = plan(limit, &[]);
    assert_eq!(tight["fits"], false, "{tight}");
    let fixes = tight["fixes"].as_array().unwrap();
    assert!((1..=3).contains(&fixes.len()), "{fixes:?}");
    for fix in fixes {
        assert!(fix["memory"]["total"].as_u64().unwrap() <= most, "{fix}");
    }
    // Smaller passes are the cheapest.
    assert_eq!(fixes[0]["changes"][0]["key"], "training.from_scratch.per_device_train_batch_size");
    let train: Vec<&str> = [&["train"][..], &args].concat();
    let refused = ended(&mut limited(directory.path(), limit, &train)).refused(&[
        "the run needs",
        "per_device_train_batch_size=",
        "gradient_checkpointing=full",
        "`--fit` takes the first",
    ]);
    assert!(!refused.stderr.contains("panicked"));
    assert!(!directory.path().join("out/run.json").exists());
    let fitted = plan(limit, &["--fit"]);
    assert_eq!(fitted["fits"], true, "{fitted}");
}
