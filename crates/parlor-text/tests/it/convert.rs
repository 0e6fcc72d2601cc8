//! Rows as rows of another kind, read back.

use parlor_text::{ConvertTo, Row, SourcedRow, convert, read, write_rows};

use crate::fixture;

const ALL: [ConvertTo; 8] = [
    ConvertTo::Same,
    ConvertTo::Messages,
    ConvertTo::Conversations,
    ConvertTo::Instruction,
    ConvertTo::PromptCompletion,
    ConvertTo::Preference,
    ConvertTo::Unpaired,
    ConvertTo::Text,
];

fn rows(name: &str) -> Vec<SourcedRow> {
    read(&fixture("data").join(name)).unwrap().rows
}

/// The rows as JSON Lines, or the first reason why not.
fn converted(rows: &[SourcedRow], to: ConvertTo) -> Result<String, String> {
    let lines = rows.iter().map(|row| convert(row, to));
    Ok(lines.collect::<Result<Vec<_>, _>>()?.concat().iter().map(|row| format!("{row}\n")).collect())
}

fn read_back(lines: &str) -> Vec<Row> {
    sourced(lines).into_iter().map(|row| row.row).collect()
}

fn sourced(lines: &str) -> Vec<SourcedRow> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rows.jsonl");
    std::fs::write(&path, lines).unwrap();
    let dataset = read(&path).unwrap();
    assert_eq!(dataset.report.problems, []);
    dataset.rows
}

#[test]
fn rows_are_read_back_as_they_were() {
    for kind in [
        "messages",
        "sharegpt",
        "alpaca",
        "prompt_completion",
        "preference",
        "preference_chat",
        "unpaired",
        "text",
    ] {
        let before = rows(&format!("{kind}.jsonl"));
        let after = read_back(&converted(&before, ConvertTo::Same).unwrap());
        assert_eq!(after, before.iter().map(|row| row.row.clone()).collect::<Vec<_>>(), "{kind}");
    }
    // Both forms of a conversation say the same.
    let before = rows("sharegpt.jsonl");
    let there = read_back(&converted(&before, ConvertTo::Conversations).unwrap());
    assert_eq!(there, read_back(&converted(&before, ConvertTo::Messages).unwrap()));
}

#[test]
fn every_kind_to_every_other() {
    let mut all = String::new();
    for kind in
        ["messages", "alpaca", "prompt_completion", "preference", "preference_chat", "unpaired", "text"]
    {
        for to in ALL {
            let rows = rows(&format!("{kind}.jsonl"));
            let first = converted(&rows[..1], to).unwrap_or_else(|why| format!("! {why}\n"));
            all.push_str(&format!("{kind} -> {to:?}\n{first}"));
        }
    }
    insta::assert_snapshot!(all);
}

#[test]
fn calls_of_tools_survive_both_ways() {
    let before = rows("messages.jsonl");
    let turns = converted(&before[2..], ConvertTo::Conversations).unwrap();
    insta::assert_snapshot!(turns, @r#"{"conversations":[{"from":"human","value":"Weather?"},{"from":"function_call","value":"[{\"name\":\"weather\",\"arguments\":{\"city\":\"Łódź\"},\"id\":\"call_1\"}]"},{"from":"observation","value":"rain","tool_call_id":"call_1"},{"from":"gpt","value":"It rains."}],"tools":[{"type":"function","function":{"name":"weather","description":"The weather of a city","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}}]}"#);
    let after = sourced(&turns);
    let Row::Messages { messages } = &after[0].row else { panic!() };
    assert_eq!((messages.len(), &after[0].inputs), (4, &before[2].inputs));
}

#[test]
fn written_files_are_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let rows: Vec<serde_json::Value> =
        (0..5).map(|row| serde_json::json!({ "text": format!("é\n{row}") })).collect();
    for name in ["a.jsonl", "a.json", "a.jsonl.gz", "a.json.gz", "a.jsonl.zst"] {
        let path = directory.path().join(name);
        let size = write_rows(&path, rows.iter().cloned()).unwrap();
        assert_eq!(size, std::fs::metadata(&path).unwrap().len(), "{name}");
        let dataset = read(&path).unwrap();
        assert_eq!((dataset.rows.len(), dataset.report.problem_count), (5, 0), "{name}");
        assert!(write_rows(&path, rows.iter().cloned()).is_err(), "an existing file stays");
    }
    assert!(write_rows(&directory.path().join("a.parquet"), rows.into_iter()).is_err());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 5, "nothing else is left");
}
