//! Preference data: the ids of TRL's trainers (`fixtures/trl/rows.json`), and what is refused.

use parlor_text::{
    ChatTemplate, EncodeOptions, EncodeReport, OnBadRow, OnLongRow, PreferenceOptions, SourcedRow, Tokenizer,
    TrainOn, encode_preference, encode_sft, encode_unpaired, read,
};
use serde_json::{Value, json};

use crate::{chat_model, fixture, json};

/// Rows through a file, as users have them.
fn rows(values: &[Value]) -> Vec<SourcedRow> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rows.jsonl");
    std::fs::write(&path, values.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
    let dataset = read(&path).unwrap();
    assert_eq!(dataset.report.problems, []);
    dataset.rows
}

fn text_side(case: &Value) -> (Tokenizer, Option<ChatTemplate>) {
    let directory = fixture(case["tokenizer"].as_str().unwrap());
    let tokenizer = Tokenizer::from_dir(&directory).unwrap();
    let template = match case["template"].as_str() {
        Some(name) => {
            let source = std::fs::read_to_string(fixture("templates").join(name)).unwrap();
            Some(ChatTemplate::new(&source, tokenizer.special_texts()).unwrap())
        }
        None => ChatTemplate::from_dir(&directory, &tokenizer).unwrap(),
    };
    (tokenizer, template)
}

fn options(max_length: usize) -> PreferenceOptions {
    PreferenceOptions {
        max_length,
        max_prompt_length: None,
        on_bad_row: OnBadRow::Error,
        on_long_row: OnLongRow::Truncate,
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

#[test]
fn pairs_have_the_ids_of_trl() {
    let cases = json("trl/rows.json");
    let mut seen = 0;
    for case in list(&cases["pairs"]) {
        let (tokenizer, template) = text_side(case);
        let mut options = options(case["max_length"].as_u64().unwrap() as usize);
        options.max_prompt_length = case["max_prompt_length"].as_u64().map(|length| length as usize);
        for (row, expected) in list(&case["rows"]).iter().zip(list(&case["expected"])) {
            let rows = rows(std::slice::from_ref(row));
            let found = match encode_preference(&rows, &tokenizer, template.as_ref(), &options) {
                Ok((examples, report)) => {
                    let one = &examples[0];
                    assert_eq!(report.examples, 1);
                    assert_eq!(report.trained_tokens, one.chosen.len() + one.rejected.len());
                    json!([one.prompt, one.chosen, one.rejected])
                }
                Err(_) => Value::Null,
            };
            // TRL keeps a pair that the cut makes equal.
            let equal = expected.is_array() && expected[1] == expected[2];
            assert_eq!(found, if equal { Value::Null } else { expected.clone() }, "{case}");
            seen += usize::from(!equal);
        }
    }
    assert!(seen > 80, "{seen}");
}

#[test]
fn unpaired_rows_have_the_ids_of_trl() {
    let cases = json("trl/rows.json");
    for case in list(&cases["unpaired"]) {
        let (tokenizer, template) = text_side(case);
        let options = options(case["max_length"].as_u64().unwrap() as usize);
        let group = case["group"].as_u64().unwrap() as usize;
        let rows = rows(list(&case["rows"]));
        let (examples, _) = encode_unpaired(&rows, &tokenizer, template.as_ref(), &options, group).unwrap();
        let found: Vec<Value> = examples
            .iter()
            .map(|one| json!([one.prompt, one.completion, one.mismatched, one.desirable]))
            .collect();
        assert_eq!(Value::Array(found), case["expected"], "{case}");
    }
}

#[test]
fn fine_tuning_labels_are_those_of_trl() {
    for case in list(&json("trl/rows.json")["labels"]) {
        let (tokenizer, template) = text_side(case);
        let train_on = if case["kind"] == "all" { TrainOn::All } else { TrainOn::AssistantOnly };
        let options = EncodeOptions {
            max_length: 4096,
            batch_size: 10,
            train_on,
            on_long_row: OnLongRow::Error,
            on_bad_row: OnBadRow::Error,
        };
        let rows = rows(list(&case["rows"]));
        let (examples, _) = encode_sft(&rows, &tokenizer, template.as_ref(), &options).unwrap();
        for (example, expected) in examples.iter().zip(list(&case["expected"])) {
            assert_eq!(json!(example.ids), expected["ids"], "{case}");
            let labels = example.ids.iter().zip(&example.weights).enumerate().map(|(at, (&id, &weight))| {
                // The label of the first token is never used; here its weight is 0 from the start.
                if weight > 0.0 || at == 0 { i64::from(id) } else { -100 }
            });
            let mut expected = expected["labels"].clone();
            expected[0] = json!(example.ids[0]);
            assert_eq!(json!(labels.collect::<Vec<_>>()), expected, "{case}");
        }
    }
}

/// What comes of texts as pairs.
fn encode(
    texts: &[[&str; 3]],
    options: &PreferenceOptions,
) -> Result<(usize, EncodeReport), parlor_text::EncodeError> {
    let (tokenizer, template) = chat_model();
    let rows: Vec<Value> =
        texts.iter().map(|[p, c, r]| json!({"prompt": p, "chosen": c, "rejected": r})).collect();
    let (examples, report) = encode_preference(&self::rows(&rows), &tokenizer, Some(&template), options)?;
    Ok((examples.len(), report))
}

#[test]
fn what_is_too_long_is_cut_or_left_out_and_counted() {
    let long = "word ".repeat(40);
    let texts = [["Short", " a", " b"], ["Short", " a", &long], [&long, " a", " b"]];
    let (examples, report) = encode(&texts, &options(20)).unwrap();
    assert_eq!((examples, report.examples, report.truncated, report.untrained), (2, 2, 2, 1));
    let drop = PreferenceOptions { on_long_row: OnLongRow::Drop, ..options(20) };
    let (examples, report) = encode(&texts, &drop).unwrap();
    assert_eq!((examples, report.truncated, report.dropped, report.untrained), (1, 0, 2, 0));
    let refuse = PreferenceOptions { on_long_row: OnLongRow::Error, ..options(20) };
    let error = encode(&texts, &refuse).unwrap_err().to_string();
    let (before, after) = (error.split(" is /").next().unwrap(), error.rsplit_once("rows.jsonl").unwrap().1);
    insta::assert_snapshot!(format!("{before} is ROWS{after}"), @"2 rows are longer than 20 tokens (`max_length`), the first is ROWS:2 with 47: raise `max_length`, or cut or leave out such rows by `data.on_long_row: truncate` or `drop`");
    // `max_prompt_length` comes first: what it leaves is not too long.
    let cut = PreferenceOptions { max_prompt_length: Some(10), ..refuse };
    assert_eq!(encode(&[texts[0], texts[2]], &cut).unwrap().0, 2);
    // Cut to the same: nothing is left to prefer.
    let same = format!("{long} and b");
    let error = encode(&[["Short", &format!("{long} and a"), &same]], &options(20)).unwrap_err();
    insta::assert_snapshot!(error, @"none of the 1 rows can be used (1 have no room for an answer beside their prompt within 20 tokens, 0 are longer, 0 are bad): raise `training.dpo.max_length` and `data.max_length`");
}

#[test]
fn answers_that_are_the_same_in_tokens_are_refused_or_left_out() {
    // The tokenizer normalises both to one form.
    let texts = [["Name", " \u{e9}", " e\u{301}"], ["Name", " a", " b"]];
    let error = encode(&texts, &options(100)).unwrap_err().to_string();
    let end = error.rsplit_once("rows.jsonl").unwrap().1;
    insta::assert_snapshot!(end, @"
    :1: `chosen` and `rejected` are the same in tokens
      correct them, or leave them out by `data.on_bad_row: skip`
    ");
    let skip = PreferenceOptions { on_bad_row: OnBadRow::Skip, ..options(100) };
    assert_eq!(encode(&texts, &skip).unwrap().0, 1);
}

#[test]
fn rows_of_another_kind_say_so() {
    let (tokenizer, template) = chat_model();
    let one = rows(&[json!({"prompt": "a", "completion": "b", "label": true})]);
    let name =
        |error: parlor_text::EncodeError| error.to_string().rsplit_once("rows.jsonl").unwrap().1.to_owned();
    let error = encode_preference(&one, &tokenizer, Some(&template), &options(100)).unwrap_err();
    insta::assert_snapshot!(name(error), @r#":1: this row is of kind `unpaired`, and this `training.dpo.loss_type` takes pairs: {"prompt": ..., "chosen": ..., "rejected": ...}; correct the data, or choose another `training.training_type` (`sft` takes rows without preferences)"#);
    let one = rows(&[json!({"prompt": "a", "completion": "b"})]);
    let error = encode_unpaired(&one, &tokenizer, Some(&template), &options(100), 2).unwrap_err();
    insta::assert_snapshot!(name(error), @r#":1: this row is of kind `prompt_completion`, and this `training.dpo.loss_type` takes single answers: {"prompt": ..., "completion": ..., "label": true}, or pairs; correct the data, or choose another `training.training_type` (`sft` takes rows without preferences)"#);
    let chat = json!([{"role": "user", "content": "a"}]);
    let answer = |text: &str| json!([{"role": "assistant", "content": text}]);
    let one = rows(&[json!({"prompt": chat, "chosen": answer("b"), "rejected": answer("c")})]);
    let error = encode_preference(&one, &tokenizer, None, &options(100)).unwrap_err();
    insta::assert_snapshot!(name(error), @":1: a conversation needs a chat template, and the model has none: put a chat_template.jinja into the model's directory");
}
