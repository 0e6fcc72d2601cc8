//! Writes a small MLflow store for `tests/readers/mlflow_read.py`: `DIR/mlruns`, and `DIR/expected.json` with what
//! `mlflow` should find in it. Half of the run is written, then it is resumed, as after a kill.
//!
//! `cargo run -p parlor-track --example write_store -- DIR`

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use parlor_track::{Clock, MlflowConfig, MonitoringConfig, Row, Run, RunInfo, RunStart, RunStatus};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = PathBuf::from(std::env::args().nth(1).ok_or("usage: write_store DIR")?);
    std::fs::create_dir_all(&directory)?;
    // The URI form, so that its escapes are read by both sides.
    let mlruns = std::path::absolute(directory.join("ml runs"))?;
    let tracking_uri = format!("file://{}", mlruns.to_string_lossy().replace(' ', "%20"));
    let config = MonitoringConfig {
        mlflow: MlflowConfig {
            tracking_uri,
            experiment_name: "yes: 0x10".to_owned(),
            run_name: Some("2026-11-23".to_owned()),
            ..MlflowConfig::default()
        },
        ..MonitoringConfig::default()
    };

    let mut info = RunInfo {
        command: Some("parlor train".to_owned()),
        user: Some("on".to_owned()),
        versions: [("parlor".to_owned(), "0.1.0".to_owned())].into(),
        seeds: [("training.seed".to_owned(), 42)].into(),
        data_sha256: [("./data/train/a b.jsonl".to_owned(), "ab".repeat(32))].into(),
        template_sha256: Some("cd".repeat(32)),
        ..RunInfo::default()
    };
    info.add_params(
        "training",
        &json!({"learning_rate": 5e-5, "lora": {"r": 16, "target_modules": ["q_proj"]}}),
    );
    info.add_params("note", &json!("two\nlines, ünïcode"));
    info.add_params("long", &json!("x".repeat(7000)));

    let ticks = Arc::new(AtomicI64::new(1_795_000_000_000));
    let clock = Clock::new(move || {
        Timestamp::from_millisecond(ticks.fetch_add(1000, Ordering::SeqCst)).unwrap_or(Timestamp::UNIX_EPOCH)
    });
    let output_dir = directory.join("out");
    let start = |resume_from| RunStart {
        resume_from,
        run_id: Some("0123456789abcdef0123456789abcdef".to_owned()),
        clock: clock.clone(),
        ..RunStart::new(&output_dir, info.clone())
    };

    let mut run = Run::start(&config, start(None))?;
    for step in 1..=6 {
        run.log(&row(step))?;
    }
    drop(run);
    let mut run = Run::start(&config, start(Some(4)))?;
    for step in 5..=8 {
        run.log(&row(step))?;
    }
    run.log(&Row::new(8).with("eval_loss", 1.5).with("odd", f64::NAN).with("high", f64::INFINITY))?;
    let note = directory.join("note.txt");
    std::fs::write(&note, "a small file\n")?;
    run.artifact(&note);
    run.finish(RunStatus::Finished, None)?;

    std::fs::write(directory.join("expected.json"), serde_json::to_string_pretty(&expected())?)?;
    Ok(())
}

fn row(step: u64) -> Row {
    Row::new(step)
        .with("epoch", step as f64 / 8.0)
        .with("loss", 4.0 / step as f64)
        .with("learning_rate", 1e-7 * step as f64)
        .with("tokens", step * 1024)
        .with("rewards/chosen", -0.25)
        .with("odd key?", 1.0)
}

fn expected() -> Value {
    let history = |value: &dyn Fn(f64) -> f64| -> Vec<Value> {
        (1..=8).map(|step| json!([step, value(f64::from(step))])).collect()
    };
    json!({
        "tracking_dir": "ml runs",
        "experiment": "yes: 0x10",
        "run_id": "0123456789abcdef0123456789abcdef",
        "run_name": "2026-11-23",
        "status": "FINISHED",
        "params": {
            "training.learning_rate": "5e-5",
            "training.lora.r": "16",
            "training.lora.target_modules": "[\"q_proj\"]",
            "note": "two\nlines, ünïcode",
            "long": format!("{}...", "x".repeat(5997)),
        },
        "tags": {
            "mlflow.runName": "2026-11-23",
            "mlflow.user": "on",
            "mlflow.source.type": "LOCAL",
            "mlflow.source.name": "parlor train",
            "version.parlor": "0.1.0",
            "data_sha256/data/train/a b.jsonl": "ab".repeat(32),
            "template_sha256": "cd".repeat(32),
        },
        "metrics": {
            "epoch": history(&|step| step / 8.0),
            "loss": history(&|step| 4.0 / step),
            "learning_rate": history(&|step| 1e-7 * step),
            "tokens": history(&|step| step * 1024.0),
            "rewards/chosen": history(&|_| -0.25),
            "odd key_": history(&|_| 1.0),
            "eval_loss": [[8, 1.5]],
            "odd": [[8, "nan"]],
            "high": [[8, "inf"]],
        },
        "artifacts": ["loss.svg", "note.txt", "run.json"],
    })
}
