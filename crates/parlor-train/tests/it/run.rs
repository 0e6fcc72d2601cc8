//! From a config to a trained directory: what is left behind, what is refused, and resuming through files alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use parlor_model::{ArchitectureBlock, MaxLength, ModelConfig};
use parlor_text::DataConfig;
use parlor_track::{MlflowConfig, MonitoringConfig};
use parlor_train::config::{TrainOn, TrainingType};
use parlor_train::{
    EvaluateRequest, Flow, Outcome, Run, Start, TrainError, TrainEvent, TrainHooks, TrainRequest,
    TrainSummary, TrainingConfig, evaluate,
};
use serde_json::{Map, Value};

/// A directory with data, and the request that trains on it.
pub(crate) struct Project {
    home: tempfile::TempDir,
}

impl Project {
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let row = |n: usize| {
            let (question, answer) = (format!("What is {n} plus one?"), format!("It is {}.", n + 1));
            serde_json::json!({"messages": [
                {"role": "user", "content": question}, {"role": "assistant", "content": answer},
            ]})
        };
        let rows = |range: std::ops::Range<usize>| range.map(|n| format!("{}\n", row(n))).collect::<String>();
        fs::write(home.path().join("train.jsonl"), rows(0..24)).unwrap();
        fs::write(home.path().join("eval.jsonl"), rows(30..34)).unwrap();
        Self { home }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn request(&self, output: &str) -> TrainRequest {
        let mut training = TrainingConfig {
            training_type: TrainingType::FromScratch,
            output_dir: self.path(output),
            ..TrainingConfig::default()
        };
        training.from_scratch.vocab_size = 300;
        training.from_scratch.architecture = Some(ArchitectureBlock {
            hidden_size: Some(16),
            intermediate_size: Some(24),
            num_hidden_layers: Some(2),
            num_attention_heads: Some(2),
            num_key_value_heads: Some(1),
            max_position_embeddings: Some(64),
            ..ArchitectureBlock::default()
        });
        training.from_scratch.num_train_epochs = 2;
        training.from_scratch.learning_rate = 1e-2;
        training.from_scratch.logging_steps = 1;
        training.from_scratch.eval_steps = 4;
        training.from_scratch.save_steps = 3;
        let data = DataConfig {
            train_data_path: self.path("train.jsonl").to_string_lossy().into_owned(),
            eval_data_path: self.path("eval.jsonl").to_string_lossy().into_owned(),
            max_length: 64,
            ..DataConfig::default()
        };
        TrainRequest {
            training,
            model: ModelConfig::default(),
            max_length: MaxLength::AtMost(2048),
            data,
            eval_data_path: None,
            start: Start::New,
            max_steps: None,
            monitoring: MonitoringConfig {
                mlflow: MlflowConfig { enabled: false, ..MlflowConfig::default() },
                ..MonitoringConfig::default()
            },
            resolved_config: "training: {}\n".to_owned(),
            collective: std::sync::Arc::new(parlor_train::distributed::Alone),
        }
    }

    pub(crate) fn evaluate(&self, model: &Path) -> parlor_train::EvaluateSummary {
        let model = ModelConfig {
            name: model.to_string_lossy().into_owned(),
            max_length: 64,
            ..ModelConfig::default()
        };
        let request = EvaluateRequest {
            model,
            adapters: Vec::new(),
            max_length: MaxLength::Exactly(64),
            data_path: self.path("eval.jsonl"),
            data: DataConfig { max_length: 64, ..DataConfig::default() },
            train_on: TrainOn::All,
            batch_size: 2,
            threads: 1,
        };
        evaluate(&request, &AtomicBool::new(false)).unwrap().unwrap()
    }
}

pub(crate) fn run(
    request: TrainRequest,
    stop_after: Option<u64>,
) -> (Result<TrainSummary, TrainError>, Vec<TrainEvent>) {
    let mut events = Vec::new();
    let prepared = match Run::prepare(request) {
        Ok(prepared) => prepared,
        Err(error) => return (Err(error), events),
    };
    let mut observer = |event: TrainEvent| {
        let step = if let TrainEvent::Step(report) = &event { Some(report.step) } else { None };
        events.push(event);
        if step.is_some() && step == stop_after { Flow::Stop } else { Flow::Continue }
    };
    let result = prepared.train(TrainHooks::new(&mut observer, &AtomicBool::new(false)));
    (result, events)
}

pub(crate) fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// `metrics.jsonl` without what the clock and the machine decide.
pub(crate) fn metrics(directory: &Path) -> Vec<Map<String, Value>> {
    let text = fs::read_to_string(directory.join("metrics.jsonl")).unwrap();
    let mut rows: Vec<Map<String, Value>> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for row in &mut rows {
        for key in ["tokens_per_second", "memory_bytes", "eval_runtime"] {
            row.remove(key);
        }
    }
    rows
}

pub(crate) fn refused(request: TrainRequest) -> TrainError {
    let error = run(request, None).0.unwrap_err();
    assert!(error.before_start(), "{error:?}");
    error
}

#[test]
fn a_run_leaves_a_model_checkpoints_and_its_record() {
    let project = Project::new();
    let (summary, events) = run(project.request("out"), None);
    let summary = summary.unwrap();
    let out = project.path("out");
    assert_eq!((summary.outcome, summary.steps, &summary.model_dir), (Outcome::Completed, 12, &out));
    insta::assert_snapshot!(names(&out).join("\n"));
    insta::assert_snapshot!(names(&out.join("checkpoint-12")).join("\n"));
    let rows = metrics(&out);
    assert_eq!(rows.iter().filter(|row| row.contains_key("loss")).count(), 12);
    assert_eq!(rows.iter().filter(|row| row.contains_key("eval_loss")).count(), 3);
    let record: Value = serde_json::from_slice(&fs::read(out.join("run.json")).unwrap()).unwrap();
    assert_eq!((record["status"].as_str(), record["exit_status"].as_u64()), (Some("finished"), Some(0)));
    assert!(
        matches!(events[0], TrainEvent::Started { resumed_at: None, eval_examples: 4, .. }),
        "{events:?}"
    );

    // The model reads back, with its tokenizer and template, to the loss that training measured.
    let again = project.evaluate(&out);
    assert!((again.loss - summary.eval_loss.unwrap()).abs() < 1e-6, "{again:?} {summary:?}");
    assert!(again.loss < 5.0, "{again:?}");
    assert_eq!(again.perplexity, again.loss.exp());
    let last = project.evaluate(&out.join("checkpoint-12"));
    assert_eq!(last.loss, again.loss);
}

#[test]
fn resumed_through_files_the_model_is_the_same_byte_for_byte() {
    let project = Project::new();
    run(project.request("whole"), None).0.unwrap();
    let model = fs::read(project.path("whole/model.safetensors")).unwrap();
    for stop in [1, 4, 5, 11] {
        let name = format!("part-{stop}");
        let (first, _) = run(project.request(&name), Some(stop));
        assert_eq!(first.unwrap().outcome, Outcome::Interrupted);
        let mut request = project.request(&name);
        request.start = Start::Resume;
        let (summary, events) = run(request, None);
        assert_eq!(summary.unwrap().outcome, Outcome::Completed);
        let resumed = events.iter().any(
            |event| matches!(event, TrainEvent::Started { resumed_at, .. } if *resumed_at == Some(stop)),
        );
        assert!(resumed, "{events:?}");
        assert!(fs::read(project.path(&name).join("model.safetensors")).unwrap() == model, "stop at {stop}");
        assert_eq!(metrics(&project.path(&name)), metrics(&project.path("whole")), "stop at {stop}");
        let best = |name: &str| fs::read(project.path(name).join("best/model.safetensors")).unwrap();
        assert!(best(&name) == best("whole"), "best after a stop at {stop}");
    }
}

#[test]
fn a_kill_between_checkpoints_resumes_from_the_one_before() {
    let project = Project::new();
    run(project.request("whole"), None).0.unwrap();
    // What a kill after step 5 leaves: the checkpoint of step 3, rows up to step 5 with half of one, a temporary.
    let out = project.path("killed");
    run(project.request("killed"), Some(5)).0.unwrap();
    fs::remove_dir_all(out.join("checkpoint-5")).unwrap();
    fs::create_dir(out.join(".tmp-checkpoint-6-1")).unwrap();
    let mut text = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    text.push_str("{\"step\": 6, \"lo");
    fs::write(out.join("metrics.jsonl"), text).unwrap();
    let mut request = project.request("killed");
    request.start = Start::Resume;
    let (summary, events) = run(request, None);
    assert_eq!(summary.unwrap().steps, 12);
    assert!(
        matches!(&events[0], TrainEvent::Warning(text) if text.contains(".tmp-checkpoint-6-1")),
        "{events:?}"
    );
    assert!(
        fs::read(out.join("model.safetensors")).unwrap()
            == fs::read(project.path("whole/model.safetensors")).unwrap()
    );
    assert_eq!(metrics(&out), metrics(&project.path("whole")));
}

#[test]
fn a_kill_before_the_first_checkpoint_resumes_from_the_beginning() {
    let project = Project::new();
    let out = project.path("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("metrics.jsonl"), "{\"step\": 1, \"loss\": 9}\n").unwrap();
    fs::write(out.join("run.json"), "{\"status\": \"running\"}").unwrap();
    let mut request = project.request("out");
    request.start = Start::Resume;
    let (summary, events) = run(request, None);
    assert_eq!(summary.unwrap().steps, 12);
    assert!(
        events.iter().any(|e| matches!(e, TrainEvent::Warning(text) if text.contains("from the beginning")))
    );
    assert_eq!(metrics(&out).len(), 15);
}

#[test]
fn a_directory_that_holds_a_run_is_refused_unless_told() {
    let project = Project::new();
    let first = run(project.request("out"), None).0.unwrap();
    fs::write(project.path("out/notes.txt"), "mine").unwrap();
    let error = refused(project.request("out"));
    assert!(matches!(error, TrainError::Occupied { .. }), "{error:?}");
    assert!(error.to_string().contains("--overwrite"), "{error}");

    let mut request = project.request("out");
    request.start = Start::Overwrite;
    request.max_steps = Some(2);
    let second = run(request, None).0.unwrap();
    assert_eq!((first.steps, second.steps), (12, 2));
    let names = names(&project.path("out"));
    assert!(
        names.contains(&"checkpoint-2".to_owned()) && !names.contains(&"checkpoint-12".to_owned()),
        "{names:?}"
    );
    assert!(names.contains(&"notes.txt".to_owned()), "{names:?}");
}

#[test]
fn a_directory_in_use_is_refused() {
    let project = Project::new();
    let held = Run::prepare(project.request("out")).unwrap();
    assert!(matches!(refused(project.request("out")), TrainError::Locked { .. }));
    drop(held);
    run(project.request("out"), None).0.unwrap();
}

#[test]
fn a_changed_config_is_refused_with_the_differences() {
    let project = Project::new();
    run(project.request("out"), Some(4)).0.unwrap();
    let mut request = project.request("out");
    request.start = Start::Resume;
    request.training.seed = 1;
    request.training.from_scratch.learning_rate = 2e-2;
    request.training.from_scratch.num_train_epochs = 3;
    let message = refused(request).to_string().replace(&project.path("").to_string_lossy().into_owned(), "");
    insta::assert_snapshot!(message);

    // What changes no number may change; a row that is added may not.
    let mut request = project.request("out");
    request.start = Start::Resume;
    request.training.from_scratch.logging_steps = 5;
    request.training.from_scratch.save_steps = 0;
    assert!(Run::prepare(request).is_ok());
    let mut text = fs::read_to_string(project.path("train.jsonl")).unwrap();
    text.push_str("{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}\n");
    fs::write(project.path("train.jsonl"), text).unwrap();
    let mut request = project.request("out");
    request.start = Start::Resume;
    let message = refused(request).to_string();
    assert!(message.contains("training data"), "{message}");
}

#[test]
fn a_damaged_newest_checkpoint_falls_back_and_says_so() {
    let project = Project::new();
    run(project.request("out"), None).0.unwrap();
    let whole = fs::read(project.path("out/model.safetensors")).unwrap();
    fs::write(project.path("out/checkpoint-12/optimizer.safetensors"), b"x").unwrap();
    let mut request = project.request("out");
    request.start = Start::Resume;
    let (summary, events) = run(request, None);
    assert_eq!(summary.unwrap().steps, 12);
    let said = events
        .iter()
        .any(|e| matches!(e, TrainEvent::Warning(text) if text.contains("optimizer.safetensors")));
    assert!(said, "{events:?}");
    assert!(fs::read(project.path("out/model.safetensors")).unwrap() == whole);
}

#[test]
fn fine_tuning_starts_from_the_trained_model() {
    let project = Project::new();
    run(project.request("base"), None).0.unwrap();
    let mut request = project.request("tuned");
    request.training.training_type = TrainingType::Sft;
    request.training.sft.learning_rate = 5e-3;
    request.training.sft.num_train_epochs = 4;
    request.model.name = project.path("base").to_string_lossy().into_owned();
    let summary = run(request.clone(), None).0.unwrap();
    let before = {
        let mut other = request.clone();
        other.training.output_dir = project.path("one");
        other.max_steps = Some(1);
        run(other, None).0.unwrap().train_loss
    };
    assert!(summary.train_loss < before, "{summary:?} {before}");
    // The base model's own directory is never an output.
    request.training.output_dir = project.path("base");
    request.start = Start::Overwrite;
    let error = refused(request);
    assert!(error.to_string().contains("model.name"), "{error}");
    assert!(project.path("base/model.safetensors").exists());
}

#[test]
fn bad_requests_are_refused_before_anything_starts() {
    let project = Project::new();
    let check = |change: &dyn Fn(&mut TrainRequest), expected: &str| {
        let mut request = project.request("out");
        change(&mut request);
        let message = refused(request).to_string();
        assert!(message.contains(expected), "{message}\n\nexpected {expected}");
    };
    check(&|r| r.training.from_scratch.learning_rate = 0.0, "training.from_scratch.learning_rate");
    check(&|r| r.training.fp16 = true, "training.fp16: training in float16: not in this build yet");
    check(&|r| r.monitoring.wandb.enabled = true, "monitoring.wandb.enabled");
    check(&|r| r.data.train_data_path = "no/such/file.jsonl".to_owned(), "no/such/file.jsonl");
    check(&|r| r.eval_data_path = Some("no/such/eval.jsonl".into()), "no/such/eval.jsonl");
    check(&|r| r.data.data_types = vec![parlor_text::DataType::Documents], "data.data_types");
    check(&|r| r.training.from_scratch.vocab_size = 10, "too small");
    check(&|r| r.training.from_scratch.architecture.as_mut().unwrap().num_key_value_heads = Some(3), "heads");
    check(&|r| r.start = Start::ResumeFrom("no/such/checkpoint".into()), "no checkpoint to resume");
    check(&|r| r.training.output_dir = "/proc/nowhere".into(), "/proc/nowhere");
    check(&|r| r.max_steps = Some(0), "--max-steps");
    let mut text = fs::read_to_string(project.path("train.jsonl")).unwrap();
    text.push_str("{\"messages\": 3}\n");
    fs::write(project.path("bad.jsonl"), text).unwrap();
    let bad = project.path("bad.jsonl").to_string_lossy().into_owned();
    check(&|r| r.data.train_data_path = bad.clone(), "bad.jsonl:25");
    // With `skip` the same file trains.
    let mut request = project.request("skipped");
    request.data.train_data_path = bad;
    request.data.on_bad_row = parlor_text::OnBadRow::Skip;
    request.max_steps = Some(1);
    assert!(Run::prepare(request).unwrap().warnings().iter().any(|warning| warning.contains("bad.jsonl:25")));
}

#[test]
fn missing_default_evaluation_data_is_a_warning() {
    let project = Project::new();
    let mut request = project.request("out");
    request.data.eval_data_path = "no/such/eval".to_owned();
    request.max_steps = Some(1);
    let (summary, events) = run(request, None);
    assert_eq!(summary.unwrap().eval_loss, None);
    assert!(
        events
            .iter()
            .any(|e| matches!(e, TrainEvent::Warning(text) if text.contains("nothing is evaluated")))
    );
    assert!(!project.path("out/best").exists());
}

#[test]
fn an_evaluation_that_is_made_again_is_recorded_once() {
    let project = Project::new();
    run(project.request("whole"), None).0.unwrap();
    // Interrupted where an evaluation was due, resumed, and killed after it but before the next checkpoint.
    run(project.request("out"), Some(4)).0.unwrap();
    let resume = |stop| {
        let mut request = project.request("out");
        request.start = Start::Resume;
        run(request, stop).0.unwrap()
    };
    resume(Some(5));
    fs::remove_dir_all(project.path("out/checkpoint-5")).unwrap();
    resume(None);
    assert_eq!(metrics(&project.path("out")), metrics(&project.path("whole")));
}
