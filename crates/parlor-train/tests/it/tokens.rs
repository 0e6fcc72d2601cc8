//! Tokens that are kept: the file's round trip, its damage, and runs that use what an earlier one kept.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use parlor_text::{Example, RowSource};
use parlor_train::examples_sha256;
use parlor_train::objectives::CrossEntropy;
use parlor_train::{Run, Sequence, Start, TokenFile, TokenFileWriter, TrainEvent};
use proptest::prelude::*;

use crate::run::{Project, run};
use crate::tiny;

fn write(path: &Path, examples: &[Example]) -> TokenFile {
    let mut writer = TokenFileWriter::create(path).unwrap();
    examples.iter().for_each(|example| writer.push(example));
    writer.finish("as said").unwrap()
}

fn back(file: TokenFile) -> Vec<Example> {
    let example =
        |one: &Sequence| Example { ids: one.ids().to_vec(), weights: one.weights(), source: one.source() };
    let sequences = Sequence::all_of(file);
    for one in &sequences {
        assert_eq!(one.tokens(), one.ids().len());
        assert_eq!(one.targets(), one.weights().iter().skip(1).filter(|&&weight| weight != 0.0).count());
    }
    sequences.iter().map(example).collect()
}

fn examples() -> impl Strategy<Value = Vec<Example>> {
    let weight = prop_oneof![Just(0.0f32), Just(1.0), -2.0..2.0f32];
    let tokens = prop::collection::vec((any::<u32>(), weight), 0..40);
    let one = (tokens, 0..3usize, 0..usize::MAX).prop_map(|(tokens, file, line)| {
        let (ids, weights) = tokens.into_iter().unzip();
        let file = Arc::new(format!("rows {file}.jsonl").into());
        Example { ids, weights, source: RowSource { file, line } }
    });
    prop::collection::vec(one, 0..20)
}

proptest! {
    #[test]
    fn what_is_written_is_read(examples in examples()) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens/some.tokens");
        let written = write(&path, &examples);
        let read = TokenFile::open(&path).unwrap().unwrap();
        prop_assert_eq!(read.writer::<String>().unwrap(), "as said");
        let owned: Vec<Sequence> = examples.iter().cloned().map(Sequence::from).collect();
        prop_assert_eq!(read.sha256(), examples_sha256(&CrossEntropy, &owned));
        prop_assert_eq!(&back(written), &examples);
        prop_assert_eq!(back(read), examples);
        let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
        prop_assert_eq!(names.len(), 1, "nothing is left beside the file");
    }

    #[test]
    fn no_damage_goes_unseen(examples in examples(), place: prop::sample::Index, bit in 0..8u8, cut: bool) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("some.tokens");
        drop(write(&path, &examples));
        let mut bytes = fs::read(&path).unwrap();
        let place = place.index(bytes.len());
        if cut { bytes.truncate(place) } else { bytes[place] ^= 1 << bit }
        fs::write(&path, bytes).unwrap();
        prop_assert!(TokenFile::open(&path).is_err());
    }
}

/// Trains from the start in `out`; returns notes, warnings and weights.
fn train(project: &Project, vocab_size: usize) -> (Vec<String>, Vec<String>, Vec<u8>) {
    let mut request = project.request("out");
    request.training.from_scratch.vocab_size = vocab_size;
    request.start = Start::Overwrite;
    let mut notes = Vec::new();
    let prepared = Run::prepare_observed(request.clone(), &mut |event| {
        if let TrainEvent::Note(text) = event {
            notes.push(text);
        }
    });
    let warnings = prepared.unwrap().warnings().to_vec();
    run(request, None).0.unwrap();
    let clean = |texts: Vec<String>| {
        let home = project.path("").display().to_string();
        texts.into_iter().map(|text| text.replace(&home, "")).collect()
    };
    (clean(notes), clean(warnings), fs::read(project.path("out/model.safetensors")).unwrap())
}

#[test]
fn a_second_run_uses_the_tokens_of_the_first_and_ends_the_same() {
    let project = Project::new();
    let (notes, warnings, first) = train(&project, 300);
    assert_eq!((notes, warnings), (Vec::new(), Vec::new()));
    let file = fs::read(project.path("out/tokens/train.tokens")).unwrap();
    let (notes, warnings, second) = train(&project, 300);
    assert_eq!(
        notes,
        [
            "using the tokens of out/tokens/train.tokens (24 examples)",
            "using the tokens of out/tokens/eval.tokens (4 examples)"
        ]
    );
    assert!(warnings.is_empty() && first == second);
    assert_eq!(fs::read(project.path("out/tokens/train.tokens")).unwrap(), file);
}

#[test]
fn tokens_of_another_tokenizer_or_text_are_made_anew_and_that_is_said() {
    let project = Project::new();
    let (_, _, expected) = train(&project, 300);
    train(&project, 270);
    let (notes, warnings, weights) = train(&project, 300);
    assert!(notes.is_empty() && weights == expected);
    insta::assert_snapshot!(warnings.join("\n"), @r"
    out/tokens/train.tokens: these tokens were made with another tokenizer; the text is tokenised anew
    out/tokens/eval.tokens: these tokens were made with another tokenizer; the text is tokenised anew
    ");
    let mut rows = fs::read_to_string(project.path("train.jsonl")).unwrap();
    rows = rows.lines().rev().map(|row| format!("{row}\n")).collect();
    fs::write(project.path("train.jsonl"), rows).unwrap();
    let (notes, warnings, weights) = train(&project, 300);
    assert_eq!(notes, ["using the tokens of out/tokens/eval.tokens (4 examples)"]);
    assert!(weights != expected, "other rows, another model");
    insta::assert_snapshot!(warnings.join("\n"), @"out/tokens/train.tokens: these tokens were made with other files; the text is tokenised anew");
}

#[test]
fn damaged_tokens_are_made_anew_and_that_is_said() {
    let project = Project::new();
    let (_, _, expected) = train(&project, 300);
    let path = project.path("out/tokens/train.tokens");
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    for damaged in [whole[..whole.len() - 5].to_vec(), whole[..10].to_vec(), Vec::new(), flipped] {
        fs::write(&path, damaged).unwrap();
        let (notes, warnings, weights) = train(&project, 300);
        assert!(weights == expected);
        assert_eq!(notes.len(), 1, "those to evaluate on are whole");
        assert!(
            warnings[0].contains("out/tokens/train.tokens: it") && warnings[0].ends_with("tokenised anew"),
            "{warnings:?}"
        );
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}

/// Files of more than 32 MiB are read in pieces; most of these are a column that nobody reads.
#[test]
fn rows_that_are_read_in_pieces_are_the_rows_that_are_held() {
    let check = |val_size: f64| {
        let weights = ["", &"x".repeat(1 << 20)].map(|padding| {
            let project = Project::new();
            let rows = (0..40).map(|n| {
                let row = serde_json::json!({"prompt": format!("{n} and one"), "completion": format!("is {}", n + 1), "about": padding});
                format!("{row}\n")
            });
            fs::write(project.path("train.jsonl"), rows.collect::<String>()).unwrap();
            let mut request = project.request("out");
            request.data.val_size = val_size;
            let (summary, _) = run(request, None);
            (summary.unwrap().eval_loss, fs::read(project.path("out/model.safetensors")).unwrap())
        });
        assert!(weights[0] == weights[1], "val_size {val_size}");
    };
    check(0.0);
    check(0.2);
}

#[test]
fn a_sequence_counts_what_follows_something() {
    let sequence = Sequence::from(tiny::example(vec![1, 2, 3, 4], vec![1.0, 0.0, 0.5, 1.0], 1));
    assert_eq!((sequence.tokens(), sequence.targets()), (4, 2));
}
