//! Ten steps of training against `transformers` and `torch.optim.AdamW` (`fixtures/models/*/training.json`).

use std::path::{Path, PathBuf};

use parlor_model::{LoadOptions, load_directory};
use parlor_train::config::SchedulerName;
use safetensors::SafeTensors;
use serde::Deserialize;

use crate::tiny::{self, LoopTest};

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// `training.json`.
#[derive(Deserialize)]
struct Expected {
    learning_rate: f64,
    weight_decay: f64,
    max_grad_norm: f64,
    losses: Vec<f64>,
    grad_norms: Vec<f64>,
}

/// `meta.json`: the reference's own relative error in f32, against f64.
#[derive(Deserialize)]
struct Meta {
    gradients: f64,
}

fn examples(directory: &Path) -> Vec<parlor_text::Example> {
    let bytes = std::fs::read(directory.join("expected.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let integers = |name: &str| -> Vec<i64> {
        let data = tensors.tensor(name).unwrap().data().to_vec();
        data.chunks_exact(8).map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap())).collect()
    };
    let weights: Vec<f32> = tensors
        .tensor("loss_weights")
        .unwrap()
        .data()
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    let ids: Vec<u32> = integers("ids").into_iter().map(|id| id as u32).collect();
    let mut start = 0;
    let mut examples = Vec::new();
    for length in integers("segment_lengths") {
        let rows = start..start + length as usize;
        examples.push(tiny::example(ids[rows.clone()].to_vec(), weights[rows].to_vec(), examples.len()));
        start += length as usize;
    }
    examples
}

/// Ten losses and gradient norms of one checkpoint, its segments `batch_size` at a time.
fn check(directory: &Path, batch_size: usize) {
    let read = |name: &str| std::fs::read(directory.join(name)).unwrap();
    let expected: Expected = serde_json::from_slice(&read("training.json")).unwrap();
    let meta: Meta = serde_json::from_slice(&read("meta.json")).unwrap();
    let mut decoder = load_directory(directory, &LoadOptions::for_training()).unwrap().decoder;
    let output = tempfile::tempdir().unwrap();
    let mut run = LoopTest::new(output.path());
    run.train = examples(directory);
    run.training.lr_scheduler_type = SchedulerName::Constant;
    run.hyper.per_device_train_batch_size = batch_size;
    run.hyper.gradient_accumulation_steps = run.train.len().div_ceil(batch_size);
    run.hyper.max_steps = expected.losses.len() as i64;
    run.hyper.learning_rate = expected.learning_rate;
    run.hyper.weight_decay = expected.weight_decay;
    run.hyper.max_grad_norm = expected.max_grad_norm;
    let (finished, rows, _) = run.go(&mut decoder);
    finished.unwrap();
    // Adam divides by the root of the second moment, so a gradient near zero passes its relative error on whole.
    let tolerance = (20.0 * meta.gradients).max(2e-5);
    assert_eq!(rows.len(), expected.losses.len());
    for (row, (loss, norm)) in rows.iter().zip(expected.losses.iter().zip(&expected.grad_norms)) {
        for (key, expected) in [("loss", loss), ("grad_norm", norm)] {
            let found = row[key].as_f64().unwrap();
            let error = (found - expected).abs() / expected;
            let (step, place) = (&row["step"], directory.display());
            assert!(error < tolerance, "{place} step {step}: {key} {found}, expected {expected}: {error:e}");
        }
    }
}

#[test]
fn ten_losses_of_every_architecture_match_transformers() {
    let mut seen = 0;
    for entry in std::fs::read_dir(fixtures().join("models")).unwrap() {
        let directory = entry.unwrap().path();
        if directory.join("training.json").exists() {
            check(&directory, 8);
            check(&directory, 1);
            seen += 1;
        }
    }
    assert!(seen >= 6, "only {seen} fixtures were found");
}
