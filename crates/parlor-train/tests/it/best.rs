//! Which evaluation is the best, and ending with its model.

use std::fs;

use parlor_train::config::TrainingType;
use parlor_train::{Start, TrainError};

use crate::run::{Project, run};
use crate::tiny::{self, LoopTest};

#[test]
fn the_metric_that_is_named_decides() {
    let best = |metric: Option<&str>, greater: Option<bool>| {
        let dir = tempfile::tempdir().unwrap();
        let mut run = LoopTest::new(dir.path());
        run.eval = tiny::examples(3);
        run.hyper.eval_steps = 2;
        run.training.metric_for_best_model = metric.map(str::to_owned);
        run.training.greater_is_better = greater;
        let (finished, rows, _) = run.go(&mut tiny::decoder());
        let evaluations: Vec<(u64, f64)> = rows
            .iter()
            .filter_map(|row| Some((row["step"].as_u64()?, row.get("eval_loss")?.as_f64()?)))
            .collect();
        (finished.unwrap().best.unwrap(), evaluations)
    };
    let (usual, evaluations) = best(None, None);
    let lowest = evaluations.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    assert_eq!((usual.step, usual.metric), lowest);
    assert_eq!(best(Some("eval_loss"), None).0, usual);
    let perplexity = best(Some("perplexity"), None).0;
    assert_eq!((perplexity.step, perplexity.metric), (usual.step, usual.metric.exp()));
    let highest = evaluations.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    let worst = best(Some("loss"), Some(true)).0;
    assert_eq!((worst.step, worst.metric), highest);
}

#[test]
fn early_stopping_follows_the_metric() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = LoopTest::new(dir.path());
    run.eval = tiny::examples(3);
    run.hyper.eval_steps = 1;
    run.hyper.early_stopping_patience = Some(2);
    // The loss falls, which is bad when greater is better.
    run.training.greater_is_better = Some(true);
    let finished = run.go(&mut tiny::decoder()).0.unwrap();
    assert_eq!((finished.best.unwrap().step, finished.steps), (1, 3));
}

#[test]
fn a_metric_that_there_is_not_is_an_error_that_names_those_there_are() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = LoopTest::new(dir.path());
    run.eval = tiny::examples(3);
    run.training.metric_for_best_model = Some("eval_rewards/margins".to_owned());
    let error = run.go(&mut tiny::decoder()).0.unwrap_err();
    insta::assert_snapshot!(error);
}

#[test]
fn a_run_ends_with_the_best_model_when_asked() {
    let project = Project::new();
    let request = |name: &str| {
        let mut request = project.request(name);
        request.training.load_best_model_at_end = true;
        // The losses fall: so the best by this rule is the first of steps 4, 8 and 12.
        request.training.greater_is_better = Some(true);
        request
    };
    let summary = run(request("out"), None).0.unwrap();
    assert_eq!((summary.steps, summary.model_step, &summary.model_dir), (12, 4, &project.path("out")));
    let bytes = |path: &str| fs::read(project.path(path)).unwrap();
    for file in ["model.safetensors", "config.json", "tokenizer.json"] {
        assert!(bytes(&format!("out/{file}")) == bytes(&format!("out/best/{file}")), "{file}");
    }
    assert!(bytes("out/model.safetensors") != bytes("out/checkpoint-12/model.safetensors"));
    // Also when the best was made before an interruption.
    run(request("part"), Some(7)).0.unwrap();
    let mut rest = request("part");
    rest.start = Start::Resume;
    assert_eq!(run(rest, None).0.unwrap().model_step, 4);
    assert!(bytes("part/model.safetensors") == bytes("out/model.safetensors"));
    // A run that resumes in another directory has no `best/`.
    let mut elsewhere = request("elsewhere");
    elsewhere.start = Start::ResumeFrom(project.path("part/checkpoint-7"));
    let (summary, events) = run(elsewhere, None);
    assert_eq!(summary.unwrap().model_step, 12);
    assert!(events.iter().any(|event| format!("{event:?}").contains("the model is that of the last step")));
}

#[test]
fn the_best_of_nothing_is_refused() {
    let project = Project::new();
    let mut request = project.request("out");
    request.training.load_best_model_at_end = true;
    request.data.eval_data_path = project.path("absent").to_string_lossy().into_owned();
    let error = run(request, None).0.unwrap_err();
    assert!(matches!(&error, TrainError::Config(found) if found[0].key.ends_with("load_best_model_at_end")));
    let mut request = project.request("out");
    request.training.metric_for_best_model = Some("accuracy".to_owned());
    let error = run(request, None).0.unwrap_err();
    assert!(error.before_start() && error.to_string().contains("metric_for_best_model"), "{error}");
    assert_eq!(project.request("out").training.training_type, TrainingType::FromScratch);
}
