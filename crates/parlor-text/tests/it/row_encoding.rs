//! Rows to examples, where they hold more than messages: template variables, messages that are not trained, texts that frame
//! themselves, and rows that cannot be rendered.

use parlor_text::{
    ChatTemplate, EncodeOptions, EncodeReport, Encoder, Example, OnBadRow, OnLongRow, PreferenceOptions,
    SourcedRow, SpecialTokens, Tokenizer, TrainOn, encode_preference, encode_sft, encode_unpaired,
};
use serde_json::{Value, json};

use crate::{chat_model, fixture};

fn rows(values: &[Value]) -> Vec<SourcedRow> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rows.jsonl");
    std::fs::write(&path, values.iter().map(|row| format!("{row}\n")).collect::<String>()).unwrap();
    let dataset = parlor_text::read(&path).unwrap();
    assert_eq!(dataset.report.problems, []);
    dataset.rows
}

fn options(train_on: TrainOn, on_bad_row: OnBadRow) -> EncodeOptions {
    EncodeOptions { max_length: 4096, batch_size: 10, train_on, on_long_row: OnLongRow::Error, on_bad_row }
}

fn preferring(on_bad_row: OnBadRow) -> PreferenceOptions {
    PreferenceOptions { max_length: 4096, max_prompt_length: None, on_bad_row, on_long_row: OnLongRow::Error }
}

fn template(source: &str, tokenizer: &Tokenizer) -> ChatTemplate {
    ChatTemplate::new(source, tokenizer.special_texts()).unwrap()
}

/// A template that shows every variable that a row may set.
const SHOWS: &str = "{% if tools %}<tools>{{ tools | length }}</tools>{% endif %}\
    {% if documents %}<docs>{{ documents[0].title }}</docs>{% endif %}{% if mood %}<mood>{{ mood }}</mood>{% endif %}\
    {% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}\
    {% if add_generation_prompt %}<assistant>{% endif %}";

const SHOWN: &str = "<tools>1</tools><docs>T</docs><mood>calm</mood><user>Q</user><assistant>";

#[test]
fn every_kind_of_row_is_rendered_with_its_variables() {
    let (tokenizer, _) = chat_model();
    let template = template(SHOWS, &tokenizer);
    let with = |mut row: Value| {
        row["tools"] = json!([{"name": "f"}]);
        row["documents"] = json!([{"title": "T"}]);
        row["chat_template_kwargs"] = json!({"mood": "calm"});
        rows(&[row])
    };
    let text = |ids: &[u32]| tokenizer.decode(ids, SpecialTokens::Include).unwrap();
    let turn = |role: &str, text: &str| json!([{"role": role, "content": text}]);
    let (q, a, b) = (turn("user", "Q"), turn("assistant", "A"), turn("assistant", "B"));
    let sft = |row: Value, train_on| {
        let (examples, _) =
            encode_sft(&with(row), &tokenizer, Some(&template), &options(train_on, OnBadRow::Error)).unwrap();
        text(&examples[0].ids)
    };
    for train_on in [TrainOn::All, TrainOn::AssistantOnly] {
        let whole = format!("{SHOWN}A</assistant>");
        assert_eq!(sft(json!({"prompt": q, "completion": a}), train_on), whole);
        assert_eq!(sft(json!({"messages": [q[0], a[0]]}), train_on), whole);
        assert_eq!(sft(json!({"instruction": "Q", "output": "A"}), train_on), whole);
    }
    let pair = with(json!({"prompt": q, "chosen": a, "rejected": b}));
    let (pairs, _) =
        encode_preference(&pair, &tokenizer, Some(&template), &preferring(OnBadRow::Error)).unwrap();
    assert_eq!(
        (text(&pairs[0].prompt), text(&pairs[0].rejected)),
        (SHOWN.to_owned(), "B</assistant>".to_owned())
    );
    let one = with(json!({"prompt": q, "completion": a, "label": false}));
    let (ones, _) =
        encode_unpaired(&one, &tokenizer, Some(&template), &preferring(OnBadRow::Error), 1).unwrap();
    assert_eq!(text(&ones[0].prompt), SHOWN);
}

fn trained(tokenizer: &Tokenizer, example: &Example) -> String {
    let ids: Vec<u32> =
        example.ids.iter().zip(&example.weights).filter(|(_, w)| **w > 0.0).map(|(id, _)| *id).collect();
    tokenizer.decode(&ids, SpecialTokens::Include).unwrap()
}

#[test]
fn messages_that_are_not_to_be_trained_are_not() {
    let (tokenizer, marked) = chat_model();
    let plain = template(
        &marked.source().replace("{% generation %}", "").replace("{% endgeneration %}", ""),
        &tokenizer,
    );
    let turn = |role: &str, text: &str| json!({"role": role, "content": text});
    let mut wrong = turn("assistant", "Five.");
    wrong["weight"] = json!(0);
    let messages = json!([turn("user", "2 + 2?"), wrong, turn("user", "Again."), turn("assistant", "Four.")]);
    let share_gpt = json!([
        {"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "Five.", "train": false},
        {"from": "human", "value": "Again."}, {"from": "gpt", "value": "Four.", "train": true},
    ]);
    let rows = rows(&[json!({"messages": messages}), json!({"conversations": share_gpt})]);
    for template in [&marked, &plain] {
        for (train_on, whole) in [(TrainOn::AssistantOnly, false), (TrainOn::All, true)] {
            let (examples, _) =
                encode_sft(&rows, &tokenizer, Some(template), &options(train_on, OnBadRow::Error)).unwrap();
            for example in &examples {
                let text = trained(&tokenizer, example);
                assert!(text.contains("Four.") && !text.contains("Five."), "{text}");
                assert_eq!(text.contains("Again."), whole, "{text}");
            }
        }
    }
    // Within the completion of a prompt.
    let row = json!({"prompt": [messages[0]], "completion": [messages[1], messages[2], messages[3]]});
    let (examples, _) = encode_sft(
        &self::rows(&[row]),
        &tokenizer,
        Some(&marked),
        &options(TrainOn::AssistantOnly, OnBadRow::Error),
    )
    .unwrap();
    let text = trained(&tokenizer, &examples[0]);
    assert!(text.contains("Four.") && !text.contains("Five."), "{text}");
}

#[test]
fn a_text_that_frames_itself_is_not_framed_again() {
    let tokenizer = Tokenizer::from_dir(&fixture("tokenizers/sentence_piece_like")).unwrap();
    let (bos, eos) = (tokenizer.bos().unwrap(), tokenizer.eos().unwrap());
    let framed = tokenizer.encode("word", SpecialTokens::Include).unwrap();
    assert_eq!(framed[0], bos.id, "this tokenizer puts BOS first");
    let encode = |row: Value| {
        let sft = options(TrainOn::All, OnBadRow::Error);
        encode_sft(&rows(&[row]), &tokenizer, None, &sft).unwrap().0.remove(0).ids
    };
    let once = |ids: &[u32]| {
        assert_eq!(ids.iter().filter(|&&id| id == bos.id).count(), 1, "{ids:?}");
        assert_eq!(ids.iter().filter(|&&id| id == eos.id).count(), 1, "{ids:?}");
        assert_eq!((ids[0], ids[ids.len() - 1]), (bos.id, eos.id));
    };
    let (bos_text, eos_text) = (&bos.text, &eos.text);
    once(&encode(json!({"text": "one two"})));
    let alone = tokenizer.encode(&format!("{bos_text}one two{eos_text}"), SpecialTokens::Omit).unwrap();
    once(&alone);
    assert_eq!(encode(json!({"text": format!("{bos_text}one two")})), alone);
    assert_eq!(encode(json!({"text": format!("{bos_text}one two{eos_text}")})), alone);
    assert_eq!(encode(json!({"prompt": format!("{bos_text}one"), "completion": " two"})), alone);
    let pair = json!({"prompt": format!("{bos_text}one"), "chosen": " two", "rejected": " three"});
    let (pairs, _) =
        encode_preference(&rows(&[pair]), &tokenizer, None, &preferring(OnBadRow::Error)).unwrap();
    once(&[&pairs[0].prompt[..], &pairs[0].chosen].concat());
}

/// A template that refuses conversations which begin with the assistant.
const STRICT: &str = "{% if messages[0].role == 'assistant' %}{{ raise_exception('ask first') }}{% endif %}\
    {% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}\
    {% if add_generation_prompt %}<assistant>{% endif %}";

#[test]
fn rows_that_cannot_be_rendered_are_listed_or_left_out() {
    let (tokenizer, _) = chat_model();
    let template = template(STRICT, &tokenizer);
    let turn = |role: &str| json!({"role": role, "content": "x"});
    let bad = json!({"messages": [turn("assistant"), turn("user"), turn("assistant")]});
    let good = json!({"messages": [turn("user"), turn("assistant")]});
    let mixed = rows(&[bad.clone(), good.clone(), bad.clone(), good.clone()]);
    let encode = |rows: &[SourcedRow], on_bad_row| {
        encode_sft(rows, &tokenizer, Some(&template), &options(TrainOn::AssistantOnly, on_bad_row))
    };
    let short = |text: String| {
        let lines = text.lines().map(|line| match line.rsplit_once("/rows.jsonl") {
            Some((_, end)) => format!("  rows.jsonl{end}"),
            None => line.to_owned(),
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(short(encode(&mixed, OnBadRow::Error).unwrap_err().to_string()), @"
    2 rows cannot be used:
      rows.jsonl:1: the chat template refuses this conversation: ask first
      rows.jsonl:3: the chat template refuses this conversation: ask first
      correct them, or leave them out by `data.on_bad_row: skip`
    ");
    let (examples, report) = encode(&mixed, OnBadRow::Skip).unwrap();
    assert_eq!((examples.len(), report.examples, report.bad, report.bad_rows.len()), (2, 2, 2, 2));
    insta::assert_snapshot!(short(report.warnings().join("\n")), @"
    2 rows are left out because they cannot be used:
      rows.jsonl:1: the chat template refuses this conversation: ask first
      rows.jsonl:3: the chat template refuses this conversation: ask first
    ");
    let error = encode(&rows(std::slice::from_ref(&bad)), OnBadRow::Skip).unwrap_err().to_string();
    assert!(error.starts_with("1 row cannot be used"), "{error}");
    // Many are counted, and the first of them shown.
    let many = encode(&rows(&vec![bad; 150]), OnBadRow::Error).unwrap_err().to_string();
    assert!(many.starts_with("150 rows cannot be used") && many.contains("and 130 more"), "{many}");
    assert_eq!(many.lines().count(), 23);
    // Batch by batch: the first that holds one can end a stream.
    let mut encoder =
        Encoder::sft(&tokenizer, Some(&template), options(TrainOn::AssistantOnly, OnBadRow::Error));
    encoder.batch(&mixed[1..2], &mut |_| {}).unwrap();
    encoder.check().unwrap();
    encoder.batch(&mixed[2..], &mut |_| {}).unwrap();
    assert_eq!(encoder.bad_rows().len(), 1);
    assert!(encoder.check().is_err());
}

#[test]
fn preference_rows_that_cannot_be_rendered_are_listed_or_left_out() {
    let (tokenizer, _) = chat_model();
    let template = template(STRICT, &tokenizer);
    let turn = |role: &str, text: &str| json!([{"role": role, "content": text}]);
    let (a, b) = (turn("assistant", "a"), turn("assistant", "b"));
    let pair = |asks: &str| json!({"prompt": turn(asks, "q"), "chosen": a, "rejected": b});
    let pairs = rows(&[pair("assistant"), pair("user"), pair("assistant")]);
    let check = |report: &EncodeReport, examples: usize| {
        assert_eq!((examples, report.examples, report.bad), (1, 1, 2));
        assert_eq!(report.bad_rows.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 3]);
    };
    let encode = |policy| encode_preference(&pairs, &tokenizer, Some(&template), &preferring(policy));
    let (examples, report) = encode(OnBadRow::Skip).unwrap();
    check(&report, examples.len());
    assert!(encode(OnBadRow::Error).unwrap_err().to_string().starts_with("2 rows cannot be used"));
    let one = |asks: &str| json!({"prompt": turn(asks, "q"), "completion": a, "label": true});
    let ones = rows(&[one("assistant"), one("user"), one("assistant")]);
    let encode = |policy| encode_unpaired(&ones, &tokenizer, Some(&template), &preferring(policy), 2);
    let (examples, report) = encode(OnBadRow::Skip).unwrap();
    check(&report, examples.len());
    assert!(encode(OnBadRow::Error).unwrap_err().to_string().starts_with("2 rows cannot be used"));
}
