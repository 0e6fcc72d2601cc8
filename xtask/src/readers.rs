//! Files that Parlor wrote, read by the programs they are meant for, from a git-ignored virtual environment that
//! this step makes itself.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use crate::process::{root, run, target_dir};
use crate::python::environment;

/// Text that exercises a tokenizer; `check_model.py` holds the same.
const TEXT: &str = "Hello, Parlor! 12345 naïve café ☕ \n\n\ttabs";
const MESSAGES: &str = r#"[{"role": "system", "content": "Be brief."},
 {"role": "user", "content": "What is Parlor?"}, {"role": "assistant", "content": "One program."},
 {"role": "user", "content": "Thanks & bye <3"}, {"role": "assistant", "content": "Goodbye!"}]"#;
/// A model small enough to be made in a second.
const TRAINING: &[&str] = &[
    "training.training_type=from_scratch",
    "training.from_scratch.size=nano",
    "training.from_scratch.vocab_size=600",
    "training.from_scratch.logging_steps=1",
    "monitoring.mlflow.enabled=true",
];

/// Adapters to train, and what each is besides.
const ADAPTERS: &[(&str, &[&str])] = &[
    ("lora", &[]),
    (
        "dora",
        &[
            "training.lora.use_dora=true",
            "training.lora.use_rslora=true",
            "training.lora.target_modules=all-linear",
            "training.lora.modules_to_save=[norm]",
        ],
    ),
];

/// What the released program prints on stdout.
fn parlor(directory: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let program = target_dir().join("release/parlor");
    let output = Command::new(&program)
        .args(arguments)
        .current_dir(directory)
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    if !output.status.success() {
        bail!(
            "parlor {arguments:?} ended with {}:\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Trains a model of a few steps and has every reader look at what it left.
pub(crate) fn run_all() -> anyhow::Result<()> {
    let python = environment(".venv", "requirements.txt")?.display().to_string();
    crate::process::cargo(&["build", "--release", "--package", "parlor"])?;
    let scratch = target_dir().join("readers");
    if scratch.exists() {
        std::fs::remove_dir_all(&scratch)?;
    }
    std::fs::create_dir_all(&scratch)?;
    let data = root().join("datasets/chat").display().to_string();
    let (output, store) = (scratch.join("model"), scratch.join("mlruns"));
    let paths = [
        format!("data.train_data_path={data}"),
        format!("training.output_dir={}", output.display()),
        format!("monitoring.mlflow.tracking_uri={}", store.display()),
    ];
    let mut arguments = vec!["train", "--max-steps", "3"];
    for setting in TRAINING.iter().copied().chain(paths.iter().map(String::as_str)) {
        arguments.extend(["--set", setting]);
    }
    parlor(&scratch, &arguments)?;

    let model = output.display().to_string();
    let files = ["tokenize.json", "render.json", "messages.json"].map(|name| scratch.join(name));
    std::fs::write(&files[2], MESSAGES)?;
    let [tokenized, rendered, messages] = files.map(|file| file.display().to_string());
    std::fs::write(&tokenized, parlor(&scratch, &["tokenize", "-m", &model, "--json", TEXT])?)?;
    std::fs::write(
        &rendered,
        parlor(&scratch, &["render", "-m", &model, "--json", "--messages", &messages])?,
    )?;
    let script = |name: &str| root().join("xtask/readers").join(name).display().to_string();
    run(&python, &[&script("check_model.py"), &model, &tokenized, &rendered, &messages])?;
    check_adapters(&python, &scratch, &model, &data)?;
    check_templates(&python, &script)?;
    let metrics = output.join("metrics.jsonl").display().to_string();
    run(&python, &[&script("check_mlflow.py"), &store.display().to_string(), &metrics])
}

/// Renders TRL's chat templates and the small ones of the fixtures, and compares with transformers and TRL.
fn check_templates(python: &str, script: &dyn Fn(&str) -> String) -> anyhow::Result<()> {
    crate::process::cargo(&["build", "--release", "--package", "parlor-text", "--example", "render_cases"])?;
    let renderer = target_dir().join("release/examples/render_cases").display().to_string();
    run(python, &[&script("check_templates.py"), &renderer])?;
    run(python, &[&script("check_masks.py"), &renderer])
}

/// Trains adapters beside `model` and compares with PEFT, both ways.
fn check_adapters(python: &str, scratch: &Path, model: &str, data: &str) -> anyhow::Result<()> {
    let mut adapters = Vec::new();
    for (name, more) in ADAPTERS {
        let output = scratch.join(name).display().to_string();
        let settings = [
            format!("model.name={model}"),
            format!("data.train_data_path={data}"),
            format!("training.output_dir={output}"),
            "data.max_length=128".to_owned(),
            "training.training_type=lora".to_owned(),
            // Far enough for the adapter to show.
            "training.lora.learning_rate=0.05".to_owned(),
            "monitoring.mlflow.enabled=false".to_owned(),
        ];
        let mut arguments = vec!["train", "--max-steps", "3"];
        for setting in settings.iter().map(String::as_str).chain(more.iter().copied()) {
            arguments.extend(["--set", setting]);
        }
        parlor(scratch, &arguments)?;
        adapters.push(output);
    }
    let script = root().join("xtask/readers/check_adapter.py").display().to_string();
    let program = target_dir().join("release/parlor").display().to_string();
    let made = scratch.join("adapters").display().to_string();
    let mut arguments = vec![script.as_str(), &program, model, &made];
    arguments.extend(adapters.iter().map(String::as_str));
    run(python, &arguments)
}

/// Writes the fixtures anew.
pub(crate) fn make_fixtures() -> anyhow::Result<()> {
    let python = environment(".venv-fixtures", "fixtures.txt")?.display().to_string();
    run(&python, &["fixtures/make.py"])
}
