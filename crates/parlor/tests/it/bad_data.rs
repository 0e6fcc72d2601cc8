//! Data files as they come: odd encodings are read, bad rows are named, and nothing is started on them.

use std::io::Write;
use std::path::Path;

use crate::program::{Ended, keys, parlor};
use crate::tiny::workplace;

const ROW: &str =
    r#"{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}"#;

/// Puts `bytes` where the training data should be, and trains.
fn train(directory: &Path, bytes: &[u8], more: &[&str]) -> Ended {
    std::fs::write(directory.join("data/train.jsonl"), bytes).unwrap();
    parlor(directory, &[&["train", "--max-steps", "1"], more].concat())
}

#[test]
fn a_byte_order_mark_and_carriage_returns_are_harmless() {
    let directory = workplace();
    let text = format!("\u{FEFF}{ROW}\r\n{ROW}\r\n\r\n");
    train(directory.path(), text.as_bytes(), &[]).ok();
    let value = parlor(directory.path(), &["data", "validate", "data/train.jsonl", "--json"]).ok().json();
    assert_eq!((value["rows"].as_u64(), value["kinds"]["messages"].as_u64()), (Some(2), Some(2)));
    for key in ["files", "rows", "kinds", "problems", "trained_tokens", "total_tokens"] {
        assert!(keys(&value).contains(&key), "{key} is missing: {value}");
    }
}

#[test]
fn bad_rows_are_named_with_their_lines_and_stop_the_run() {
    let directory = workplace();
    let bad: [(&[u8], &str); 5] = [
        (b"{\"messages\": [{\"role\": \"user\"", "train.jsonl:2"),
        (b"\xFF\xFE", "UTF-8"),
        (b"{\"messages\": []}", "train.jsonl:2"),
        (b"[1, 2]", "an object was expected"),
        (b"{\"question\": \"x\"}", "train.jsonl:2"),
    ];
    for (row, word) in bad {
        let bytes = [ROW.as_bytes(), b"\n", row, b"\n", ROW.as_bytes(), b"\n"].concat();
        train(directory.path(), &bytes, &[]).refused(&[word, "data.on_bad_row"]);
        assert!(!directory.path().join("out/run.json").exists(), "nothing was started");
        let ended = parlor(directory.path(), &["data", "validate", "data", "--json"]);
        assert_eq!(ended.code, 2);
        assert_eq!(ended.json()["problems"][0]["line"], 2, "{}", ended.stdout);
        train(directory.path(), &bytes, &["--set", "data.on_bad_row=skip", "--overwrite"]).ok();
        std::fs::remove_dir_all(directory.path().join("out")).unwrap();
    }
}

#[test]
fn nothing_to_train_on() {
    let directory = workplace();
    train(directory.path(), b"", &[]).refused(&["no usable row"]);
    train(directory.path(), b"\n\n", &[]).refused(&["no usable row"]);
    std::fs::remove_file(directory.path().join("data/train.jsonl")).unwrap();
    parlor(directory.path(), &["train"]).refused(&["train.jsonl", "no such file"]);
    parlor(directory.path(), &["data", "validate", "data/none"]).refused(&["none"]);
    std::fs::create_dir(directory.path().join("data/dir")).unwrap();
    parlor(directory.path(), &["data", "validate", "data/dir"]).refused(&["empty"]);
    std::fs::write(directory.path().join("data/dir/table.xlsx"), "x").unwrap();
    parlor(directory.path(), &["data", "validate", "data/dir"]).refused(&["xlsx", "save it as .csv"]);
    // Named evaluation data must exist.
    let directory = workplace();
    parlor(directory.path(), &["train", "--set", "data.eval_data_path=./nowhere"]).refused(&["nowhere"]);
}

#[test]
fn a_line_of_two_hundred_megabytes_is_named_and_passed_over() {
    let directory = workplace();
    let path = directory.path().join("data/train.jsonl");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    file.write_all(b"{\"text\": \"").unwrap();
    let block = vec![b'a'; 1 << 20];
    (0..200).for_each(|_| file.write_all(&block).unwrap());
    writeln!(file, "\"}}\n{ROW}").unwrap();
    drop(file);
    let ended = parlor(directory.path(), &["data", "validate", "data/train.jsonl", "--json"]);
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    let value = ended.json();
    assert_eq!(value["rows"], 1);
    assert_eq!(value["problems"][0]["line"], 1);
    assert!(value["problems"][0]["message"].as_str().unwrap().contains("209715"), "{value}");
    parlor(directory.path(), &["train"]).refused(&["train.jsonl:1", "data.on_bad_row"]);
    std::fs::remove_file(path).unwrap();
}
