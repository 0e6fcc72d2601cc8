//! Rows whose columns and roles have names of their own, kinds that are told, and limits on their number.

use parlor_text::{Columns, ReadOptions, Row, RowKind, Tags, read_with};

/// Reads `content` as a file `name`; the rows, and the problems without the directory.
fn check(name: &str, content: &str, options: &ReadOptions) -> (Vec<Row>, String) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(name), content).unwrap();
    let clean = |text: String| text.replace(&directory.path().display().to_string(), "DIR");
    match read_with(&directory.path().join(name), options) {
        Ok(dataset) => {
            let lines: Vec<String> = dataset.report.problems.iter().map(ToString::to_string).collect();
            (dataset.rows.into_iter().map(|row| row.row).collect(), clean(lines.join("\n")))
        }
        Err(error) => (Vec::new(), clean(error.to_string())),
    }
}

fn own(name: &str) -> Option<String> {
    Some(name.to_owned())
}

#[test]
fn columns_are_found_by_their_own_names() {
    let usual = check("a.jsonl", r#"{"prompt": "q", "completion": "a"}"#, &ReadOptions::default()).0;
    let columns = Columns { prompt: own("question"), completion: own("answer"), ..Columns::default() };
    let options = ReadOptions { columns, ..ReadOptions::default() };
    for (name, content) in [
        ("a.jsonl", r#"{"question": "q", "answer": "a", "text": "not read", "messages": 3}"#),
        ("a.json", r#"[{"answer": "a", "question": "q"}]"#),
        ("a.csv", "id,answer,question\n7,a,q\n"),
        ("a.tsv", "answer\tquestion\na\tq\n"),
    ] {
        assert_eq!(check(name, content, &options), (usual.clone(), String::new()), "{name}");
    }
    let (_, problems) = check("a.jsonl", r#"{"prompt": "q", "answer": "a"}"#, &options);
    insta::assert_snapshot!(problems, @"
    DIR/a.jsonl: no usable row:
      DIR/a.jsonl:1: there is no `question`, which `columns.prompt` names; the row has [prompt, answer]
    ");
    // A label and messages in the cells of a table, under other names.
    let columns =
        Columns { prompt: own("asked"), completion: own("said"), label: own("good"), ..Columns::default() };
    let table = "asked,said,good\n\"[{\"\"role\"\": \"\"user\"\", \"\"content\"\": \"\"q\"\"}]\",\"[{\"\"role\"\": \"\"assistant\"\", \"\"content\"\": \"\"a\"\"}]\",true\n";
    let (rows, problems) = check("a.csv", table, &ReadOptions { columns, ..ReadOptions::default() });
    assert_eq!((rows[0].kind(), problems.as_str()), (RowKind::Unpaired, ""));
}

#[test]
fn a_kind_that_is_told_is_believed() {
    let row = r#"{"prompt": "q", "completion": "a", "label": true, "text": "t"}"#;
    for kind in [RowKind::PromptCompletion, RowKind::Unpaired, RowKind::Text] {
        let options = ReadOptions { kind: Some(kind), ..ReadOptions::default() };
        assert_eq!(check("a.jsonl", row, &options).0[0].kind(), kind);
    }
    let options = ReadOptions { kind: Some(RowKind::Preference), ..ReadOptions::default() };
    insta::assert_snapshot!(check("a.jsonl", row, &options).1, @"
    DIR/a.jsonl: no usable row:
      DIR/a.jsonl:1: `chosen` is missing
    ");
    let options = ReadOptions { kind: Some(RowKind::Unpaired), ..ReadOptions::default() };
    let row = r#"{"prompt": "q", "completion": "a", "label": "maybe"}"#;
    insta::assert_snapshot!(check("a.jsonl", row, &options).1, @r#"
    DIR/a.jsonl: no usable row:
      DIR/a.jsonl:1: `label` is the text "maybe"; true or false was expected, or 1 or 0 (where it does not say whether the answer is wanted, set `data.kind`, or `kind` of the data set, to what the rows are)
    "#);
}

#[test]
fn only_so_many_rows_are_read() {
    let options = ReadOptions { max_samples: Some(2), ..ReadOptions::default() };
    for (name, content) in [
        ("a.jsonl", "{\"text\": \"1\"}\n\n{\"text\": \"2\"}\nbad\n{\"text\": \"3\"}\n"),
        ("a.json", r#"[{"text": "1"}, {"text": "2"}, {"text": "3"}]"#),
        ("a.csv", "text\n1\n2\n3\n"),
    ] {
        let (rows, problems) = check(name, content, &options);
        assert_eq!(rows, [Row::Text("1".to_owned()), Row::Text("2".to_owned())], "{name}");
        assert_eq!(problems, "", "{name}");
    }
    let file = crate::fixture("data/texts_snappy.parquet");
    assert_eq!(read_with(&file, &options).unwrap().rows.len(), 2);
    let file = crate::fixture("data/text.arrow");
    assert_eq!(read_with(&file, &options).unwrap().rows.len(), 2);
}

/// The messages of the only row, as JSON.
fn messages(content: &str, tags: Tags) -> String {
    let (rows, problems) = check("a.jsonl", content, &ReadOptions { tags, ..ReadOptions::default() });
    match rows.first() {
        Some(Row::Messages { messages, .. }) => serde_json::to_string(messages).unwrap(),
        _ => problems,
    }
}

#[test]
fn roles_are_found_by_their_own_names() {
    let tags = Tags {
        role_tag: own("speaker"),
        content_tag: own("words"),
        user_tag: own("customer"),
        assistant_tag: own("clerk"),
        ..Tags::default()
    };
    let row = r#"{"messages": [{"speaker": "system", "words": "S"}, {"speaker": "customer", "words": "a"}, {"speaker": "clerk", "words": "b"}]}"#;
    insta::assert_snapshot!(messages(row, tags.clone()), @r#"[{"role":"system","content":"S"},{"role":"user","content":"a"},{"role":"assistant","content":"b"}]"#);
    let row = r#"{"messages": [{"speaker": "bystander", "words": "a"}]}"#;
    insta::assert_snapshot!(messages(row, tags.clone()), @"
    DIR/a.jsonl: no usable row:
      DIR/a.jsonl:1: `messages[0]` has `speaker: bystander`; expected human, gpt, system or tool, or name it in `tags`
    ");
    let row = r#"{"messages": [{"role": "user", "content": "a"}]}"#;
    insta::assert_snapshot!(messages(row, tags), @"
    DIR/a.jsonl: no usable row:
      DIR/a.jsonl:1: `messages[0]` has no `speaker`
    ");
    // OpenAI's keys with role names of their own; what is not named stays as it is.
    let tags = Tags { user_tag: own("person"), ..Tags::default() };
    let row = r#"{"messages": [{"role": "person", "content": "a"}, {"role": "developer", "content": "b"}]}"#;
    insta::assert_snapshot!(messages(row, tags), @r#"[{"role":"user","content":"a"},{"role":"developer","content":"b"}]"#);
}

#[test]
fn calls_of_tools_take_openai_s_shape() {
    let row = r#"{"conversations": [{"from": "human", "value": "?"}, {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"x\": 1}}"}, {"from": "observation", "value": "2"}, {"from": "gpt", "value": "It is 2"}], "tools": "[{\"name\": \"f\"}]"}"#;
    insta::assert_snapshot!(messages(row, Tags::default()), @r#"[{"role":"user","content":"?"},{"role":"assistant","content":"","tool_calls":[{"type":"function","function":{"name":"f","arguments":{"x":1}}}]},{"role":"tool","content":"2"},{"role":"assistant","content":"It is 2"}]"#);
    let row = r#"{"messages": [{"role": "assistant", "content": null, "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}, {"name": "g", "arguments": ""}]}]}"#;
    insta::assert_snapshot!(messages(row, Tags::default()), @r#"[{"role":"assistant","content":null,"tool_calls":[{"type":"function","function":{"name":"f","arguments":"{\"x\": 1}"}},{"name":"g","arguments":""}]}]"#);
    let bad = [
        r#"{"conversations": [{"from": "function_call", "value": "[3]"}]}"#,
        r#"{"messages": [{"role": "assistant", "tool_calls": "f()"}]}"#,
        r#"{"messages": [{"role": "assistant", "content": null, "tool_calls": null}]}"#,
        r#"{"conversations": [{"from": "function_call", "value": "f(1)"}]}"#,
        r#"{"conversations": [{"from": "function_call", "value": "{\"arguments\": {}}"}]}"#,
        r#"{"messages": [{"role": "user", "content": "a"}], "tools": "no"}"#,
    ];
    let problems: Vec<String> = bad.iter().map(|row| messages(row, Tags::default())).collect();
    insta::assert_snapshot!(problems.join("\n"), @"
    DIR/a.jsonl: no usable row:
      DIR/a.jsonl:1: `conversations[0]` is a function call that is not an object with `name` and `arguments`
    DIR/a.jsonl: no usable row:
      DIR/a.jsonl:1: `messages[0]` has a text as `tool_calls`; a list was expected
    DIR/a.jsonl: no usable row:
      DIR/a.jsonl:1: `messages[0]` has null as `content`; a text was expected
    DIR/a.jsonl: no usable row:
      DIR/a.jsonl:1: `conversations[0]` is a function call, but its content is not JSON: expected ident at line 1 column 2
    DIR/a.jsonl: no usable row:
      DIR/a.jsonl:1: `conversations[0]` is a function call without a `name`
    DIR/a.jsonl: no usable row:
      DIR/a.jsonl:1: `tools` is a text that is not a JSON list: expected ident at line 1 column 2
    ");
}
