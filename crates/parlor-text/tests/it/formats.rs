//! Every kind of row from every format, in files that pandas, pyarrow and datasets wrote; and damaged ones.

use std::io::Write;
use std::path::Path;

use parlor_text::{Dataset, Row, RowKind, read};

use crate::fixture;

fn rows(dataset: Dataset) -> Vec<Row> {
    dataset.rows.into_iter().map(|row| row.row).collect()
}

fn fixture_rows(name: &str) -> Vec<Row> {
    let dataset = read(&fixture("data").join(name)).unwrap();
    assert_eq!(dataset.report.problems, [], "{name}");
    rows(dataset)
}

/// Writes `bytes` as `name`, reads it, and returns the rows and the problems without the directory.
fn check(name: &str, bytes: &[u8]) -> (usize, String) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(name), bytes).unwrap();
    let clean = |text: String| text.replace(&directory.path().display().to_string(), "DIR");
    match read(&directory.path().join(name)) {
        Ok(dataset) => {
            let lines: Vec<String> = dataset.report.problems.iter().map(ToString::to_string).collect();
            (dataset.rows.len(), clean(lines.join("\n")))
        }
        Err(error) => (0, clean(error.to_string())),
    }
}

#[test]
fn every_kind_is_the_same_in_every_format() {
    for (kind, expected) in [
        ("messages", RowKind::Messages),
        ("sharegpt", RowKind::Messages),
        ("alpaca", RowKind::Instruction),
        ("prompt_completion", RowKind::PromptCompletion),
        ("preference", RowKind::Preference),
        ("preference_chat", RowKind::Preference),
        ("unpaired", RowKind::Unpaired),
        ("text", RowKind::Text),
    ] {
        let reference = fixture_rows(&format!("{kind}.jsonl"));
        assert!(reference.len() >= 2 && reference.iter().all(|row| row.kind() == expected), "{reference:?}");
        for format in ["json", "jsonl.gz", "jsonl.zst", "csv", "tsv", "parquet", "feather", "arrow"] {
            assert_eq!(fixture_rows(&format!("{kind}.{format}")), reference, "{kind}.{format}");
        }
    }
}

#[test]
fn texts_are_read_however_they_are_stored_and_compressed() {
    let expected: Vec<Row> =
        (0..8).map(|number| Row::Text(format!("Text {number}, that is repeated"))).collect();
    for stored in ["large_string", "string_view", "binary", "dictionary"] {
        assert_eq!(fixture_rows(&format!("texts_{stored}.parquet")), expected, "{stored}");
        assert_eq!(fixture_rows(&format!("texts_{stored}.feather")), expected, "{stored}");
    }
    for codec in ["none", "snappy", "gzip", "lz4", "zstd", "pandas"] {
        assert_eq!(fixture_rows(&format!("texts_{codec}.parquet")), expected, "{codec}");
    }
}

#[test]
fn patterns_and_directories() {
    let count = |pattern: &str| fixture_rows(pattern).len();
    assert_eq!(count("texts_*.parquet"), 80);
    assert_eq!(count("text.*"), 27);
    assert_eq!(count("../data/alp?ca.[ct]sv"), 6);
    assert_eq!(count("../**/unpaired.jsonl*"), 6);
    let error = read(Path::new("/no/such/*.jsonl")).unwrap_err().to_string();
    insta::assert_snapshot!(error, @"/no/such/*.jsonl: no file matches the pattern");
    let error = read(Path::new("/no/such/[.jsonl")).unwrap_err().to_string();
    insta::assert_snapshot!(error, @"/no/such/[.jsonl: not a pattern of file names: Pattern syntax error near position 9: invalid range pattern");
    // What `save_to_disk` writes beside the rows is not rows.
    let directory = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("data/text.arrow"), directory.path().join("data-00000-of-00001.arrow")).unwrap();
    for name in ["state.json", "dataset_info.json"] {
        std::fs::write(directory.path().join(name), "{\"features\": {}}").unwrap();
    }
    let dataset = read(directory.path()).unwrap();
    assert_eq!((dataset.rows.len(), dataset.report.problem_count, dataset.report.ignored.len()), (3, 0, 2));
    // A name that looks like a pattern, and exists.
    std::fs::write(directory.path().join("a[1].jsonl"), "{\"text\": \"a\"}").unwrap();
    assert_eq!(read(&directory.path().join("a[1].jsonl")).unwrap().rows.len(), 1);
}

#[test]
fn tables_with_bad_rows_name_their_lines() {
    let table = "prompt,completion\na,b\n\nc\n\"d\ne\",f\ng,h,i\n,j\nk,\"l\nm\"\n";
    let (rows, problems) = check("a.csv", table.as_bytes());
    assert_eq!(rows, 3);
    insta::assert_snapshot!(problems, @"
    DIR/a.csv:4: 1 fields; the header has 2 (prompt, completion). Put a field that holds a separator or a line break in double quotes
    DIR/a.csv:7: 3 fields; the header has 2 (prompt, completion). Put a field that holds a separator or a line break in double quotes
    DIR/a.csv:8: `prompt` is empty
    ");
    let (rows, problems) =
        check("a.tsv", b"\xEF\xBB\xBFprompt\tcompletion\tlabel\r\na\tb, c\tTrue\r\nd\te\t0\r\n");
    assert_eq!((rows, problems.as_str()), (2, ""));
    insta::assert_snapshot!(check("a.csv", b"text,text\na,b\n").1, @"
    DIR/a.csv: no usable row:
      DIR/a.csv:1: the header has two columns `text`
    ");
    insta::assert_snapshot!(check("a.csv", b"text\na\n\xFF\n").1, @"DIR/a.csv:3: not valid UTF-8; save the file as UTF-8 (`iconv -t UTF-8` converts it)");
    insta::assert_snapshot!(check("a.csv", b"text").1, @"DIR/a.csv: no usable row (every file is empty)");
    insta::assert_snapshot!(check("a.csv", b"").1, @"DIR/a.csv: no usable row (every file is empty)");
    insta::assert_snapshot!(check("a.csv", b"messages\n\"[{'role': 'user', 'content': 'a'}]\"\n").1, @"
    DIR/a.csv: no usable row:
      DIR/a.csv:2: `messages` is not JSON: key must be a string at line 1 column 3; a list of messages was expected, written as JSON
    ");
    // A quote that is never closed, in a file that is larger than a row may be.
    let open = ["text\na\n\"".as_bytes(), &vec![b'x'; 17 << 20]].concat();
    let (rows, problems) = check("a.csv", &open);
    assert_eq!(rows, 1);
    insta::assert_snapshot!(problems, @"DIR/a.csv:3: the row has more than 16777216 bytes; is a double quote in it never closed?");
}

#[test]
fn damaged_compression_is_named() {
    let whole = std::fs::read(fixture("data/text.jsonl.gz")).unwrap();
    insta::assert_snapshot!(check("a.jsonl.gz", &whole[..whole.len() / 2]).1, @"
    DIR/a.jsonl.gz: no usable row:
      DIR/a.jsonl.gz:1: the gzip file is damaged: it ends in the middle
    ");
    insta::assert_snapshot!(check("a.jsonl.gz", b"{\"text\": \"a\"}\n").1, @"
    DIR/a.jsonl.gz: no usable row:
      DIR/a.jsonl.gz:1: the gzip file is damaged: invalid gzip header
    ");
    let whole = std::fs::read(fixture("data/text.jsonl.zst")).unwrap();
    insta::assert_snapshot!(check("a.jsonl.zst", &whole[..whole.len() / 2]).1, @"
    DIR/a.jsonl.zst: no usable row:
      DIR/a.jsonl.zst:1: the zstd file is damaged: it ends in the middle
    ");
    insta::assert_snapshot!(check("a.jsonl.zst", b"{\"text\": \"a\"}\n").1, @"
    DIR/a.jsonl.zst: no usable row:
      DIR/a.jsonl.zst:1: the zstd file is damaged: Unknown frame descriptor
    ");
    // 300 MB of zeros in a few hundred KB: one row, which is too long, and is never held.
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let zeros = vec![b'0'; 1 << 20];
    (0..300).for_each(|_| bomb.write_all(&zeros).unwrap());
    insta::assert_snapshot!(check("a.jsonl.gz", &bomb.finish().unwrap()).1, @"
    DIR/a.jsonl.gz: no usable row:
      DIR/a.jsonl.gz:1: the row has 314572800 bytes; at most 16777216 are read
    ");
}

#[test]
fn a_damaged_page_names_its_row_group_and_the_others_are_read() {
    let mut bytes = std::fs::read(fixture("data/texts_snappy.parquet")).unwrap();
    // Within the first data page: its checksum no longer fits.
    bytes[60] ^= 0x10;
    let (rows, problems) = check("a.parquet", &bytes);
    assert_eq!(rows, 4);
    insta::assert_snapshot!(problems, @"DIR/a.parquet:1: row group 1 of 2 (rows 1 to 4): Parquet argument error: Parquet error: Page CRC checksum mismatch");
    insta::assert_snapshot!(check("a.parquet", b"PAR1 no").1, @"
    DIR/a.parquet: no usable row:
      DIR/a.parquet: not a readable Parquet file: EOF: Parquet file too small. Size is 7 but need 8
    ");
    insta::assert_snapshot!(check("a.parquet", &bytes[..bytes.len() - 9]).1, @"
    DIR/a.parquet: no usable row:
      DIR/a.parquet: not a readable Parquet file: Parquet error: Invalid Parquet file. Corrupt footer
    ");
    let whole = std::fs::read(fixture("data/text.arrow")).unwrap();
    insta::assert_snapshot!(check("a.arrow", &whole[..whole.len() - 100]).1, @"
    DIR/a.arrow: no usable row:
      DIR/a.arrow:1: record batch 1, from row 1 on: it ends in the middle: 352 bytes were expected, 260 are there
    ");
    insta::assert_snapshot!(check("a.arrow", b"FEA1____").1, @"
    DIR/a.arrow: no usable row:
      DIR/a.arrow: not a readable Arrow file: it is Feather version 1; write it anew as version 2 (`pyarrow.feather.write_feather`)
    ");
    insta::assert_snapshot!(check("a.arrow", b"ARROW1").1, @"DIR/a.arrow: no usable row (every file is empty)");
    insta::assert_snapshot!(check("a.arrow", b"").1, @"
    DIR/a.arrow: no usable row:
      DIR/a.arrow: not a readable Arrow file: it is empty
    ");
}

/// Any flipped bit is other rows or a problem, never the end of the program.
#[test]
fn tables_survive_any_flipped_bit() {
    for name in [
        "messages.parquet",
        "texts_dictionary.parquet",
        "texts_zstd.parquet",
        "preference_chat.feather",
        "unpaired.arrow",
        "texts_dictionary.feather",
    ] {
        let whole = std::fs::read(fixture("data").join(name)).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            check(name, &bytes);
        }
        for cut in (0..whole.len()).step_by(7) {
            check(name, &whole[..cut]);
        }
    }
}
