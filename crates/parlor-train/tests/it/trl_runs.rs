//! Whole runs on judged answers against those of TRL's trainers: from the same rows, in the same order, the same numbers
//! at every step.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use parlor_model::{AdapterChoice, LoadOptions, ModelConfig, ModelManager, Saved, load_adapter};
use parlor_text::epoch_order;
use parlor_train::config::{DpoLoss, SchedulerName, TrainingType};
use parlor_train::distributed::Alone;
use parlor_train::identity::Identity;
use parlor_train::objectives::{Preference, Prompted};
use parlor_train::{Examples, Flow, Job, Objective, TrainRequest, Work, prepare, train};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::run::{Desk, metrics, run};
use crate::tiny::Rows;

#[derive(Deserialize)]
struct Fixture {
    model: String,
    order: Vec<usize>,
    settings: Map<String, Value>,
    pairs: Vec<Value>,
    singles: Vec<Value>,
    runs: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    loss_type: DpoLoss,
    lora: bool,
    learning_rate: f64,
    steps: Vec<Map<String, Value>>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn read() -> Fixture {
    serde_json::from_slice(&std::fs::read(fixtures().join("trl/runs.json")).unwrap()).unwrap()
}

/// A desk with the fixture's rows, and the request for one of its runs.
fn request(fixture: &Fixture, expected: &Expected, desk: &Desk) -> TrainRequest {
    let number = |name: &str| fixture.settings[name].as_f64().unwrap();
    let rows = if expected.loss_type == DpoLoss::Kto { &fixture.singles } else { &fixture.pairs };
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    std::fs::write(desk.path("judged.jsonl"), text).unwrap();
    let mut request = desk.request("out");
    request.model.name = fixtures().join("models").join(&fixture.model).to_string_lossy().into_owned();
    request.data.train_data_path = desk.path("judged.jsonl").to_string_lossy().into_owned();
    request.data.eval_data_path = "no/such/file".to_owned();
    request.data.max_length = 512;
    let training = &mut request.training;
    training.training_type = TrainingType::Dpo;
    training.lora.enabled = false;
    training.seed = number("seed") as u64;
    assert_eq!(fixture.settings["lr_scheduler_type"], "linear");
    training.lr_scheduler_type = SchedulerName::Linear;
    let dpo = &mut training.dpo;
    dpo.loss_type = expected.loss_type;
    dpo.learning_rate = expected.learning_rate;
    dpo.beta = number("beta");
    dpo.max_length = Some(number("max_length") as usize);
    dpo.undesirable_weight = number("undesirable_weight");
    dpo.max_steps = number("max_steps") as i64;
    dpo.per_device_train_batch_size = number("per_device_train_batch_size") as usize;
    dpo.gradient_accumulation_steps = number("gradient_accumulation_steps") as usize;
    dpo.weight_decay = number("weight_decay");
    dpo.max_grad_norm = number("max_grad_norm");
    dpo.warmup_steps = number("warmup_steps") as u64;
    dpo.logging_steps = 1;
    request
}

/// Sums of dozens of log-probabilities, each with f32's rounding, and steps of AdamW, which enlarge that of small gradients;
/// of numbers of the size of 1 and, below it, of 1.
const CLOSE: f64 = 2e-4;

fn check(name: &str, found: &[Map<String, Value>], expected: &Expected) {
    assert_eq!(found.len(), expected.steps.len());
    let mut compared = 0;
    for (step, (found, wanted)) in found.iter().zip(&expected.steps).enumerate() {
        for (metric, wanted) in wanted {
            let wanted = wanted.as_f64().unwrap();
            let found = found.get(metric).and_then(Value::as_f64);
            let found = found.unwrap_or_else(|| panic!("{name}, step {step}: no {metric}"));
            let apart = (found - wanted).abs() / wanted.abs().max(1.0);
            assert!(apart < CLOSE, "{name}, step {step}, {metric}: {found}, expected {wanted}");
            compared += 1;
        }
    }
    assert!(compared > 5 * 6, "{name}: {compared}");
}

#[test]
fn runs_of_all_weights_are_those_of_trl() {
    let fixture = read();
    assert_eq!(epoch_order(fixture.order.len(), 42, 0), fixture.order, "ORDER in fixtures/make/trl_runs.py");
    for expected in fixture.runs.iter().filter(|run| !run.lora) {
        let name = expected.loss_type.name();
        let desk = Desk::new();
        run(request(&fixture, expected, &desk), None).0.unwrap();
        check(name, &metrics(&desk.path("out")), expected);
        if expected.loss_type == DpoLoss::Kto {
            continue;
        }
        // The same steps in passes of one pair.
        let desk = Desk::new();
        let mut request = request(&fixture, expected, &desk);
        request.training.dpo.per_device_train_batch_size = 1;
        request.training.dpo.gradient_accumulation_steps = 2;
        run(request, None).0.unwrap();
        check(name, &metrics(&desk.path("out")), expected);
    }
}

#[test]
fn runs_of_an_adapter_are_those_of_trl() {
    let fixture = read();
    for expected in fixture.runs.iter().filter(|run| run.lora) {
        let desk = Desk::new();
        let request = request(&fixture, expected, &desk);
        let (training, model) = (request.training.clone(), request.model.clone());
        let Work::Pairs(Examples { objective, mut train, .. }) =
            prepare(request).unwrap().data().work.clone()
        else {
            panic!("pairs are expected")
        };
        let rows = adapted(&model, &objective, &mut train, &training, &desk.path("out"));
        check(expected.loss_type.name(), &rows, expected);
    }
}

/// The steps of a run that begins with the fixture's adapter.
fn adapted(
    model: &ModelConfig,
    objective: &Preference,
    examples: &mut [Prompted],
    training: &parlor_train::TrainingConfig,
    output_dir: &Path,
) -> Rows {
    let manager = ModelManager::with_options(model.clone(), LoadOptions::for_training());
    let model = manager.load_model().unwrap();
    manager.unload();
    let architecture = model.architecture;
    let mut decoder = std::sync::Arc::into_inner(model).unwrap().decoder;
    let adapter = load_adapter(&mut decoder, architecture, &fixtures().join("trl/adapter")).unwrap();
    decoder.train_adapter(adapter.id);
    for example in examples.iter_mut() {
        let one: [&Prompted; 1] = [example];
        let mut micro = objective.collate(&one, &one);
        micro.batch = micro.batch.with_adapter(AdapterChoice::Base);
        let logp = decoder.evaluate(&micro.batch, &micro.targets, &mut Saved::default()).unwrap();
        let weights = &micro.targets.weights;
        example.reference =
            logp.iter().zip(weights).filter(|(_, w)| **w > 0.0).map(|(logp, _)| *logp).collect();
    }
    let mut rows = Rows::new();
    let job = Job {
        objective,
        train: examples,
        eval: &[],
        hyper: &training.hyperparameters(),
        training,
        output_dir,
        identity: &Identity::default(),
        save_model: &|_, _| Ok(()),
        collective: &Alone,
        recorder: &mut rows,
        sample: &mut |_, _, _| Ok(None),
        observer: &mut |_| Flow::Continue,
        stop: &AtomicBool::new(false),
        resume: None,
    };
    train(&mut decoder, job).unwrap();
    rows
}
