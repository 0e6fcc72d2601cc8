//! Rows in the layouts of public data sets (`fixtures/layouts`): what is read, and the ids and masks of the reference.

use parlor_text::{
    ChatTemplate, Content, EncodeOptions, OnBadRow, OnLongRow, PreferenceOptions, Row, SourcedRow, Tokenizer,
    TrainOn, encode_preference, encode_pretraining, encode_sft, encode_unpaired, read,
};
use serde_json::{Value, json};

use crate::{fixture, json};

const OPTIONS: EncodeOptions = EncodeOptions {
    max_length: 4096,
    batch_size: 10,
    train_on: TrainOn::AssistantOnly,
    on_long_row: OnLongRow::Error,
    on_bad_row: OnBadRow::Error,
};

const PREFERENCES: PreferenceOptions = PreferenceOptions {
    max_length: 4096,
    max_prompt_length: None,
    on_bad_row: OnBadRow::Error,
    on_long_row: OnLongRow::Error,
};

/// What a row says, in the shape of the expected one.
fn said(sourced: &SourcedRow, expected: &Value) -> Value {
    let value = |content: &Content| match content {
        Content::Text(text) => json!(text),
        Content::Messages(messages) => json!(messages),
    };
    match &sourced.row {
        Row::Messages { .. } | Row::Instruction { .. } => {
            let tools =
                if expected.get("tools").is_some() { json!(sourced.inputs.tools) } else { Value::Null };
            json!({"messages": plain(&json!(sourced.row.conversation())), "tools": tools})
        }
        Row::PromptCompletion { prompt, completion } => {
            json!({"prompt": value(prompt), "completion": value(completion)})
        }
        Row::Preference { prompt, chosen, rejected } => {
            json!({"prompt": value(prompt), "chosen": value(chosen), "rejected": value(rejected)})
        }
        Row::Unpaired { prompt, completion, desirable } => {
            json!({"prompt": value(prompt), "completion": value(completion), "label": desirable})
        }
        Row::Text(text) => json!({"text": text}),
    }
}

/// Messages without what is null in them, and without weights; those that say nothing say an empty text.
fn plain(messages: &Value) -> Value {
    let message = |message: &Value| {
        let mut map = message.as_object().unwrap().clone();
        map.retain(|name, value| !value.is_null() && name != "weight");
        map.entry("content").or_insert_with(|| "".into());
        Value::Object(map)
    };
    messages.as_array().unwrap().iter().map(message).collect()
}

fn check(name: &str, file: &str, case: &Value) {
    let place = format!("{name}: {file}");
    let dataset = read(&fixture("layouts").join(file)).unwrap();
    assert_eq!(dataset.report.problems, [], "{place}");
    let rows = dataset.rows;
    let expected = case["rows"].as_array().unwrap();
    assert_eq!(rows.len(), expected.len(), "{place}");
    for (row, expected) in rows.iter().zip(expected) {
        let mut asked = expected.clone();
        asked.as_object_mut().unwrap().retain(|key, _| key != "ids" && key != "trained");
        if let Some(messages) = asked.get_mut("messages") {
            *messages = plain(messages);
        }
        assert_eq!(said(row, expected), asked, "{place}");
    }
    let model = fixture(case["model"].as_str().unwrap());
    let tokenizer = Tokenizer::from_dir(&model).unwrap();
    let template = ChatTemplate::from_dir(&model, &tokenizer).unwrap().unwrap();
    let ids = |key: &str| expected.iter().map(|row| row[key].clone()).collect::<Vec<_>>();
    match case["kind"].as_str().unwrap() {
        "conversations" | "completions" | "texts" => {
            let (examples, _) = if case["kind"] == "texts" {
                encode_pretraining(&rows, &tokenizer, Some(&template), &OPTIONS).unwrap()
            } else {
                encode_sft(&rows, &tokenizer, Some(&template), &OPTIONS).unwrap()
            };
            assert_eq!(examples.iter().map(|one| json!(one.ids)).collect::<Vec<_>>(), ids("ids"), "{place}");
            let trained =
                |weights: &[f32]| weights.iter().map(|&weight| u8::from(weight > 0.0)).collect::<Vec<_>>();
            for (example, expected) in examples.iter().zip(ids("trained")) {
                // Nothing comes before the first.
                let mut expected = expected.clone();
                expected[0] = json!(0);
                assert_eq!(json!(trained(&example.weights)), expected, "{place}");
            }
            if let Some(other) = case["with_tools"]["template"].as_str() {
                let source = std::fs::read_to_string(fixture("templates").join(other)).unwrap();
                let template = ChatTemplate::new(&source, tokenizer.special_texts()).unwrap();
                let options = EncodeOptions { train_on: TrainOn::All, ..OPTIONS };
                for (row, expected) in rows.iter().zip(case["with_tools"]["ids"].as_array().unwrap()) {
                    let row = SourcedRow { row: trained_row(&row.row), ..row.clone() };
                    let (examples, _) = encode_sft(&[row], &tokenizer, Some(&template), &options).unwrap();
                    assert_eq!(&json!(examples[0].ids), expected, "{place} with tools");
                }
            }
        }
        "preference" => {
            let (pairs, _) = encode_preference(&rows, &tokenizer, Some(&template), &PREFERENCES).unwrap();
            let found: Vec<Value> = pairs
                .iter()
                .map(|one| json!({"prompt": one.prompt, "chosen": one.chosen, "rejected": one.rejected}))
                .collect();
            assert_eq!(found, ids("ids"), "{place}");
        }
        "unpaired" => {
            let (ones, _) = encode_unpaired(&rows, &tokenizer, Some(&template), &PREFERENCES, 2).unwrap();
            let found: Vec<Value> =
                ones.iter().map(|one| json!({"prompt": one.prompt, "completion": one.completion})).collect();
            assert_eq!(found, ids("ids"), "{place}");
        }
        other => panic!("{place}: unknown kind {other}"),
    }
}

/// The row with every message trained: only its ids are asked for.
fn trained_row(row: &Row) -> Row {
    match row {
        Row::Messages { messages } => {
            let messages = serde_json::from_value(plain(&json!(messages))).unwrap();
            Row::Messages { messages }
        }
        other => other.clone(),
    }
}

#[test]
fn public_layouts_are_read_and_trained_as_the_reference_does() {
    let mut seen = 0;
    for entry in std::fs::read_dir(fixture("layouts")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(layout) = name.strip_suffix(".expected.json") {
            let case = json(&format!("layouts/{name}"));
            for file in case["files"].as_array().unwrap() {
                check(layout, file.as_str().unwrap(), &case);
                seen += 1;
            }
        }
    }
    assert!(seen >= 16, "{seen}");
}
