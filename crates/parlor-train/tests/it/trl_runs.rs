//! Whole runs against those of TRL's trainers: from the same rows, in the same order, the same numbers
//! at every step.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parlor_model::memory::FreeMemory;
use parlor_model::{AdapterChoice, Decoder, LoadOptions, ModelConfig, ModelManager, Workspace, load_adapter};
use parlor_text::epoch_order;
use parlor_train::checkpoint::Identity;
use parlor_train::config::{DpoLoss, TrainingType};
use parlor_train::distributed::Alone;
use parlor_train::objectives::{CompletionPair, Preference};
use parlor_train::{
    ExampleSet, ExampleSource, Examples, Flow, LoopConfig, LoopExamples, LoopHooks, Objective, Run,
    TrainRequest, TrainingConfig, train as train_loop,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::run::{Project, metrics, run};
use crate::tiny::Rows;

#[derive(Deserialize)]
struct Fixture {
    model: String,
    order: Vec<usize>,
    settings: Map<String, Value>,
    pairs: Vec<Value>,
    singles: Vec<Value>,
    conversations: Vec<Value>,
    runs: Vec<Expected>,
}

#[derive(Deserialize)]
struct Expected {
    /// A preference loss, or `sft`.
    loss_type: String,
    lora: bool,
    learning_rate: f64,
    /// Settings that differ from the fixture's.
    own: Map<String, Value>,
    steps: Vec<Map<String, Value>>,
}

impl Expected {
    /// None is fine-tuning.
    fn loss(&self) -> Option<DpoLoss> {
        (self.loss_type != "sft").then(|| serde_json::from_value(json!(self.loss_type)).unwrap())
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn read() -> Fixture {
    serde_json::from_slice(&std::fs::read(fixtures().join("trl/runs.json")).unwrap()).unwrap()
}

/// A section of the config with the settings whose names it knows; TRL's names are ours.
fn set<T: Serialize + DeserializeOwned>(section: &mut T, settings: &Map<String, Value>) {
    let Value::Object(mut values) = serde_json::to_value(&*section).unwrap() else { panic!("a map") };
    for (name, value) in settings {
        if let Some(known) = values.get_mut(name) {
            *known = value.clone();
        }
    }
    *section = serde_json::from_value(Value::Object(values)).unwrap();
}

/// A project with the fixture's rows, and the request for one of its runs.
fn request(fixture: &Fixture, expected: &Expected, project: &Project) -> TrainRequest {
    let rows = match expected.loss() {
        None => &fixture.conversations,
        Some(DpoLoss::Kto) => &fixture.singles,
        Some(_) => &fixture.pairs,
    };
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    std::fs::write(project.path("rows.jsonl"), text).unwrap();
    let mut request = project.request("out");
    request.model.name = fixtures().join("models").join(&fixture.model).to_string_lossy().into_owned();
    request.data.train_data_path = project.path("rows.jsonl").to_string_lossy().into_owned();
    request.data.eval_data_path = "no/such/file".to_owned();
    request.data.max_length = 512;
    let mut settings = fixture.settings.clone();
    settings.extend(expected.own.clone());
    settings.extend([
        ("learning_rate".to_owned(), json!(expected.learning_rate)),
        ("loss_type".to_owned(), json!(expected.loss_type)),
        ("logging_steps".to_owned(), json!(1)),
    ]);
    let training = &mut request.training;
    set(training, &settings);
    training.lora.enabled = false;
    match expected.loss() {
        None => {
            training.training_type = TrainingType::Sft;
            set(&mut training.sft, &settings);
        }
        Some(_) => {
            training.training_type = TrainingType::Dpo;
            set(&mut training.dpo, &settings);
        }
    }
    request
}

/// Sums of dozens of log-probabilities, each with f32's rounding, and steps of AdamW, which enlarge that of
/// small gradients; of numbers of the size of 1 and, below it, of 1.
const CLOSE: f64 = 2e-4;

fn check(name: &str, found: &[Map<String, Value>], expected: &Expected) {
    assert_eq!(found.len(), expected.steps.len(), "{name}");
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
    let metrics = if expected.loss().is_some() { 6 } else { 3 };
    assert!(compared >= expected.steps.len() * metrics, "{name}: {compared}");
}

#[test]
fn runs_of_all_weights_are_those_of_trl() {
    let fixture = read();
    assert_eq!(epoch_order(fixture.order.len(), 42, 0), fixture.order, "ORDER in fixtures/make/trl_runs.py");
    for expected in fixture.runs.iter().filter(|run| !run.lora) {
        let name = format!("{} {:?}", expected.loss_type, expected.own);
        let project = Project::new();
        run(request(&fixture, expected, &project), None).0.unwrap();
        check(&name, &metrics(&project.path("out")), expected);
        // The same steps in passes of one example.
        let project = Project::new();
        let mut request = request(&fixture, expected, &project);
        let passes = expected.own.get("gradient_accumulation_steps").and_then(Value::as_u64).unwrap_or(1);
        let Value::Object(halved) =
            json!({"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2 * passes})
        else {
            panic!("a map")
        };
        match expected.loss() {
            // Its passes make estimates of their own.
            Some(DpoLoss::Kto) => continue,
            Some(_) => set(&mut request.training.dpo, &halved),
            None => set(&mut request.training.sft, &halved),
        }
        run(request, None).0.unwrap();
        check(&name, &metrics(&project.path("out")), expected);
    }
}

#[test]
fn runs_of_an_adapter_are_those_of_trl() {
    let fixture = read();
    let (mut preferences, mut tuned) = (0, 0);
    for expected in fixture.runs.iter().filter(|run| run.lora) {
        let project = Project::new();
        let request = request(&fixture, expected, &project);
        let (training, model) = (request.training.clone(), request.model.clone());
        let mut decoder = adapted(&model);
        let out = project.path("out");
        let rows = match Run::prepare(request).unwrap().data().examples.clone() {
            Examples::Pairs(ExampleSet { objective, mut train, .. }) => {
                preferences += 1;
                measure(&decoder, &objective, &mut train);
                steps(&mut decoder, &objective, &train, &training, &out)
            }
            Examples::Tokens(ExampleSet { objective, train, .. }) => {
                tuned += 1;
                steps(&mut decoder, &objective, &train, &training, &out)
            }
            Examples::Unpaired(_) | Examples::Stream(_) => panic!("no such run is in the fixture"),
        };
        check(&expected.loss_type, &rows, expected);
    }
    assert_eq!((preferences, tuned), (2, 1));
}

/// The model with the fixture's adapter, which is trained.
fn adapted(model: &ModelConfig) -> Decoder {
    let manager = ModelManager::with_options(model.clone(), LoadOptions::for_training());
    let model = manager.load_model().unwrap();
    manager.unload();
    let architecture = model.architecture;
    let mut decoder = std::sync::Arc::into_inner(model).unwrap().decoder;
    let adapter = load_adapter(&mut decoder, architecture, &fixtures().join("trl/adapter")).unwrap();
    decoder.train_adapter(adapter.id);
    decoder
}

/// Writes into the examples what the model without its adapter thinks of them.
fn measure(decoder: &Decoder, objective: &Preference, examples: &mut [CompletionPair]) {
    for example in examples.iter_mut() {
        let one: [&CompletionPair; 1] = [example];
        let mut micro = objective.collate(&one, &one);
        micro.batch = micro.batch.with_adapter(AdapterChoice::Base);
        let logp = decoder.evaluate(&micro.batch, &micro.targets, &mut Workspace::default()).unwrap();
        let weights = &micro.targets.weights;
        example.reference =
            logp.iter().zip(weights).filter(|(_, w)| **w > 0.0).map(|(logp, _)| *logp).collect();
    }
}

/// The steps of a run of `decoder`.
fn steps<O: Objective>(
    decoder: &mut Decoder,
    objective: &O,
    train: &[O::Example],
    training: &TrainingConfig,
    output_dir: &Path,
) -> Rows {
    let mut rows = Rows::new();
    let config = LoopConfig {
        training: TrainingConfig { output_dir: output_dir.to_owned(), ..training.clone() },
        hyper: training.hyperparameters(),
        identity: Identity::default(),
        collective: Arc::new(Alone),
        free_memory: FreeMemory::default(),
        resume: None,
    };
    let examples = LoopExamples { objective, train: ExampleSource::InMemory(train), eval: &[] };
    let hooks = LoopHooks {
        save_model: &|_, _| Ok(()),
        recorder: &mut rows,
        samples: None,
        observer: &mut |_| Flow::Continue,
        stop: &AtomicBool::new(false),
    };
    train_loop(decoder, &config, examples, hooks).unwrap();
    rows
}
