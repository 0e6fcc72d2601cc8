//! Training on preference data from a config to a directory: the record, the reference and its cache, resuming.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use parlor_text::DataConfig;
use parlor_train::config::{DpoLoss, TrainingType};
use parlor_train::{Outcome, Start, TrainError, TrainEvent, TrainHooks, TrainRequest};
use serde_json::{Map, Value, json};

use crate::distributed::Threads;
use crate::run::{Project, metrics, names, refused, run};
use crate::thorough::thorough;

/// A small trained model that all tests here start from.
static BASE: LazyLock<Project> = LazyLock::new(|| {
    let project = Project::new();
    run(project.request("base"), None).0.unwrap();
    project
});

fn message(role: &str, text: &str) -> Value {
    json!([{"role": role, "content": text}])
}

fn pair(n: usize) -> Value {
    json!({
        "prompt": message("user", &format!("What is {n} plus one?")),
        "chosen": message("assistant", &format!("It is {}.", n + 1)),
        "rejected": message("assistant", &format!("{n} what?")),
    })
}

fn lines(rows: impl Iterator<Item = Value>) -> String {
    rows.map(|row| format!("{row}\n")).collect()
}

/// A project with preference pairs and unpaired preferences, and requests that train on them.
struct PreferenceProject {
    base: Project,
}

impl PreferenceProject {
    fn new() -> Self {
        let project = Project::new();
        fs::write(project.path("pairs.jsonl"), lines((0..18).map(pair))).unwrap();
        fs::write(project.path("pairs_eval.jsonl"), lines((20..24).map(pair))).unwrap();
        let single = |n: usize| {
            let pair = pair(n);
            let which = if n.is_multiple_of(2) { "chosen" } else { "rejected" };
            json!({"prompt": pair["prompt"], "completion": pair[which], "label": which == "chosen"})
        };
        fs::write(project.path("single.jsonl"), lines((0..18).map(single))).unwrap();
        Self { base: project }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.path(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    /// Six steps on pairs, of an adapter or of all weights.
    fn request(&self, output: &str, loss_type: DpoLoss, adapter: bool) -> TrainRequest {
        let mut request = self.base.request(output);
        request.model.name = BASE.path("base").to_string_lossy().into_owned();
        let training = &mut request.training;
        training.training_type = TrainingType::Dpo;
        training.lora.enabled = adapter;
        training.lora.r = 4;
        let dpo = &mut training.dpo;
        dpo.loss_type = loss_type;
        dpo.num_train_epochs = 1;
        dpo.per_device_train_batch_size = 3;
        dpo.learning_rate = if adapter { 1e-2 } else { 1e-3 };
        dpo.logging_steps = 1;
        dpo.eval_steps = 4;
        dpo.save_steps = 2;
        request.data = DataConfig {
            train_data_path: self.text(if loss_type == DpoLoss::Kto {
                "single.jsonl"
            } else {
                "pairs.jsonl"
            }),
            eval_data_path: self.text("pairs_eval.jsonl"),
            max_length: 64,
            ..DataConfig::default()
        };
        request
    }
}

/// The trained tensors of an output directory.
fn weights(directory: &Path) -> Vec<u8> {
    let found = ["adapter_model.safetensors", "model.safetensors"].map(|name| fs::read(directory.join(name)));
    found.into_iter().find_map(Result::ok).unwrap()
}

fn warnings(events: &[TrainEvent]) -> String {
    let text = |event: &TrainEvent| match event {
        TrainEvent::Warning(text) => Some(format!("{text}\n")),
        _ => None,
    };
    events.iter().filter_map(text).collect()
}

fn references_computed(events: &[TrainEvent]) -> Option<(usize, usize)> {
    events.iter().rev().find_map(|event| match event {
        TrainEvent::Reference { done, total } => Some((*done, *total)),
        _ => None,
    })
}

fn number(row: &Map<String, Value>, name: &str) -> f64 {
    row.get(name).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {name} in {row:?}"))
}

const LOSSES: [DpoLoss; 7] = [
    DpoLoss::Sigmoid,
    DpoLoss::Hinge,
    DpoLoss::Ipo,
    DpoLoss::Robust,
    DpoLoss::Simpo,
    DpoLoss::Orpo,
    DpoLoss::Kto,
];

#[test]
fn every_loss_moves_the_completions_apart_and_reports_how_far() {
    let adapters: &[bool] = if thorough() { &[false, true] } else { &[true] };
    for loss in LOSSES {
        for &adapter in adapters {
            let project = PreferenceProject::new();
            let mut request = project.request("out", loss, adapter);
            request.training.dpo.num_train_epochs = 4;
            if loss == DpoLoss::Robust {
                request.training.dpo.label_smoothing = 0.1;
            }
            let (summary, events) = run(request, None);
            assert_eq!(summary.unwrap().steps, 24);
            let name = loss.name();
            let rows = metrics(&project.path("out"));
            let steps: Vec<_> = rows.iter().filter(|row| row.contains_key("loss")).collect();
            let evals: Vec<_> = rows.iter().filter(|row| row.contains_key("eval_loss")).collect();
            assert_eq!((steps.len(), evals.len()), (24, 6));
            let mut wanted = vec!["rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen"];
            wanted.push("logps/rejected");
            if loss != DpoLoss::Kto {
                wanted.push("rewards/accuracies");
            }
            let has_reference = !matches!(loss, DpoLoss::Simpo | DpoLoss::Orpo);
            if has_reference {
                wanted.push("kl");
                // Before the first step both models are one; passes of other sizes round otherwise.
                assert!(number(steps[0], "kl").abs() < 1e-5, "{name}: {:?}", steps[0]);
                assert!(number(steps[0], "rewards/chosen").abs() < 1e-4, "{name}: {:?}", steps[0]);
                assert_eq!(
                    references_computed(&events),
                    Some(match loss {
                        DpoLoss::Kto => (26, 26),
                        _ => (22, 22),
                    })
                );
            } else {
                assert_eq!(references_computed(&events), None);
                assert!(!project.path("out/reference").exists());
            }
            for metric in wanted {
                number(evals[0], &format!("eval_{metric}"));
                if loss != DpoLoss::Kto {
                    // A pass of unpaired completions may hold none with one of the labels.
                    number(steps[0], metric);
                }
            }
            let margin = |row: &Map<String, Value>| number(row, "eval_rewards/margins");
            assert!(margin(evals[5]) > margin(evals[0]) + 1e-3, "{name} {adapter}: {evals:?}");
        }
    }
}

#[test]
fn resumed_equals_uninterrupted() {
    for (loss, adapter) in
        [(DpoLoss::Sigmoid, false), (DpoLoss::Sigmoid, true), (DpoLoss::Kto, true), (DpoLoss::Orpo, false)]
    {
        let project = PreferenceProject::new();
        run(project.request("whole", loss, adapter), None).0.unwrap();
        let (expected, rows) = (weights(&project.path("whole")), metrics(&project.path("whole")));
        // With the log-probabilities on disk, and without: they are computed again, of the model before training.
        let stops = [(3, false), (5, true), (1, false)];
        for &(stop, forget) in if thorough() { &stops[..] } else { &stops[..2] } {
            let name = format!("part-{stop}");
            let part = project.path(&name);
            let first = run(project.request(&name, loss, adapter), Some(stop)).0.unwrap();
            assert_eq!((first.outcome, first.steps), (Outcome::Interrupted, stop));
            if forget && loss != DpoLoss::Orpo {
                fs::remove_dir_all(part.join("reference")).unwrap();
            }
            let mut request = project.request(&name, loss, adapter);
            request.start = Start::Resume;
            let (summary, events) = run(request, None);
            assert_eq!(summary.unwrap().outcome, Outcome::Completed);
            let computed = references_computed(&events).is_some();
            assert_eq!(computed, forget && loss != DpoLoss::Orpo);
            assert!(weights(&part) == expected, "{loss:?} {adapter}: weights differ after a stop at {stop}");
            assert_eq!(metrics(&part), rows, "{loss:?} {adapter}: after a stop at {stop}");
        }
    }
}

#[test]
fn another_loss_or_reference_is_another_run() {
    let project = PreferenceProject::new();
    run(project.request("out", DpoLoss::Sigmoid, true), Some(2)).0.unwrap();
    let check = |change: &dyn Fn(&mut TrainRequest), expected: &str| {
        let mut request = project.request("out", DpoLoss::Sigmoid, true);
        request.start = Start::Resume;
        change(&mut request);
        let error = refused(request);
        assert!(matches!(error, TrainError::Changed { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}\n\nexpected {expected}");
    };
    check(&|r| r.training.dpo.loss_type = DpoLoss::Ipo, "training.dpo.loss_type");
    check(&|r| r.training.dpo.beta = 0.2, "training.dpo.beta");
    check(&|r| r.training.dpo.label_smoothing = 0.2, "training.dpo.label_smoothing");
    check(&|r| r.training.dpo.reference_free = true, "training.dpo.reference_free");
    check(&|r| r.training.dpo.max_length = Some(26), "training data");
}

#[test]
fn reference_log_probabilities_are_kept_and_checked() {
    let project = PreferenceProject::new();
    let again = || {
        let mut request = project.request("out", DpoLoss::Sigmoid, false);
        request.start = Start::Overwrite;
        request
    };
    let (first, events) = run(again(), None);
    assert_eq!(references_computed(&events), Some((22, 22)));
    let trained = weights(&project.path("out"));
    let files = names(&project.path("out/reference"));
    assert_eq!(files.len(), 2, "{files:?}");

    // The same run again reads them.
    let (second, events) = run(again(), None);
    assert_eq!(references_computed(&events), None);
    assert_eq!(second.unwrap().train_loss.to_bits(), first.unwrap().train_loss.to_bits());
    assert!(weights(&project.path("out")) == trained);

    // Damaged ones are made again, which is said.
    for damage in [&|bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2) as _, &|bytes: &mut Vec<u8>| {
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
    }] as [&dyn Fn(&mut Vec<u8>); 2]
    {
        for name in &files {
            let path = project.path("out/reference").join(name);
            let whole = fs::read(&path).unwrap();
            let mut bytes = whole.clone();
            damage(&mut bytes);
            fs::write(&path, bytes).unwrap();
            let (summary, events) = run(again(), None);
            summary.unwrap();
            assert!(warnings(&events).contains("computing it again"), "{events:?}");
            assert!(references_computed(&events).is_some());
            assert!(fs::read(&path).unwrap() == whole, "{name}");
        }
    }
    assert!(weights(&project.path("out")) == trained);

    // Those of other examples are no use, which is said, and go.
    let mut request = again();
    request.training.dpo.max_length = Some(26);
    let (summary, events) = run(request, None);
    summary.unwrap();
    assert!(warnings(&events).contains("other examples"), "{events:?}");
    assert!(references_computed(&events).is_some());
    assert!(names(&project.path("out/reference")).iter().all(|name| !files.contains(name)));
}

#[test]
fn a_reference_of_its_own() {
    let project = PreferenceProject::new();
    let own = project.text("own");
    let mut request = project.base.request("own");
    request.training.seed = 5;
    request.training.from_scratch.num_train_epochs = 1;
    run(request, None).0.unwrap();
    let mut request = project.request("out", DpoLoss::Sigmoid, true);
    request.training.dpo.reference_model_path = Some(own.clone().into());
    run(request, None).0.unwrap();
    let rows = metrics(&project.path("out"));
    // It is another model, so the rewards are not 0 at the first step.
    assert!(number(&rows[0], "kl") > 0.01, "{rows:?}");

    // Another vocabulary cannot be compared.
    let mut request = project.base.request("other");
    request.training.from_scratch.vocab_size = 280;
    request.max_steps = Some(1);
    run(request, None).0.unwrap();
    let refusal = |path: String| {
        let mut request = project.request("out2", DpoLoss::Sigmoid, true);
        request.training.dpo.reference_model_path = Some(path.into());
        let trained = request.model.name.clone();
        refused(request).to_string().replace(&trained, "TRAINED").replace(&project.text(""), "")
    };
    insta::assert_snapshot!(refusal(project.text("other")));
    // Other ids for the same tokens cannot either; other ways of dividing a text can.
    let tokenizer = project.path("own/tokenizer.json");
    let read = || serde_json::from_slice::<Value>(&fs::read(&tokenizer).unwrap()).unwrap();
    let mut padding = read();
    padding["padding"] = json!({
        "strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "!",
    });
    fs::write(&tokenizer, padding.to_string()).unwrap();
    let mut request = project.request("out3", DpoLoss::Sigmoid, true);
    request.training.dpo.reference_model_path = Some(own.clone().into());
    request.max_steps = Some(1);
    run(request, None).0.unwrap();
    let mut swapped = read();
    let vocabulary = swapped["model"]["vocab"].as_object_mut().unwrap();
    let (a, b) = (vocabulary["a"].clone(), vocabulary["b"].clone());
    vocabulary.insert("a".to_owned(), b);
    vocabulary.insert("b".to_owned(), a);
    fs::write(&tokenizer, swapped.to_string()).unwrap();
    insta::assert_snapshot!(refusal(own));
    let missing = refusal(project.text("no_such_model"));
    assert!(missing.contains("no_such_model"), "{missing}");
}

#[test]
fn accumulation_divides_a_step_and_changes_nothing() {
    // A sum of f32 gradients in another order: rounding that Adam's division makes as large as the gradient's
    // smallest.
    let project = PreferenceProject::new();
    for (loss, adapter) in [(DpoLoss::Sigmoid, true), (DpoLoss::Orpo, false), (DpoLoss::Simpo, false)] {
        let train = |name: &str, batch, accumulation| {
            let mut request = project.request(name, loss, adapter);
            request.training.dpo.per_device_train_batch_size = batch;
            request.training.dpo.gradient_accumulation_steps = accumulation;
            request.start = Start::Overwrite;
            run(request, None).0.unwrap();
            metrics(&project.path(name))
        };
        let (whole, parts) = (train("whole", 8, 1), train("parts", 1, 8));
        assert_eq!(whole.len(), parts.len());
        for (a, b) in whole.iter().zip(&parts) {
            // Before its first step an adapter changes nothing: both rewards are rounding errors, and which
            // is the larger says nothing.
            let tied =
                a.get("rewards/margins").and_then(Value::as_f64).is_some_and(|margin| margin.abs() < 1e-5);
            for (key, value) in a.iter().filter(|(key, _)| !(tied && *key == "rewards/accuracies")) {
                let (Some(a), Some(b)) = (value.as_f64(), b[key].as_f64()) else { continue };
                assert!((a - b).abs() <= 1e-3 * a.abs().max(0.1), "{loss:?} {key}: {a} and {b}");
            }
        }
    }
}

#[test]
fn two_ranks_are_one_with_twice_the_accumulation() {
    for (loss, adapter) in [(DpoLoss::Sigmoid, true), (DpoLoss::Orpo, false), (DpoLoss::Kto, false)] {
        let project = PreferenceProject::new();
        let request = |name: &str, accumulation| {
            let mut request = project.request(name, loss, adapter);
            request.training.dpo.gradient_accumulation_steps = accumulation;
            request
        };
        run(request("one", 2), None).0.unwrap();
        std::thread::scope(|scope| {
            for collective in Threads::world(2) {
                let mut request = request("two", 1);
                request.collective = Arc::new(collective);
                scope.spawn(move || run(request, None).0.unwrap());
            }
        });
        // As above, where a step is divided into passes.
        let (one, two) = (metrics(&project.path("one")), metrics(&project.path("two")));
        assert_eq!(one.len(), two.len());
        for (a, b) in one.iter().zip(&two) {
            for (key, value) in a {
                let (Some(a), Some(b)) = (value.as_f64(), b[key].as_f64()) else { continue };
                assert!((a - b).abs() <= 1e-3 * a.abs().max(0.1), "{loss:?} {key}: {a} and {b}");
            }
        }
        assert_eq!(project.path("two/reference").exists(), loss != DpoLoss::Orpo);
    }
}

#[test]
fn early_stopping_and_best_models_go_by_any_metric() {
    let project = PreferenceProject::new();
    let mut request = project.request("out", DpoLoss::Sigmoid, true);
    request.training.dpo.num_train_epochs = 20;
    request.training.dpo.early_stopping_patience = Some(2);
    request.training.metric_for_best_model = Some("eval_rewards/accuracies".to_owned());
    request.training.load_best_model_at_end = true;
    let summary = run(request, None).0.unwrap();
    // A loss per pair has no perplexity.
    let mut other = project.request("other", DpoLoss::Sigmoid, true);
    other.training.metric_for_best_model = Some("perplexity".to_owned());
    let error = run(other, None).0.unwrap_err().to_string();
    assert!(error.contains("`rewards/margins`") && error.matches("perplexity").count() == 1, "{error}");
    // All held-out pairs are in order soon, and no share is above 1.
    assert_eq!(summary.outcome, Outcome::StoppedEarly);
    assert!(summary.model_step < summary.steps, "{summary:?}");
}

#[test]
fn a_stop_while_the_reference_is_computed_leaves_a_run_that_can_begin_again() {
    let project = PreferenceProject::new();
    let prepared = parlor_train::Run::prepare(project.request("out", DpoLoss::Sigmoid, true)).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(true);
    let summary = prepared.train(TrainHooks::new(&mut |_| parlor_train::Flow::Continue, &stop)).unwrap();
    assert_eq!((summary.outcome, summary.steps), (Outcome::Interrupted, 0));
    let mut request = project.request("out", DpoLoss::Sigmoid, true);
    request.start = Start::Resume;
    assert_eq!(run(request, None).0.unwrap().outcome, Outcome::Completed);
}

#[test]
fn rows_that_teach_nothing_are_refused_or_left_out() {
    let project = PreferenceProject::new();
    let with = |text: String, loss: DpoLoss, skip: bool| {
        fs::write(project.path("bad.jsonl"), text).unwrap();
        let mut request = project.request("out", loss, true);
        request.data.train_data_path = project.text("bad.jsonl");
        request.start = Start::Overwrite;
        request.max_steps = Some(1);
        if skip {
            request.data.on_bad_row = parlor_text::OnBadRow::Skip;
        }
        run(request, None)
    };
    let mut said = String::new();
    let pairs = lines((0..3).map(pair));
    let assistant = r#"[{"role": "assistant", "content": "b"}]"#;
    let prompt = r#"[{"role": "user", "content": "a"}]"#;
    let rows = [
        ("equal", r#"{"prompt": "a", "chosen": "b", "rejected": "b"}"#.to_owned()),
        ("empty", format!(r#"{{"prompt": {prompt}, "chosen": [], "rejected": {assistant}}}"#)),
        ("one answer", r#"{"prompt": "a", "chosen": "b"}"#.to_owned()),
    ];
    for (name, row) in rows {
        let text = format!("{pairs}{row}\n");
        let error = with(text.clone(), DpoLoss::Sigmoid, false).0.unwrap_err();
        assert!(error.before_start(), "{error:?}");
        said.push_str(&format!("# {name}\n{error}\n"));
        let (summary, events) = with(text, DpoLoss::Sigmoid, true);
        summary.unwrap();
        said.push_str(&warnings(&events));
    }
    // Rows of another kind.
    let messages =
        r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#;
    let single = r#"{"prompt": "a", "completion": "b", "label": true}"#;
    for (loss, row) in [(DpoLoss::Sigmoid, messages), (DpoLoss::Sigmoid, single), (DpoLoss::Kto, messages)] {
        let error = with(format!("{row}\n"), loss, false).0.unwrap_err();
        said.push_str(&format!("# {} and {row}\n{error}\n", loss.name()));
    }
    insta::assert_snapshot!(said.replace(&project.text(""), ""));
}
