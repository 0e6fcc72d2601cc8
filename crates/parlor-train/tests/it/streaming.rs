//! Streamed examples: the same as if all rows were read first, and the same after a resume.

use std::fs;

use parlor_train::checkpoint::newest_checkpoint;
use parlor_train::{Start, TrainError, TrainRequest, plan};

use crate::run::{Project, metrics, refused, run};

/// A run that streams the rows of the project.
fn streamed(project: &Project, output: &str, max_steps: u64) -> TrainRequest {
    let mut request = project.request(output);
    request.data.streaming = true;
    request.data.buffer_size = 7;
    request.data.batch_size = 5;
    request.max_steps = Some(max_steps);
    request
}

fn losses(project: &Project, output: &str) -> Vec<f64> {
    let rows = metrics(&project.path(output));
    rows.iter().filter_map(|row| row.get("loss")).map(|loss| loss.as_f64().unwrap()).collect()
}

/// A step of the whole corpus is the same in any order, but for rounding.
#[test]
fn every_pass_over_a_stream_has_each_example_once() {
    let project = Project::new();
    let whole = |request: &mut TrainRequest| {
        request.training.from_scratch.per_device_train_batch_size = 8;
        request.training.from_scratch.gradient_accumulation_steps = 3;
    };
    let mut request = streamed(&project, "streamed", 4);
    whole(&mut request);
    let streamed = run(request, None).0.unwrap();
    let mut request = project.request("held");
    request.max_steps = Some(4);
    whole(&mut request);
    let held = run(request, None).0.unwrap();
    assert_eq!(streamed.tokens, held.tokens);
    let (ours, theirs) = (losses(&project, "streamed"), losses(&project, "held"));
    assert_eq!((ours.len(), theirs.len()), (4, 4));
    for (a, b) in ours.iter().zip(&theirs) {
        // Sums of some hundred f32 in another order, over four steps.
        assert!((a - b).abs() < 1e-5 * b, "{ours:?} {theirs:?}");
    }
    let tokens = project.path("streamed/tokens");
    assert!(!tokens.join("train.tokens").exists() && tokens.join("eval.tokens").exists());
}

#[test]
fn a_streamed_run_that_goes_on_ends_as_one_that_was_not_stopped() {
    let project = Project::new();
    run(streamed(&project, "whole", 14), None).0.unwrap();
    run(streamed(&project, "parts", 14), Some(8)).0.unwrap();
    let mut rest = streamed(&project, "parts", 14);
    rest.start = Start::Resume;
    let summary = run(rest, None).0.unwrap();
    assert_eq!(summary.steps, 14);
    let [whole, parts] =
        ["whole", "parts"].map(|name| fs::read(project.path(name).join("model.safetensors")).unwrap());
    assert!(whole == parts);
    assert_eq!(losses(&project, "whole"), losses(&project, "parts"));
}

#[test]
fn another_buffer_is_another_run() {
    let project = Project::new();
    run(streamed(&project, "out", 10), Some(4)).0.unwrap();
    let mut rest = streamed(&project, "out", 10);
    rest.start = Start::Resume;
    rest.data.buffer_size = 8;
    let error = refused(rest);
    assert!(
        matches!(&error, TrainError::Changed { differences, .. }
        if differences.len() == 1 && differences[0].contains("training data")),
        "{error:?}"
    );
}

/// The row that is bad comes long after those that the first steps take.
#[test]
fn training_begins_before_the_corpus_is_read_and_ends_at_the_row_that_is_bad() {
    let project = Project::new();
    let rows = fs::read_to_string(project.path("train.jsonl")).unwrap();
    fs::write(project.path("train.jsonl"), format!("{}{{\"prompt\": 3}}\n", rows.repeat(30))).unwrap();
    let with_tokenizer = |output: &str, steps: u64| {
        let mut request = streamed(&project, output, steps);
        request.training.from_scratch.tokenizer = Some(project.path("first"));
        request
    };
    let mut first = project.request("first");
    first.data.train_data_path = project.path("eval.jsonl").to_string_lossy().into_owned();
    first.max_steps = Some(1);
    run(first, None).0.unwrap();
    let summary = run(with_tokenizer("short", 4), None).0.unwrap();
    assert_eq!(summary.steps, 4);
    let error = run(with_tokenizer("long", 1000), None).0.unwrap_err();
    let TrainError::Data { what, source } = &error else { panic!("{error:?}") };
    let home = project.path("").display().to_string();
    insta::assert_snapshot!(format!("{what}: {source}").replace(&home, ""), @r"
    train.jsonl holds 1 bad row: 
      train.jsonl:721: `prompt` is a number; a text or a list of messages was expected
      correct them, or leave them out by `data.on_bad_row: skip`
    ");
    let newest = newest_checkpoint(&project.path("long")).checkpoint.unwrap();
    assert!(newest.state.step > 100, "what was trained is there");
    let mut request = with_tokenizer("skipped", 300);
    request.data.on_bad_row = parlor_text::OnBadRow::Skip;
    assert_eq!(run(request, None).0.unwrap().steps, 300);
}

#[test]
fn what_cannot_be_streamed_is_refused() {
    let project = Project::new();
    let mut request = streamed(&project, "out", 4);
    request.max_steps = None;
    insta::assert_snapshot!(refused(request), @r"
    the training config cannot work:
      data.streaming: the number of steps of an epoch is unknown: set `training.from_scratch.max_steps` (or `--max-steps`)
    ");
    let mut request = streamed(&project, "out", 4);
    request.training.training_type = parlor_train::TrainingType::Dpo;
    insta::assert_snapshot!(refused(request), @r"
    the training config cannot work:
      data.streaming: preference rows are compared with a reference before training begins: set it to false
    ");
}

/// The buffer is reckoned with before it is filled.
#[test]
fn a_stream_is_planned_by_its_longest_example() {
    let project = Project::new();
    let small = plan(streamed(&project, "out", 4)).unwrap().forecast;
    let mut request = streamed(&project, "out", 4);
    request.data.buffer_size += 1 << 20;
    let large = plan(request).unwrap().forecast;
    let added = large.memory.program as f64 - small.memory.program as f64;
    let expected = f64::from((64 * 8) << 20);
    // What the program holds changes by some pages between two plans.
    assert!((added - expected).abs() < 0.05 * expected, "{added} {expected}");
    assert_eq!(large.tokens_per_pass, 64 * 4);
    assert_eq!(large.steps, 4);
}

/// What the template marks with is no part of a message: such a row can be read, but not rendered.
#[test]
fn rows_that_cannot_be_rendered_end_a_stream_or_are_left_out() {
    let project = Project::new();
    let rows = fs::read_to_string(project.path("train.jsonl")).unwrap();
    let bad = "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"\u{F0A10}\u{10A10}\u{F0A11}\"}]}";
    fs::write(project.path("train.jsonl"), format!("{bad}\n{rows}{bad}\n")).unwrap();
    for streams in [true, false] {
        let request = |output: &str| {
            let output = format!("{output}-{streams}");
            if streams {
                streamed(&project, &output, 4)
            } else {
                let mut request = project.request(&output);
                request.max_steps = Some(4);
                request
            }
        };
        let error = run(request("listed"), None).0.unwrap_err();
        let TrainError::Data { source, .. } = &error else { panic!("{error:?}") };
        assert!(source.to_string().contains("train.jsonl:1: "), "{source}");
        let mut skipping = request("skipped");
        skipping.data.on_bad_row = parlor_text::OnBadRow::Skip;
        assert_eq!(run(skipping, None).0.unwrap().steps, 4);
    }
}
