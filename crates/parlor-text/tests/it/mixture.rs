//! Mixtures by weights and rows kept for evaluation: HF's rules, and the same rows for the same seed.

use std::sync::Arc;

use parlor_text::{
    DataConfig, DatasetConfig, Row, RowSource, SourcedRow, StoppingStrategy, TemplateInputs, data_problems,
    mix, split,
};
use proptest::prelude::*;

fn set(name: &str, rows: usize) -> Vec<SourcedRow> {
    let file = Arc::new(name.into());
    let row = |line| SourcedRow {
        row: Row::Text(format!("{name}{line}")),
        inputs: TemplateInputs::default(),
        source: RowSource { file: Arc::clone(&file), line },
    };
    (1..=rows).map(row).collect()
}

fn names(rows: &[SourcedRow]) -> String {
    let text = |row: &SourcedRow| match &row.row {
        Row::Text(text) => text.clone(),
        other => format!("{other:?}"),
    };
    rows.iter().map(text).collect::<Vec<_>>().join(" ")
}

/// The order must never change: a resumed run goes on in it.
#[test]
fn the_same_seed_gives_the_same_rows() {
    let mixed = |strategy, seed| names(&mix(vec![set("a", 4), set("b", 8)], &[1.0, 3.0], strategy, seed));
    insta::assert_snapshot!(mixed(StoppingStrategy::FirstExhausted, 42), @"b1 b2 b3 b4 b5 b6 b7 b8");
    insta::assert_snapshot!(mixed(StoppingStrategy::FirstExhausted, 43), @"b1 b2 b3 b4 b5 a1 b6 b7 b8");
    insta::assert_snapshot!(mixed(StoppingStrategy::AllExhausted, 42), @"b1 b2 b3 b4 b5 b6 b7 b8 b1 a1 a2 a3 b2 b3 b4 b5 b6 b7 b8 b1 b2 b3 b4 b5 b6 b7 b8 b1 a4");
    let (train, eval) = split(set("r", 10), 0.25, 42).unwrap();
    insta::assert_snapshot!(format!("{} | {}", names(&train), names(&eval)), @"r1 r2 r3 r4 r5 r8 r9 | r6 r7 r10");
}

#[test]
fn weights_are_shares() {
    // 40000 draws: the share of a set of weight 0.2 has a standard deviation of sqrt(0.2 * 0.8 / 40000) = 0.002.
    let sets = vec![set("a", 100_000), set("b", 100_000), set("c", 30_000)];
    let mixed = mix(sets, &[0.2, 0.2, 0.6], StoppingStrategy::FirstExhausted, 1);
    let mixed = &mixed[..40_000];
    for (name, share) in [("a", 0.2), ("b", 0.2), ("c", 0.6)] {
        let drawn = mixed.iter().filter(|row| row.source.file.to_str() == Some(name)).count();
        assert!((drawn as f64 / 40_000.0 - share).abs() < 0.01, "{name}: {drawn}");
    }
}

proptest! {
    #[test]
    fn a_mixture_ends_where_hf_says(a in 1..40usize, b in 0..40usize, weight in 0.1..10.0f64, seed: u64) {
        let sets = || vec![set("a", a), set("b", b)];
        let count = |rows: &[SourcedRow], name: &str| {
            rows.iter().filter(|row| row.source.file.to_str() == Some(name)).count()
        };
        let first = mix(sets(), &[1.0, weight], StoppingStrategy::FirstExhausted, seed);
        let last = first.last().unwrap().source.file.to_str().unwrap();
        prop_assert_eq!(count(&first, last), if last == "a" { a } else { b }, "the last row uses its set up");
        prop_assert!(count(&first, "a") <= a && count(&first, "b") <= b);
        let all = mix(sets(), &[1.0, weight], StoppingStrategy::AllExhausted, seed);
        prop_assert!(count(&all, "a") >= a && count(&all, "b") >= b, "every row is there");
        prop_assert_eq!(&all[..first.len()], &first[..], "both begin alike");
        // Each set's rows come in their order, again and again.
        for (name, size) in [("a", a), ("b", b)] {
            let lines = all.iter().filter(|row| row.source.file.to_str() == Some(name)).map(|row| row.source.line);
            for (index, line) in lines.enumerate() {
                prop_assert_eq!(line, index % size + 1);
            }
        }
    }

    #[test]
    fn kept_rows_are_never_trained_on(rows in 2..60usize, val_size in 0.01..0.9f64, seed: u64) {
        // As `train_test_split`: the share is rounded up.
        let kept = (val_size * rows as f64).ceil() as usize;
        match split(set("r", rows), val_size, seed) {
            Ok((train, eval)) => {
                prop_assert_eq!((train.len(), eval.len()), (rows - kept, kept));
                let mut lines: Vec<usize> = train.iter().chain(&eval).map(|row| row.source.line).collect();
                prop_assert!(train.is_sorted_by_key(|row| row.source.line) && eval.is_sorted_by_key(|row| row.source.line));
                lines.sort_unstable();
                prop_assert_eq!(lines, (1..=rows).collect::<Vec<_>>());
            }
            Err(_) => prop_assert_eq!(kept, rows),
        }
    }
}

#[test]
fn a_number_of_rows_may_be_kept() {
    let (train, eval) = split(set("r", 10), 3.0, 1).unwrap();
    assert_eq!((train.len(), eval.len()), (7, 3));
    let error = split(set("r", 3), 3.0, 1).unwrap_err().to_string();
    insta::assert_snapshot!(error, @"`data.val_size` is 3, which keeps 3 of 3 rows for evaluation and leaves none to train on");
}

#[test]
fn settings_that_contradict_are_named() {
    let check = |change: &dyn Fn(&mut DataConfig)| {
        let mut config = DataConfig::default();
        change(&mut config);
        let lines: Vec<String> =
            data_problems(&config).into_iter().map(|(key, why)| format!("{key}: {why}")).collect();
        lines.join("\n")
    };
    let named =
        |path: &str, weight| DatasetConfig { path: path.to_owned(), weight, ..DatasetConfig::default() };
    assert_eq!(check(&|_| ()), "");
    assert_eq!(check(&|c| c.datasets = vec![named("a", Some(0.5)), named("b", Some(1.0))]), "");
    insta::assert_snapshot!(check(&|c| {
        c.datasets = vec![named("a", Some(1.0)), named(" ", None), named("c", Some(-1.0))];
        c.train_data_path = "x".to_owned();
        c.max_samples = Some(3);
    }), @"
    data.datasets: `data.train_data_path` is set too; name it as one of the data sets, or leave one out
    data.max_samples: it is for `data.train_data_path`; give each of `data.datasets` its own
    data.datasets.1.path: it is empty; name a file or a directory
    data.datasets.1.weight: it is missing; others have one: give all a weight, or none
    data.datasets.2.weight: it must be a number above 0
    ");
    insta::assert_snapshot!(check(&|c| c.val_size = 1.5), @"data.val_size: from 1 on it is a number of rows, which must be whole; below 1 it is a share");
    insta::assert_snapshot!(check(&|c| c.val_size = -0.5), @"data.val_size: it must be a share below 1, or a number of rows");
    insta::assert_snapshot!(check(&|c| {
        c.val_size = 0.1;
        c.eval_data_path = "x".to_owned();
    }), @"data.val_size: `data.eval_data_path` is set too; leave one of them out");
}
