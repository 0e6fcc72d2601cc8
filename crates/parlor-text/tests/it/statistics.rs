//! What rows are like: lengths and rows that are the same.

use parlor_text::{Lengths, characters, duplicates, read};
use proptest::prelude::*;

#[test]
fn rows_that_are_the_same_are_found_across_files() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("a.jsonl"),
        "{\"text\": \"x\"}\n{\"text\": \"y\"}\n{\"text\": \"x\"}\n",
    )
    .unwrap();
    std::fs::write(directory.path().join("b.csv"), "text,id\ny,1\nz,2\nx,3\n").unwrap();
    let rows = read(directory.path()).unwrap().rows;
    let found: Vec<(String, String)> = duplicates(&rows)
        .into_iter()
        .map(|found| {
            let name = |source: parlor_text::RowSource| {
                format!("{}:{}", source.file.file_name().unwrap().to_string_lossy(), source.line)
            };
            (name(found.row), name(found.first))
        })
        .collect();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        found,
        [pair("a.jsonl:3", "a.jsonl:1"), pair("b.csv:2", "a.jsonl:2"), pair("b.csv:4", "a.jsonl:1")]
    );
}

#[test]
fn characters_are_counted_not_bytes() {
    let counts = |kind: &str| -> Vec<usize> {
        let path = crate::fixture("data").join(format!("{kind}.jsonl"));
        read(&path).unwrap().rows.iter().map(|row| characters(&row.row)).collect()
    };
    assert_eq!(counts("text"), [17, 12, 300]);
    assert_eq!(counts("unpaired"), [7, 14]);
    assert_eq!(counts("preference"), [17, 23]);
    assert_eq!(counts("sharegpt"), [8, 15]);
}

proptest! {
    #[test]
    fn lengths_are_those_of_a_sorted_list(mut lengths in prop::collection::vec(0..5000usize, 1..80)) {
        let found = Lengths::of(lengths.clone()).unwrap();
        lengths.sort_unstable();
        prop_assert_eq!((found.min, found.max), (lengths[0], lengths[lengths.len() - 1]));
        prop_assert!(lengths.contains(&found.median) && found.median <= found.p95);
        prop_assert_eq!(found.histogram.iter().map(|(_, count)| count).sum::<usize>(), lengths.len());
        for (index, (start, count)) in found.histogram.iter().enumerate() {
            let end = found.histogram.get(index + 1).map_or(usize::MAX, |(next, _)| *next);
            prop_assert_eq!(lengths.iter().filter(|&&length| length >= *start && length < end).count(), *count);
        }
    }
}
