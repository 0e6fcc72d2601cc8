//! Rows to examples: what is trained, what is cut, what is refused.

use std::sync::Arc;

use parlor_text::{
    Content, EncodeOptions, Example, Message, OnBadRow, OnLongRow, Row, RowSource, SourcedRow, SpecialTokens,
    TemplateInputs, Tokenizer, TrainOn, encode_pretraining, encode_sft,
};

use crate::chat_model;

fn sourced(row: Row) -> SourcedRow {
    let source = RowSource { file: Arc::new("data.jsonl".into()), line: 3 };
    SourcedRow { row, inputs: TemplateInputs::default(), source }
}

fn options(max_length: usize, train_on: TrainOn) -> EncodeOptions {
    let (on_long_row, on_bad_row) = (OnLongRow::Truncate, OnBadRow::Error);
    EncodeOptions { max_length, batch_size: 10, train_on, on_long_row, on_bad_row }
}

fn conversation() -> Row {
    let messages = vec![
        Message::new("user", "Hello there"),
        Message::new("assistant", "Good day"),
        Message::new("user", "Bye"),
        Message::new("assistant", "See you"),
    ];
    Row::Messages { messages }
}

/// The text of the trained tokens.
fn trained(tokenizer: &Tokenizer, example: &Example) -> String {
    assert_eq!(example.ids.len(), example.weights.len());
    assert_eq!(example.weights[0], 0.0);
    let ids: Vec<u32> =
        example.ids.iter().zip(&example.weights).filter(|(_, w)| **w > 0.0).map(|(id, _)| *id).collect();
    tokenizer.decode(&ids, SpecialTokens::Include).unwrap()
}

fn sft(row: Row, options: &EncodeOptions) -> (Example, String) {
    let (tokenizer, template) = chat_model();
    let (examples, report) = encode_sft(&[sourced(row)], &tokenizer, Some(&template), options).unwrap();
    assert_eq!(report.examples, 1);
    let text = trained(&tokenizer, &examples[0]);
    assert_eq!(report.trained_tokens, examples[0].weights.iter().filter(|&&w| w > 0.0).count());
    (examples[0].clone(), text)
}

#[test]
fn only_the_answers_are_trained() {
    let (_, text) = sft(conversation(), &options(200, TrainOn::AssistantOnly));
    assert!(text.starts_with("Good day<|im_end|>") && text.contains("See you<|im_end|>"), "{text:?}");
    assert!(!text.contains("Hello") && !text.contains("Bye"), "{text:?}");
    let (example, text) = sft(conversation(), &options(200, TrainOn::All));
    assert!(text.contains("Hello there") && text.contains("See you"), "{text:?}");
    assert_eq!(example.weights[1..], vec![1.0; example.ids.len() - 1]);
}

#[test]
fn completions_are_trained_and_ended() {
    let text = |t: &str| Content::Text(t.to_owned());
    let row = Row::PromptCompletion { prompt: text("The capital is"), completion: text(" Paris") };
    let (_, trained) = sft(row, &options(200, TrainOn::AssistantOnly));
    assert_eq!(trained, " Paris<|im_end|>");
    let row = Row::PromptCompletion {
        prompt: Content::Messages(vec![Message::new("user", "Hi")]),
        completion: Content::Messages(vec![Message::new("assistant", "Yo")]),
    };
    let (_, trained) = sft(row, &options(200, TrainOn::AssistantOnly));
    assert!(trained.starts_with("Yo<|im_end|>"), "{trained:?}");
    let row = |input: &str| Row::Instruction {
        instruction: "Add".to_owned(),
        input: input.to_owned(),
        output: "Three".to_owned(),
        lead: Vec::new(),
    };
    assert!(sft(row("1 2"), &options(200, TrainOn::AssistantOnly)).1.starts_with("Three<|im_end|>"));
}

#[test]
fn without_a_template_instructions_work_and_conversations_say_why_not() {
    let (tokenizer, _) = chat_model();
    let row = Row::Instruction {
        instruction: "Add".to_owned(),
        input: String::new(),
        output: "Three".to_owned(),
        lead: Vec::new(),
    };
    let (examples, _) =
        encode_sft(&[sourced(row)], &tokenizer, None, &options(300, TrainOn::AssistantOnly)).unwrap();
    assert_eq!(trained(&tokenizer, &examples[0]), "Three<|im_end|>");
    let error =
        encode_sft(&[sourced(conversation())], &tokenizer, None, &options(300, TrainOn::All)).unwrap_err();
    insta::assert_snapshot!(error, @"data.jsonl:3: a conversation needs a chat template, and the model has none: put a chat_template.jinja into the model's directory");
}

#[test]
fn long_texts_become_examples_that_overlap_by_one() {
    let (tokenizer, _) = chat_model();
    let text = "one two three four five six seven eight nine ten eleven twelve".to_owned();
    let mut whole = tokenizer.encode(&text, SpecialTokens::Include).unwrap();
    whole.push(tokenizer.eos().unwrap().id);
    let (examples, report) =
        encode_pretraining(&[sourced(Row::Text(text))], &tokenizer, None, &options(7, TrainOn::All)).unwrap();
    let mut joined = vec![whole[0]];
    for example in &examples {
        assert!(example.ids.len() <= 7);
        assert_eq!(example.ids[0], *joined.last().unwrap());
        joined.extend(&example.ids[1..]);
    }
    assert_eq!(joined, whole);
    // Every token but the very first is predicted exactly once.
    assert_eq!(report.trained_tokens, whole.len() - 1);
}

#[test]
fn what_trains_nothing_is_refused() {
    let (tokenizer, template) = chat_model();
    let asked = Row::Messages { messages: vec![Message::new("user", "Hi")] };
    let run = |row: Row, length| {
        encode_sft(&[sourced(row)], &tokenizer, Some(&template), &options(length, TrainOn::AssistantOnly))
    };
    insta::assert_snapshot!(run(asked, 100).unwrap_err(), @"no token of the 1 rows would be trained (1 rows without an assistant's answer, 0 cut at `data.max_length` = 100, 0 left out there): check that the rows hold answers, raise `data.max_length`, or train on all tokens with `training.sft.train_on: all`");
    insta::assert_snapshot!(run(conversation(), 4).unwrap_err(), @"no token of the 1 rows would be trained (1 rows without an assistant's answer, 1 cut at `data.max_length` = 4, 0 left out there): check that the rows hold answers, raise `data.max_length`, or train on all tokens with `training.sft.train_on: all`");
    let text = |t: &str| Content::Text(t.to_owned());
    let pair = Row::Preference { prompt: text("a"), chosen: text("b"), rejected: text("c") };
    insta::assert_snapshot!(run(pair, 100).unwrap_err(), @"data.jsonl:3: preference data (`chosen` and `rejected`, or `label`) trains with `training.training_type: dpo`");
}

#[test]
fn a_cut_conversation_is_counted() {
    let (tokenizer, template) = chat_model();
    let (whole, _) = sft(conversation(), &options(500, TrainOn::AssistantOnly));
    let length = whole.ids.len() - 3;
    let (examples, report) = encode_sft(
        &[sourced(conversation())],
        &tokenizer,
        Some(&template),
        &options(length, TrainOn::AssistantOnly),
    )
    .unwrap();
    assert_eq!((examples[0].ids.len(), report.truncated), (length, 1));
    assert_eq!(examples[0].ids[..], whole.ids[..length]);
    // Or left out, or refused; training from scratch loses nothing of it.
    let rows = [sourced(conversation()), sourced(Row::Text("word ".repeat(4)))];
    let with = |on_long_row| EncodeOptions { on_long_row, ..options(length, TrainOn::AssistantOnly) };
    let (examples, report) = encode_sft(&rows, &tokenizer, Some(&template), &with(OnLongRow::Drop)).unwrap();
    assert_eq!((examples.len(), report.truncated, report.dropped), (1, 0, 1));
    let refused = encode_sft(&rows, &tokenizer, Some(&template), &with(OnLongRow::Error)).unwrap_err();
    let refused = refused.to_string();
    insta::assert_snapshot!(refused.rsplit_once(" with ").unwrap().0, @"1 rows are longer than 49 tokens (`max_length`), the first is data.jsonl:3");
    let (_, report) =
        encode_pretraining(&rows, &tokenizer, Some(&template), &with(OnLongRow::Error)).unwrap();
    assert_eq!((report.truncated, report.dropped), (0, 0));
}
