//! What the model says to `training.sample_prompts` after each evaluation.

use std::fs;
use std::sync::atomic::AtomicBool;

use parlor_train::{
    Flow, Run, SAMPLES_FILE, SampleGenerator, Start, TrainEvent, TrainHooks, TrainRequest, TrainSummary,
};
use serde_json::Value;

use crate::run::Project;

/// Runs with a generator that returns the prompt and a number from the weights.
fn run(request: TrainRequest, stop_after: Option<u64>) -> (TrainSummary, Vec<TrainEvent>) {
    let generate = |decoder: &parlor_model::Decoder, prompt: &str| match prompt {
        "Fail!" => Err("it failed".into()),
        _ => Ok(format!("{prompt} {:?}", decoder.parameters()[0].tensor.to_f32_vec()[0])),
    };
    let prepared = Run::prepare(request).unwrap();
    assert!(prepared.sample_template().is_some());
    let mut events = Vec::new();
    let mut observer = |event: TrainEvent| {
        let stop = matches!(&event, TrainEvent::Step(report) if Some(report.step) == stop_after);
        events.push(event);
        if stop { Flow::Stop } else { Flow::Continue }
    };
    let hooks = TrainHooks {
        observer: &mut observer,
        stop: &AtomicBool::new(false),
        samples: Some(SampleGenerator::new(generate)),
    };
    let summary = prepared.train(hooks).unwrap();
    (summary, events)
}

fn request(project: &Project, name: &str) -> TrainRequest {
    let mut request = project.request(name);
    request.training.sample_prompts = ["One?", "Fail!", "Two?"].map(str::to_owned).to_vec();
    request
}

fn samples(project: &Project, name: &str) -> Vec<(u64, String, String)> {
    let text = fs::read_to_string(project.path(name).join(SAMPLES_FILE)).unwrap();
    let row = |line: &str| {
        let row: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        (row["step"].as_u64().unwrap(), text("prompt"), text("text"))
    };
    text.lines().map(row).collect()
}

#[test]
fn every_evaluation_is_followed_by_samples() {
    let project = Project::new();
    let (_, events) = run(request(&project, "out"), None);
    let written = samples(&project, "out");
    let places: Vec<(u64, &str)> = written.iter().map(|row| (row.0, row.1.as_str())).collect();
    assert_eq!(places, [4, 8, 12].map(|step| [(step, "One?"), (step, "Two?")]).concat());
    let told: Vec<(u64, String, String)> = events
        .iter()
        .filter_map(|event| match event {
            TrainEvent::Sampled { step, prompt, text } => Some((*step, prompt.clone(), text.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(told, written);
    // A failed sample is a warning, and the run continues.
    let failed =
        |event: &&TrainEvent| matches!(event, TrainEvent::Warning(text) if text.contains("it failed"));
    assert_eq!(events.iter().filter(failed).count(), 3);
}

#[test]
fn a_resumed_run_leaves_the_same_samples() {
    let project = Project::new();
    run(request(&project, "whole"), None);
    for stop in [3, 4, 9] {
        let name = format!("part-{stop}");
        run(request(&project, &name), Some(stop));
        if stop == 9 {
            // As a kill after the evaluation of step 12 would leave it: half a row more.
            let path = project.path(&name).join(SAMPLES_FILE);
            let more = "{\"step\":12,\"prompt\":\"One?\",\"text\":\"x\"}\n{\"step\":12,\"pro";
            fs::write(&path, fs::read_to_string(&path).unwrap() + more).unwrap();
        }
        let mut rest = request(&project, &name);
        rest.start = Start::Resume;
        run(rest, None);
        assert_eq!(samples(&project, &name), samples(&project, "whole"), "stop at {stop}");
    }
}

#[test]
fn samples_need_no_evaluation_data() {
    let project = Project::new();
    let mut request = request(&project, "out");
    request.data.eval_data_path = project.path("absent").to_string_lossy().into_owned();
    let (summary, _) = run(request, None);
    assert_eq!(summary.eval_loss, None);
    assert_eq!(samples(&project, "out").len(), 6);
}

#[test]
fn plain_text_has_no_template_and_a_missing_generator_is_a_warning() {
    let project = Project::new();
    fs::write(project.path("train.txt"), "Once upon a time there was a text. ".repeat(40)).unwrap();
    let mut request = request(&project, "out");
    request.data.train_data_path = project.path("train.txt").to_string_lossy().into_owned();
    let prepared = Run::prepare(request).unwrap();
    assert!(prepared.sample_template().is_none());
    let mut warnings = Vec::new();
    let mut observer = |event: TrainEvent| {
        warnings.extend(if let TrainEvent::Warning(text) = event { Some(text) } else { None });
        Flow::Continue
    };
    prepared.train(TrainHooks::new(&mut observer, &AtomicBool::new(false))).unwrap();
    assert!(warnings.iter().any(|text| text.contains("sample_prompts")), "{warnings:?}");
    assert!(!project.path("out").join(SAMPLES_FILE).exists());
}
