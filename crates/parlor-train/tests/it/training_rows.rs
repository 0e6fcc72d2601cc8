//! Rows of one path or of several data sets, and those kept for evaluation.

use std::path::Path;

use parlor_text::{Columns, DataConfig, DatasetConfig, Row, StoppingStrategy};
use parlor_train::read_training_rows;

/// Writes `a.jsonl` (6 rows), `b.csv` (4 rows under their own names) and returns the rows of `change`d settings.
fn check(change: &dyn Fn(&Path, &mut DataConfig)) -> Result<(Vec<String>, Vec<String>), String> {
    let directory = tempfile::tempdir().unwrap();
    let a: String = (0..6).map(|row| format!("{{\"text\": \"a{row}\"}}\n")).collect();
    let b: String = (0..4).map(|row| format!("b{row}\n")).collect();
    std::fs::write(directory.path().join("a.jsonl"), a).unwrap();
    std::fs::write(directory.path().join("b.csv"), format!("body\n{b}")).unwrap();
    let mut data = DataConfig { train_data_path: text(directory.path(), "a.jsonl"), ..DataConfig::default() };
    change(directory.path(), &mut data);
    let clean = |text: String| text.replace(&directory.path().display().to_string(), "DIR");
    let rows = read_training_rows(&data).map_err(|error| clean(error.to_string()))?;
    let texts = |rows: Vec<parlor_text::SourcedRow>| {
        let text = |row| match row {
            Row::Text(text) => text,
            other => panic!("{other:?}"),
        };
        rows.into_iter().map(|row| text(row.row)).collect()
    };
    Ok((texts(rows.train.rows), texts(rows.eval)))
}

fn text(directory: &Path, name: &str) -> String {
    directory.join(name).to_string_lossy().into_owned()
}

fn both(directory: &Path, data: &mut DataConfig) {
    let columns = Columns { text: Some("body".to_owned()), ..Columns::default() };
    let set = |name| DatasetConfig { path: text(directory, name), ..DatasetConfig::default() };
    data.datasets = vec![set("a.jsonl"), DatasetConfig { columns, ..set("b.csv") }];
}

#[test]
fn data_sets_stand_one_after_another_or_are_mixed() {
    let (rows, _) = check(&both).unwrap();
    assert_eq!(rows, ["a0", "a1", "a2", "a3", "a4", "a5", "b0", "b1", "b2", "b3"]);
    let mixed = |strategy| {
        let weigh = |directory: &Path, data: &mut DataConfig| {
            both(directory, data);
            data.datasets[0].weight = Some(1.0);
            data.datasets[1].weight = Some(2.0);
            data.stopping_strategy = strategy;
        };
        check(&weigh).unwrap().0
    };
    let first = mixed(StoppingStrategy::FirstExhausted);
    let all = mixed(StoppingStrategy::AllExhausted);
    assert_eq!(first, mixed(StoppingStrategy::FirstExhausted));
    assert!(first.ends_with(&["b3".to_owned()]) && first.len() < 10, "{first:?}");
    assert!(all.starts_with(&first) && all.contains(&"a5".to_owned()), "{all:?}");
}

#[test]
fn rows_are_kept_for_evaluation_before_they_are_mixed() {
    let keep = |directory: &Path, data: &mut DataConfig| {
        both(directory, data);
        data.val_size = 0.25;
        data.datasets[0].weight = Some(1.0);
        data.datasets[1].weight = Some(1.0);
        data.stopping_strategy = StoppingStrategy::AllExhausted;
    };
    let (train, eval) = check(&keep).unwrap();
    // A quarter of 6 and of 4, rounded up.
    assert_eq!(eval.iter().filter(|row| row.starts_with('a')).count(), 2);
    assert_eq!(eval.iter().filter(|row| row.starts_with('b')).count(), 1);
    assert!(eval.iter().all(|row| !train.contains(row)), "{train:?} {eval:?}");
    let error = check(&|_, data| data.val_size = 6.0).unwrap_err();
    insta::assert_snapshot!(error, @"DIR/a.jsonl: `data.val_size` is 6, which keeps 6 of 6 rows for evaluation and leaves none to train on");
}

#[test]
fn only_so_many_rows_of_a_data_set() {
    let (rows, _) = check(&|_, data| data.max_samples = Some(2)).unwrap();
    assert_eq!(rows, ["a0", "a1"]);
    let one_each = |directory: &Path, data: &mut DataConfig| {
        both(directory, data);
        data.datasets.iter_mut().for_each(|set| set.max_samples = Some(1));
    };
    assert_eq!(check(&one_each).unwrap().0, ["a0", "b0"]);
}
