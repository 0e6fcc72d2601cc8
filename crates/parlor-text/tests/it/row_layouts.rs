//! Layouts of rows that other tools publish: what is made of each column, and what is said of those that nothing is made of.

use parlor_text::{Columns, Content, DataReport, Message, ReadOptions, Row, RowKind, SourcedRow, read_with};
use serde_json::{Value, json};

/// Reads `content` as a file `name`.
fn read(name: &str, content: &[u8], options: &ReadOptions) -> Result<(Vec<SourcedRow>, DataReport), String> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(name), content).unwrap();
    let clean = |text: String| text.replace(&format!("{}/", directory.path().display()), "");
    match read_with(&directory.path().join(name), options) {
        Ok(dataset) => {
            let problems: Vec<String> =
                dataset.report.problems.iter().map(|problem| clean(problem.to_string())).collect();
            if problems.is_empty() { Ok((dataset.rows, dataset.report)) } else { Err(problems.join("\n")) }
        }
        Err(error) => Err(clean(error.to_string()).replace(&format!("{name}: no usable row:\n  "), "")),
    }
}

/// The only row of a `.jsonl` file.
fn row(row: &Value) -> SourcedRow {
    let (mut rows, _) = read("a.jsonl", row.to_string().as_bytes(), &ReadOptions::default())
        .unwrap_or_else(|why| panic!("{row}: {why}"));
    assert_eq!(rows.len(), 1);
    rows.remove(0)
}

fn refused(row: &Value) -> String {
    read("a.jsonl", row.to_string().as_bytes(), &ReadOptions::default()).err().unwrap_or_default()
}

/// What the report says of columns, without directories.
fn not_used(row: &Value, options: &ReadOptions) -> String {
    let (_, report) = read("a.jsonl", row.to_string().as_bytes(), options).unwrap();
    let lines: Vec<String> =
        report.not_used_lines().map(|line| line.rsplit_once('/').unwrap().1.to_owned()).collect();
    lines.join("\n")
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn assistant(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}

fn says(content: &Content) -> Value {
    match content {
        Content::Text(text) => json!(text),
        Content::Messages(messages) => json!(messages),
    }
}

/// Prompt, better answer and worse answer of a pair.
fn pair(value: &Value) -> Value {
    match row(value).row {
        Row::Preference { prompt, chosen, rejected } => {
            json!([says(&prompt), says(&chosen), says(&rejected)])
        }
        other => panic!("{value}: {other:?}"),
    }
}

fn single(value: &Value) -> Value {
    match row(value).row {
        Row::Unpaired { prompt, completion, desirable } => {
            json!([says(&prompt), says(&completion), desirable])
        }
        other => panic!("{value}: {other:?}"),
    }
}

fn conversation(value: &Value) -> Value {
    json!(row(value).row.conversation().unwrap())
}

const BRIEF: &str = "Be brief.";

fn system() -> Value {
    json!({"role": "system", "content": BRIEF})
}

#[test]
fn template_inputs_are_kept_in_every_kind_of_row() {
    let (prompt, good, bad) = (json!([user("Q")]), json!([assistant("A")]), json!([assistant("B")]));
    let rows = [
        json!({"messages": [user("Q"), assistant("A")]}),
        json!({"prompt": prompt, "completion": good}),
        json!({"prompt": prompt, "chosen": good, "rejected": bad}),
        json!({"prompt": prompt, "completion": good, "label": true}),
        json!({"instruction": "Q", "output": "A"}),
    ];
    let (tool, kwargs) = (
        json!({"type": "function", "function": {"name": "f"}}),
        json!({"enable_thinking": false, "level": 12}),
    );
    for mut value in rows {
        assert!(row(&value).inputs.is_empty());
        // As they are, or as JSON in texts, at any depth.
        for (tools, kwargs) in [
            (json!([tool]), kwargs.clone()),
            (json!([tool]).to_string().into(), kwargs.to_string().into()),
            (json!([tool.to_string()]), kwargs.clone()),
        ] {
            value["tools"] = tools;
            value["chat_template_kwargs"] = kwargs;
            value["documents"] = json!([{"title": "T"}]);
            let inputs = row(&value).inputs;
            assert_eq!(inputs.tools, Some(vec![tool.clone()]), "{value}");
            assert_eq!(
                Value::Object(inputs.chat_template_kwargs),
                json!({"enable_thinking": false, "level": 12})
            );
            assert_eq!(inputs.documents, Some(vec![json!({"title": "T"})]));
        }
        // What is empty is as good as absent.
        for nothing in [json!([]), json!("[]"), json!(""), json!(" "), Value::Null] {
            for column in ["tools", "documents", "chat_template_kwargs"] {
                value[column] = nothing.clone();
            }
            if nothing.as_str() != Some("[]") {
                assert!(row(&value).inputs.is_empty(), "{value}");
            }
            value["chat_template_kwargs"] = json!("{}");
            assert!(row(&value).inputs.is_empty(), "{value}");
        }
    }
    // ShareGPT's and Alpaca's tools get OpenAI's wrapper, those of messages stay as they are.
    for (mut value, wrapped) in [
        (json!({"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}), true),
        (json!({"instruction": "Q", "output": "A"}), true),
        (json!({"messages": [user("Q"), assistant("A")]}), false),
    ] {
        value["tools"] = json!([{"name": "f"}]);
        let expected = if wrapped { tool.clone() } else { json!({"name": "f"}) };
        assert_eq!(row(&value).inputs.tools, Some(vec![expected]), "{value}");
    }
    let wrong = [
        json!({"messages": [user("Q")], "tools": "no"}),
        json!({"messages": [user("Q")], "tools": [3]}),
        json!({"messages": [user("Q")], "tools": {"name": "f"}}),
        json!({"messages": [user("Q")], "chat_template_kwargs": [1]}),
        json!({"messages": [user("Q")], "chat_template_kwargs": {"add_generation_prompt": true}}),
    ];
    insta::assert_snapshot!(wrong.iter().map(refused).collect::<Vec<_>>().join("\n"));
}

#[test]
fn the_question_of_a_pair_is_found() {
    let alpaca = json!({"instruction": "Capital of Kenya?", "input": "", "chosen": "The capital is Nairobi.", "rejected": "The capital is Mombasa."});
    let (good, bad) =
        (json!([assistant("The capital is Nairobi.")]), json!([assistant("The capital is Mombasa.")]));
    assert_eq!(pair(&alpaca), json!([[user("Capital of Kenya?")], good, bad]));
    let mut with = alpaca.clone();
    with["input"] = json!("One word.");
    with["system"] = json!(BRIEF);
    with["history"] = json!([["Hi", "Hello"]]);
    let lead = [system(), user("Hi"), assistant("Hello"), user("Capital of Kenya?\nOne word.")];
    assert_eq!(pair(&with), json!([lead, good, bad]));
    let orca = json!({"system": BRIEF, "question": "Q?", "chosen": "The a", "rejected": "The b"});
    assert_eq!(pair(&orca), json!([[system(), user("Q?")], [assistant("The a")], [assistant("The b")]]));
    // A file of chats has rows without a system prompt.
    let orca = json!({"system": "", "question": "Q?", "chosen": "The a", "rejected": "The b"});
    assert_eq!(pair(&orca), json!([[user("Q?")], [assistant("The a")], [assistant("The b")]]));
    let plain = json!({"question": "Q?", "chosen": " a", "rejected": " b"});
    assert_eq!(pair(&plain), json!(["Q?", " a", " b"]));
    // A column that may be the prompt is not passed over; one that cannot be it is.
    let other = json!({"ask": "What is it?", "chosen": "It is a", "rejected": "It is b"});
    insta::assert_snapshot!(refused(&other), @"a.jsonl:1: `prompt` is missing; if `ask` is the prompt, name it by `data.columns` (with `chosen` and `rejected`), else leave that column out");
    let other = json!({"source": "web", "chosen": "Q: it? A: a", "rejected": "Q: it? A: b"});
    assert_eq!(pair(&other), json!(["Q: it? A:", " a", " b"]));
}

#[test]
fn a_prompt_that_its_answers_repeat_is_said_once() {
    let (q, a, b) = (user("Name a fruit."), assistant("Apple."), assistant("Carrot."));
    let expected = json!([[q], [a], [b]]);
    let text = "Name a fruit.";
    let turn = |from: &str, value: &str| json!({"from": from, "value": value});
    for value in [
        json!({"prompt": [q], "chosen": [a], "rejected": [b]}),
        json!({"prompt": [q], "chosen": a, "rejected": b}),
        json!({"prompt": [q], "chosen": "Apple.", "rejected": "Carrot."}),
        json!({"prompt": [q], "chosen": [q, a], "rejected": [q, b]}),
        json!({"chosen": [q, a], "rejected": [q, b]}),
        json!({"prompt": text, "chosen": [q, a], "rejected": [q, b]}),
        json!({"prompt": text, "chosen": [a], "rejected": [b]}),
        json!({"prompt": text, "prompt_id": "1", "chosen": [q, a], "rejected": [q, b], "messages": [q, a], "score_chosen": 8.0}),
        json!({"chosen": [q, a], "rejected": [q, b], "messages": [q, a]}),
        json!({"conversations": [turn("human", text)], "chosen": turn("gpt", "Apple."), "rejected": turn("gpt", "Carrot.")}),
        json!({"messages": [q], "chosen": a, "rejected": b}),
    ] {
        assert_eq!(pair(&value), expected, "{value}");
        assert!(!not_used(&value, &ReadOptions::default()).contains("messages"), "{value}");
    }
    let whole = |answer: &str| format!("Human: Fruit?\n\nAssistant:{answer}");
    let value = json!({"prompt": whole(""), "chosen": whole(" Apple."), "rejected": whole(" Carrot.")});
    assert_eq!(pair(&value), json!([whole(""), " Apple.", " Carrot."]));
    // One word may begin both by chance.
    let value = json!({"prompt": "No", "chosen": "Nobody", "rejected": "None"});
    assert_eq!(pair(&value), json!(["No", "Nobody", "None"]));
    // The system prompt of its own column comes first.
    let value = json!({"system": BRIEF, "conversations": [turn("human", text)], "chosen": turn("gpt", "Apple."), "rejected": turn("gpt", "Carrot.")});
    assert_eq!(pair(&value), json!([[system(), q], [a], [b]]));
    let wrong = [
        json!({"prompt": "Something else", "chosen": [q, a], "rejected": [q, b]}),
        json!({"prompt": [q], "chosen": [q, a], "rejected": [b]}),
        json!({"messages": [q, assistant("Wait.")], "chosen": a, "rejected": b}),
        json!({"prompt": [q], "chosen": [{"role": "assistant", "content": "Apple.", "weight": 0}], "rejected": [b]}),
    ];
    insta::assert_snapshot!(wrong.iter().map(refused).collect::<Vec<_>>().join("\n"));
}

#[test]
fn turns_of_their_own_columns_come_before_the_request() {
    let value = json!({"instruction": "And twice that?", "input": "", "output": "Twelve.", "system": BRIEF, "history": [["Two times three?", "Six."]]});
    let expected = json!([
        system(),
        user("Two times three?"),
        assistant("Six."),
        user("And twice that?"),
        assistant("Twelve.")
    ]);
    assert_eq!(conversation(&value), expected);
    let value = json!({"system": BRIEF, "prompt": [user("Hello")], "completion": [assistant("Bonjour")]});
    assert_eq!(conversation(&value), json!([system(), user("Hello"), assistant("Bonjour")]));
    let value = json!({"system": BRIEF, "prompt": "Hello", "completion": "Bonjour"});
    assert_eq!(conversation(&value), json!([system(), user("Hello"), assistant("Bonjour")]));
    let value = json!({"system": BRIEF, "messages": [user("Hello"), assistant("Hi")]});
    assert_eq!(conversation(&value), json!([system(), user("Hello"), assistant("Hi")]));
    let value = json!({"instruction": "Add", "input": "1 2", "output": "3", "system": null, "history": []});
    assert_eq!(conversation(&value), json!([user("Add\n1 2"), assistant("3")]));
    // The conversation's own system prompt goes first; the other is named.
    let value = json!({"system": "Other.", "messages": [system(), user("Hello"), assistant("Hi")]});
    assert_eq!(conversation(&value), json!([system(), user("Hello"), assistant("Hi")]));
    insta::assert_snapshot!(not_used(&value, &ReadOptions::default()), @"a.jsonl:1: `system` is not used: a row of this kind is not made of it");
    let wrong = [
        json!({"instruction": "a", "output": "b", "history": [["only"]]}),
        json!({"instruction": "a", "output": "b", "history": "not a list"}),
        json!({"instruction": "a", "output": "b", "system": 3}),
        json!({"instruction": "", "input": " ", "output": "b"}),
    ];
    insta::assert_snapshot!(wrong.iter().map(refused).collect::<Vec<_>>().join("\n"));
}

#[test]
fn a_label_is_read_in_all_its_spellings_or_refused() {
    let labelled = |label: Value| json!({"prompt": "Say hi.", "completion": "Hi!", "label": label});
    for good in [json!(true), json!(1), json!(1.0), json!("true"), json!("True"), json!("yes"), json!("1")] {
        assert_eq!(single(&labelled(good)), json!(["Say hi.", "Hi!", true]));
    }
    for bad in [json!(false), json!(0), json!(0.0), json!("false"), json!("No"), json!("0.0")] {
        assert_eq!(single(&labelled(bad)), json!(["Say hi.", "Hi!", false]));
    }
    let wrong = [Value::Null, json!(-1), json!(0.5), json!("news"), json!([true]), json!("")].map(labelled);
    insta::assert_snapshot!(wrong.iter().map(refused).collect::<Vec<_>>().join("\n"));
    // In a table the column is there where the label is not.
    let (rows, _) =
        read("a.csv", b"prompt,completion,label\nSay hi.,Hi!,1.0\nSay hi.,No,0.0\n", &ReadOptions::default())
            .unwrap();
    assert!(rows.iter().all(|row| row.row.kind() == RowKind::Unpaired));
    let why =
        read("a.csv", b"prompt,completion,label\nSay hi.,Hi!,1.0\nSay hi.,No,\n", &ReadOptions::default());
    assert!(why.unwrap_err().starts_with("a.csv:3: `label` is empty"));
    // LLaMA-Factory's layouts.
    let expected = json!([[user("Say hi.")], [assistant("Go away.")], false]);
    for value in [
        json!({"messages": [user("Say hi."), assistant("Go away.")], "label": false}),
        json!({"messages": [user("Say hi."), assistant("Go away.")], "kto_tag": false}),
        json!({"instruction": "Say hi.", "input": "", "output": "Go away.", "kto_tag": false}),
    ] {
        assert_eq!(single(&value), expected);
    }
    // Unless the kind is told, or the row has no answer to judge; and that is said.
    let options = ReadOptions { kind: Some(RowKind::PromptCompletion), ..ReadOptions::default() };
    insta::assert_snapshot!(not_used(&labelled(json!("news")), &options), @"a.jsonl:1: `label` is not used: a row of this kind is not made of it");
    insta::assert_snapshot!(not_used(&json!({"text": "a", "label": 3}), &ReadOptions::default()), @"a.jsonl:1: `label` is not used: a row of this kind is not made of it");
}

#[test]
fn parts_of_text_are_the_text_and_other_parts_are_refused() {
    let part = |text: &str| json!({"type": "text", "text": text});
    let value = json!({"messages": [
        {"role": "user", "content": [part("Name "), part("a fruit.")]},
        {"role": "assistant", "content": ["Apple", {"type": "text", "text": ".", "image_url": null}]},
    ]});
    assert_eq!(conversation(&value), json!([user("Name a fruit."), assistant("Apple.")]));
    let parts = [
        json!({"type": "image_url", "image_url": {"url": "x"}}),
        json!({"image": "x"}),
        json!({"type": "text"}),
        json!(3),
    ];
    let wrong = parts.map(|part| json!({"messages": [{"role": "user", "content": [part]}]}));
    insta::assert_snapshot!(wrong.iter().map(refused).collect::<Vec<_>>().join("\n"));
    insta::assert_snapshot!(refused(&json!({"messages": [user("<image>")], "images": ["a.png"]})), @"a.jsonl:1: `images` holds what is not text; only text is trained on: leave such rows, or the column, out");
    assert_eq!(conversation(&json!({"messages": [user("a")], "images": []})), json!([user("a")]));
}

#[test]
fn messages_say_whether_they_are_trained() {
    let trained = |fields: &str| {
        let text = format!(r#"{{"role": "assistant", "content": "a"{fields}}}"#);
        Message::from_value(serde_json::from_str(&text).unwrap()).unwrap().is_trained()
    };
    for (fields, expected) in [
        ("", true),
        (r#", "weight": 1"#, true),
        (r#", "weight": 0"#, false),
        (r#", "weight": 0.0"#, false),
        (r#", "train": false"#, false),
        (r#", "train": true"#, true),
        (r#", "training": false"#, false),
        (r#", "loss": false"#, false),
        (r#", "masked": true"#, false),
        (r#", "masked": false"#, true),
        (r#", "weight": null"#, true),
    ] {
        assert_eq!(trained(fields), expected, "{fields}");
    }
    let with = |name: &str, value: Value| {
        let mut message = assistant("a");
        message[name] = value;
        json!({"messages": [user("q"), message]})
    };
    let mut asked = user("q");
    asked["train"] = json!(true);
    let wrong = [
        with("weight", json!(0.5)),
        with("weight", json!("0")),
        with("train", json!("no")),
        with("train_detail", json!([{"begin_offset": 0, "end_offset": 1, "train": false}])),
        json!({"messages": [asked, assistant("a")]}),
    ];
    insta::assert_snapshot!(wrong.iter().map(refused).collect::<Vec<_>>().join("\n"));
}

#[test]
fn columns_that_nothing_is_made_of_are_listed_once() {
    let lines = [
        json!({"id": 1, "messages": [user("a"), assistant("b")], "source": "web", "prompt": "a", "empty": ""}),
        json!({"id": 2, "messages": [user("a"), assistant("b")], "text": "a b", "prompt": "other"}),
    ];
    let content = lines.map(|line| line.to_string()).join("\n");
    let (_, report) = read("a.jsonl", content.as_bytes(), &ReadOptions::default()).unwrap();
    let lines: Vec<String> =
        report.not_used_lines().map(|line| line.rsplit_once('/').unwrap().1.to_owned()).collect();
    insta::assert_snapshot!(lines.join("\n"), @"
    a.jsonl:2: `text` is not used: a row of this kind is not made of it
    a.jsonl:2: `prompt` is not used: a row of this kind is not made of it
    a.jsonl: not used: `id`, `source`
    ");
    let columns = Columns { text: Some("body".to_owned()), ..Columns::default() };
    let options = ReadOptions { columns, ..ReadOptions::default() };
    insta::assert_snapshot!(not_used(&json!({"body": "a", "title": "b", "system": "c"}), &options), @"
    a.jsonl:1: `system` is not used: `data.columns` does not name it
    a.jsonl: not used: `title`
    ");
    // Plain text has no place for what a template would see.
    let value = json!({"prompt": "a", "completion": "b", "tools": [{"name": "f"}]});
    insta::assert_snapshot!(not_used(&value, &ReadOptions::default()), @"a.jsonl:1: `tools` is not used: a row of this kind is not made of it");
    // Columns of tables that are not even read.
    let report = parlor_text::read(&crate::fixture("data/texts_dictionary.parquet")).unwrap().report;
    assert_eq!(report.unused[0].columns, ["number"]);
    let report = parlor_text::read(&crate::fixture("data/texts_dictionary.feather")).unwrap().report;
    assert_eq!(report.unused[0].columns, ["number"]);
}

#[test]
fn values_of_arrow_s_json_type_are_what_they_say() {
    let of = |name: &str| {
        let dataset = parlor_text::read(&crate::fixture("data").join(name)).unwrap();
        assert_eq!(dataset.report.problems, []);
        let rows = dataset.rows.into_iter();
        rows.map(|row| (row.row, row.inputs)).collect::<Vec<_>>()
    };
    let expected = of("mixed.jsonl");
    assert_eq!(expected.len(), 2);
    assert_eq!(of("mixed.parquet"), expected);
    assert_eq!(of("mixed.arrow"), expected);
}

#[test]
fn files_of_spreadsheets_are_read() {
    let read = |name: &str, content: &[u8]| read(name, content, &ReadOptions::default());
    let expected = json!([user("Add, please\n1; 2"), assistant("3")]);
    for content in [
        "\u{feff}instruction;input;output;note\r\n\"Add, please\";\"1; 2\";3;NaN\r\n",
        "sep=;\r\ninstruction;input;output\r\n\"Add, please\";\"1; 2\";3\r\n",
        "instruction\tinput\toutput\n\"Add, please\"\t1; 2\t3\n",
        "instruction,input,output\n\"Add, please\",1; 2,3\n",
    ] {
        let (rows, report) = read("a.csv", content.as_bytes()).unwrap();
        assert_eq!(json!(rows[0].row.conversation()), expected, "{content}");
        assert_eq!(report.not_used_lines().count(), 0, "{content}");
    }
    let (rows, _) = read("a.csv", b"instruction,input,output\nAdd,NaN,3\nAdd,,4\n").unwrap();
    assert!(rows.iter().all(|row| row.row.conversation().unwrap()[0].text() == Some("Add")));
    let why = read("a.csv", b"sep=;\nprompt;completion\na;NaN\n").unwrap_err();
    insta::assert_snapshot!(why, @"a.csv:3: `completion` is empty");
}

#[test]
fn names_that_say_another_layout_are_seen_through() {
    let read = |name: &str, content: &[u8]| read(name, content, &ReadOptions::default());
    let lines = b"{\"prompt\": \"a\", \"completion\": \"b\"}\n\n{\"prompt\": \"c\", \"completion\": \"d\"}\n";
    let (rows, _) = read("lines.json", lines).unwrap();
    assert_eq!(rows.iter().map(|row| row.source.line).collect::<Vec<_>>(), [1, 3]);
    let (rows, _) = read("list.jsonl", b"\n[\n{\"text\": \"a\"},\n{\"text\": \"b\"}\n]\n").unwrap();
    assert_eq!(rows.iter().map(|row| row.source.line).collect::<Vec<_>>(), [3, 4]);
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    for (name, content) in [
        ("a.txt", utf16("Plain text.\nTwo lines.\n")),
        ("a.md", utf16("\u{41f}\u{440}\u{438}\u{432}\u{435}\u{442} \u{43c}\u{438}\u{440}\n")),
        ("a.jsonl", utf16("{\"text\": \"a\"}\n")),
        ("a.csv", utf16("text\na\n")),
        ("a.json", utf16("[{\"text\": \"a\"}]")),
    ] {
        let why = read(name, &content).unwrap_err();
        assert!(why.contains("not valid UTF-8; save the file as UTF-8"), "{name}: {why}");
    }
}

#[test]
fn numbers_keep_their_digits() {
    let digits = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
    let call = |arguments: &str| {
        let call =
            format!(r#"[{{"type": "function", "function": {{"name": "f", "arguments": {arguments}}}}}]"#);
        let line = format!(
            r#"{{"messages": [{{"role": "user", "content": "q"}}, {{"role": "assistant", "content": "", "tool_calls": {call}}}]}}"#
        );
        let (rows, _) = read("a.jsonl", line.as_bytes(), &ReadOptions::default()).unwrap();
        json!(rows[0].row.conversation()).pointer("/1/tool_calls/0/function/arguments").unwrap().to_string()
    };
    let written = format!(
        r#"{{"a":{digits},"b":-{digits},"c":-9223372036854775809,"d":12345678901234567890,"e":1.0}}"#
    );
    assert_eq!(call(&written), written);
    assert_eq!(call("[-0,-0.0,1E5,1e-7]"), "[-0,-0.0,1e+5,1e-7]");
    // A text is that text, whatever it says.
    let text = r#""{\"x\": 1.10,  \"y\": [2.50]}""#;
    assert_eq!(call(text), text);
    assert_eq!(call(r#""not JSON""#), r#""not JSON""#);
}
