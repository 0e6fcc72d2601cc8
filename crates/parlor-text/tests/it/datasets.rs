//! Rows from files: every kind, every way in which a file can be wrong, with file and line.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;

use parlor_text::{BatchLimits, DataError, Dataset, ReadOptions, Row, RowKind, read_batches};
use proptest::prelude::*;

/// Reads `path` whole and in batches, which are the same.
fn read(path: &Path) -> Result<Dataset, DataError> {
    let whole = parlor_text::read(path);
    for limits in
        [BatchLimits { rows: 2, ..BatchLimits::NONE }, BatchLimits { bytes: 9, ..BatchLimits::NONE }]
    {
        let mut rows = Vec::new();
        let report = read_batches(path, &ReadOptions::default(), limits, &mut |batch| {
            assert!(!batch.is_empty() && batch.len() <= limits.rows);
            rows.extend(batch);
            ControlFlow::Continue(())
        });
        match (&whole, report) {
            (Ok(whole), Ok(report)) => assert_eq!(whole, &Dataset { rows, report }),
            (Err(one), Err(other)) => assert_eq!(one.to_string(), other.to_string()),
            (one, other) => panic!("{one:?} and {other:?}"),
        }
    }
    whole
}

#[test]
fn reading_stops_where_nobody_takes_more() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["a.jsonl", "b.jsonl"] {
        std::fs::write(directory.path().join(name), "{\"text\": \"a\"}\n".repeat(5)).unwrap();
    }
    let limits = BatchLimits { rows: 2, ..BatchLimits::NONE };
    let mut batches = 0;
    let report = read_batches(directory.path(), &ReadOptions::default(), limits, &mut |_| {
        batches += 1;
        ControlFlow::Break(())
    });
    assert_eq!((batches, report.unwrap().rows), (1, 2));
}

#[test]
fn reading_stops_at_the_problem_that_is_one_too_many() {
    let directory = tempfile::tempdir().unwrap();
    for (name, rows) in
        [("a.jsonl", "{\"text\": \"a\"}\n{}\n{\"text\": \"b\"}\n[]\n{\"text\": \"c\"}\n"), ("b.jsonl", "7\n")]
    {
        std::fs::write(directory.path().join(name), rows).unwrap();
    }
    for (problems, expected) in [(1, (1, 1, 1)), (2, (2, 2, 1)), (3, (3, 3, 2))] {
        let limits = BatchLimits { problems, ..BatchLimits::NONE };
        let mut taken = 0;
        let report = read_batches(directory.path(), &ReadOptions::default(), limits, &mut |rows| {
            taken += rows.len();
            ControlFlow::Continue(())
        });
        let report = report.unwrap();
        assert_eq!((report.rows, report.problem_count, report.files), expected);
        assert_eq!(taken, report.rows, "what is right before it is handed on");
    }
}

/// Writes `content` as `name` and reads it; problems have the directory taken out.
fn check(name: &str, content: &[u8]) -> (Vec<Row>, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(name), content).unwrap();
    let clean = |text: String| text.replace(&directory.path().display().to_string(), "DIR");
    match read(&directory.path().join(name)) {
        Ok(dataset) => {
            let problems = dataset.report.problems.iter().map(|problem| clean(problem.to_string())).collect();
            (dataset.rows.into_iter().map(|row| row.row).collect(), problems)
        }
        Err(error) => (Vec::new(), vec![clean(error.to_string())]),
    }
}

#[test]
fn every_kind_is_recognised() {
    for (line, kind) in [
        (r#"{"messages": [{"role": "user", "content": "a"}]}"#, RowKind::Messages),
        (
            r#"{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}"#,
            RowKind::Messages,
        ),
        (r#"{"instruction": "a", "input": "", "output": "b"}"#, RowKind::Instruction),
        (r#"{"instruction": "a", "output": "b"}"#, RowKind::Instruction),
        (r#"{"prompt": "a", "completion": "b"}"#, RowKind::PromptCompletion),
        (r#"{"text": "a"}"#, RowKind::Text),
        (r#"{"prompt": "a", "chosen": "b", "rejected": "c"}"#, RowKind::Preference),
        (r#"{"chosen": "ab", "rejected": "ac"}"#, RowKind::Preference),
        (r#"{"prompt": "a", "completion": "b", "label": false}"#, RowKind::Unpaired),
        (r#"{"prompt": "a", "completion": "b", "label": 1}"#, RowKind::Unpaired),
        (r#"{"prompt": "a", "completion": "b", "label": "yes"}"#, RowKind::Unpaired),
        (
            r#"{"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]}"#,
            RowKind::PromptCompletion,
        ),
    ] {
        let (rows, problems) = check("a.jsonl", line.as_bytes());
        assert_eq!((rows.len(), problems), (1, Vec::<String>::new()), "{line}");
        assert_eq!(rows[0].kind(), kind, "{line}");
        let (rows, problems) = check("a.json", format!("[\n{line},\n{line}]").as_bytes());
        assert_eq!((rows.len(), problems), (2, Vec::<String>::new()), "{line}");
    }
}

#[test]
fn preferences_that_cannot_be_used_are_named() {
    let says = |text: &str| format!(r#"[{{"role": "assistant", "content": "{text}"}}]"#);
    let asks = r#"[{"role": "user", "content": "a"}]"#;
    let (empty, full) = (says(" "), says("b"));
    let rows = [
        r#"{"prompt": "a", "chosen": "b", "rejected": "b"}"#.to_owned(),
        format!(r#"{{"prompt": {asks}, "chosen": {full}, "rejected": {full}}}"#),
        r#"{"prompt": "a", "chosen": "", "rejected": "b"}"#.to_owned(),
        format!(r#"{{"prompt": {asks}, "chosen": {full}, "rejected": {empty}}}"#),
        format!(r#"{{"prompt": 5, "chosen": {full}, "rejected": {}}}"#, says("c")),
        r#"{"chosen": "b", "rejected": "c"}"#.to_owned(),
        format!(r#"{{"chosen": {full}, "rejected": {}}}"#, says("c")),
        r#"{"prompt": "a", "chosen": "b"}"#.to_owned(),
        format!(r#"{{"prompt": {asks}, "completion": {empty}, "label": true}}"#),
        format!(r#"{{"prompt": {asks}, "completion": "b", "label": 2}}"#),
        r#"{"prompt": "a", "chosen": "b", "rejected": "c"}"#.to_owned(),
    ];
    let (good, problems) = check("a.jsonl", rows.join("\n").as_bytes());
    assert_eq!(good.len(), 1);
    insta::assert_snapshot!(problems.join("\n"), @r"
    DIR/a.jsonl:1: `chosen` and `rejected` are the same, so there is nothing to prefer
    DIR/a.jsonl:2: `chosen` and `rejected` are the same, so there is nothing to prefer
    DIR/a.jsonl:3: `chosen` is empty
    DIR/a.jsonl:4: `rejected` is empty
    DIR/a.jsonl:5: `prompt` is a number; a text or a list of messages was expected
    DIR/a.jsonl:6: `prompt` is missing, and `chosen` and `rejected` have no common beginning to take for it
    DIR/a.jsonl:7: `prompt` is missing, and `chosen` and `rejected` have no common beginning to take for it
    DIR/a.jsonl:8: `rejected` is missing
    DIR/a.jsonl:9: `completion` is empty
    DIR/a.jsonl:10: `label` is 2; true or false was expected, or 1 or 0 (where it does not say whether the answer is wanted, set `data.kind`, or `kind` of the data set, to what the rows are)
    ");
}

#[test]
fn share_gpt_names_become_roles() {
    let (rows, _) = check("a.jsonl", br#"{"system": "S", "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}"#);
    let Row::Messages { messages, .. } = &rows[0] else { panic!("{rows:?}") };
    let seen: Vec<(&str, Option<&str>)> = messages.iter().map(|m| (m.role(), m.text())).collect();
    assert_eq!(seen, [("system", Some("S")), ("user", Some("a")), ("assistant", Some("b"))]);
}

#[test]
fn bad_rows_are_all_named_with_their_line() {
    let content = r#"{"messages": [{"role": "user", "content": "a"}]}
{"messages": [{"role": "user"}]}

{"messages": []}
{"messages": "a"}
{"text": "b"}
not json
{"messages": [{"content": "a"}]}
{"messages": [{"role": "user", "content": 5}]}
[1]
{"prompt": "", "completion": "b"}
{"foo": 1}
{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}]}
{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "", "thinking": "b"}]}
"#;
    let (rows, problems) = check("a.jsonl", content.as_bytes());
    assert_eq!(rows.len(), 2);
    insta::assert_snapshot!(problems.join("\n"), @"
    DIR/a.jsonl:2: `messages[0]` has no `content`
    DIR/a.jsonl:4: `messages` is an empty list
    DIR/a.jsonl:5: `messages` is a text; a list of messages was expected
    DIR/a.jsonl:6: a row of kind `text` in a file of `messages` rows; keep one kind per file
    DIR/a.jsonl:7: not valid JSON (column 2): expected ident at line 1 column 2
    DIR/a.jsonl:8: `messages[0]` has no `role`
    DIR/a.jsonl:9: `messages[0]` has a number as `content`; a text was expected
    DIR/a.jsonl:10: the row is a list, but an object was expected
    DIR/a.jsonl:11: `prompt` is empty
    DIR/a.jsonl:12: unknown kind of row with the keys [foo]; expected `messages`, `conversations`, `instruction` and `output`, `prompt` and `completion`, `prompt`, `chosen` and `rejected`, or `text`; other names are told by `data.columns`
    DIR/a.jsonl:13: `messages[1]` is an answer of the assistant without words or calls
    ");
}

#[test]
fn bytes_that_editors_leave_are_harmless() {
    let (rows, problems) = check("a.jsonl", b"\xEF\xBB\xBF{\"text\": \"a\"}\r\n\r\n{\"text\": \"b\"}\r\n");
    assert_eq!((rows.len(), problems.len()), (2, 0));
    let (rows, _) = check("a.txt", b"\xEF\xBB\xBFone\r\ntwo\r\n");
    assert_eq!(rows, [Row::Text("one\ntwo\n".to_owned())]);
    let (rows, problems) = check("a.json", b"\xEF\xBB\xBF{\"data\": [{\"text\": \"a\"}]}");
    assert_eq!((rows.len(), problems.len()), (1, 0));
}

#[test]
fn invalid_utf8_is_placed() {
    let (rows, problems) = check("a.jsonl", b"{\"text\": \"a\"}\n{\"text\": \"\xFF\"}\n{\"text\": \"c\"}\n");
    assert_eq!(rows.len(), 2);
    insta::assert_snapshot!(problems.join("\n"), @"DIR/a.jsonl:2: not valid UTF-8; save the file as UTF-8 (`iconv -t UTF-8` converts it)");
    let (_, problems) = check("a.md", b"one\ntwo \xC3\x28\n");
    assert!(problems[0].contains("DIR/a.md:2: not valid UTF-8"), "{problems:?}");
}

#[test]
fn a_line_of_200_megabytes_is_passed_over_in_bounded_memory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("big.jsonl");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    file.write_all(b"{\"text\": \"a\"}\n{\"text\": \"").unwrap();
    let block = vec![b'x'; 1 << 20];
    for _ in 0..200 {
        file.write_all(&block).unwrap();
    }
    file.write_all(b"\"}\n{\"text\": \"c\"}\n").unwrap();
    drop(file);
    let dataset = read(&path).unwrap();
    assert_eq!(dataset.rows.len(), 2);
    assert_eq!(dataset.rows[1].source.line, 3);
    assert_eq!(dataset.report.problems[0].message, "the row has 209715212 bytes; at most 16777216 are read");
}

#[test]
fn paths_that_hold_nothing_are_explained() {
    let message = |name: &str, content: &[u8]| check(name, content).1.join("\n");
    insta::assert_snapshot!(message("a.jsonl", b""), @"DIR/a.jsonl: no usable row (every file is empty)");
    insta::assert_snapshot!(message("a.jsonl", b"\n{}\n"), @"
    DIR/a.jsonl: no usable row:
      DIR/a.jsonl:2: unknown kind of row with the keys []; expected `messages`, `conversations`, `instruction` and `output`, `prompt` and `completion`, `prompt`, `chosen` and `rejected`, or `text`; other names are told by `data.columns`
    ");
    insta::assert_snapshot!(message("a.txt", b" \n"), @"
    DIR/a.txt: no usable row:
      DIR/a.txt: the file is empty
    ");
    insta::assert_snapshot!(message("a.xlsx", b"a,b"), @"DIR/a.xlsx: `.xlsx` is not read; save it as .csv (.jsonl, .json, .csv, .tsv, .parquet, .arrow, .txt, .md, .html, .pdf and .docx)");
    insta::assert_snapshot!(message("a.gz", b""), @"DIR/a.gz: what is compressed in it? name it by its content, as `rows.jsonl.gz` (.jsonl, .json, .csv, .tsv, .parquet, .arrow, .txt, .md, .html, .pdf and .docx)");
    insta::assert_snapshot!(message("a.json", b"[{\"text\": \"a\"},\n"), @"
    DIR/a.json: no usable row:
      DIR/a.json:2: not valid JSON: EOF while parsing a value at line 2 column 0
    ");
    let error = read(Path::new("/no/such/place")).unwrap_err().to_string();
    insta::assert_snapshot!(error, @"/no/such/place: no such file or directory");
}

#[test]
fn a_directory_is_read_whole_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    std::fs::create_dir(directory.path().join("sub")).unwrap();
    write("b.jsonl", "{\"text\": \"2\"}\n");
    write("a.txt", "1");
    write("sub/c.md", "3");
    write(".hidden.txt", "no");
    write("image.png", "no");
    let dataset = read(directory.path()).unwrap();
    let texts: Vec<Row> = dataset.rows.into_iter().map(|row| row.row).collect();
    assert_eq!(texts, ["1", "2", "3"].map(|text| Row::Text(text.to_owned())));
    assert_eq!((dataset.report.files, dataset.report.ignored.len()), (3, 1));
    assert_eq!(dataset.report.kinds[&RowKind::Text], 3);
}

#[test]
fn the_bundled_data_is_clean() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets");
    for (name, least, kind) in [
        ("chat", 400, RowKind::Messages),
        ("chat_eval", 20, RowKind::Messages),
        ("documents", 60, RowKind::Text),
        ("preferences", 150, RowKind::Preference),
    ] {
        let dataset = read(&root.join(name)).unwrap();
        assert_eq!(dataset.report.problem_count, 0, "{name}: {:?}", dataset.report.problems);
        assert!(dataset.report.kinds[&kind] >= least, "{name}: {:?}", dataset.report.kinds);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(5), ..ProptestConfig::default() })]

    /// Arbitrary bytes are rows or problems, never a panic.
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), json in "[\\[\\]{}:,\"a-z0-9 \n]{0,80}") {
        for name in ["a.jsonl", "a.json", "a.txt", "a.csv", "a.tsv", "a.jsonl.gz", "a.csv.zst", "a.parquet", "a.arrow"] {
            check(name, &bytes);
            check(name, json.as_bytes());
        }
    }
}
