//! Where templates come from, how they fail, and what bounds them.

use parlor_text::{ChatTemplate, MaskSource, Message, RenderOptions, Tokenizer, encode_conversation};
use proptest::prelude::*;
use serde_json::Map;

use crate::{chat_model, fixture};

fn render(source: &str, messages: &[Message]) -> Result<String, String> {
    let template = ChatTemplate::new(source, Map::new()).map_err(|error| error.to_string())?;
    template.render(messages, &RenderOptions::default()).map(|r| r.text).map_err(|error| error.to_string())
}

fn hello() -> [Message; 2] {
    [Message::new("user", "Hi"), Message::new("assistant", "Hello")]
}

#[test]
fn failures_say_where() {
    let check = |source: &str| render(source, &hello()).unwrap_err();
    insta::assert_snapshot!(check("{{ raise_exception('roles must alternate') }}"),
        @"the chat template refuses this conversation: roles must alternate");
    insta::assert_snapshot!(check("a\n{% for x in %}"), @"the chat template does not compile (line 2): syntax error: unexpected end of block");
    insta::assert_snapshot!(check("a\n\n{{ messages[0].nothing.at.all }}"), @"the chat template failed at line 3: undefined value");
    insta::assert_snapshot!(check(&format!("{{% for i in range(90000) %}}{0}{{% for j in range(90000) %}}x{{% endfor %}}{{% endfor %}}", "")),
        @"the chat template failed at line 1: engine ran out of fuel");
    assert!(check(&" ".repeat(2 << 20)).contains("at most 1048576 are accepted"));
}

#[test]
fn a_template_comes_from_where_models_keep_it() {
    let tokenizer = Tokenizer::from_dir(&fixture("tokenizers/byte_level")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    let find = || {
        let template = ChatTemplate::from_dir(directory.path(), &tokenizer);
        template.map(|t| t.map(|t| t.source().to_owned())).map_err(|error| error.to_string())
    };
    assert_eq!(find(), Ok(None));
    write(
        "tokenizer_config.json",
        r#"{"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]}"#,
    );
    assert_eq!(find(), Ok(Some("D".to_owned())));
    write("tokenizer_config.json", r#"{"chat_template": "C"}"#);
    assert_eq!(find(), Ok(Some("C".to_owned())));
    write("chat_template.json", r#"{"chat_template": "J"}"#);
    assert_eq!(find(), Ok(Some("J".to_owned())));
    write("chat_template.jinja", "F");
    assert_eq!(find(), Ok(Some("F".to_owned())));
    std::fs::remove_file(directory.path().join("chat_template.jinja")).unwrap();
    write("chat_template.json", r#"{"chat_template": 7}"#);
    assert!(find().unwrap_err().ends_with("`chat_template` is neither a text nor a list of templates"));
}

#[test]
fn the_assistant_s_tokens_are_found_without_marks_too() {
    let (tokenizer, template) = chat_model();
    let marked = encode_conversation(&tokenizer, &template, &hello(), &RenderOptions::default()).unwrap();
    assert_eq!(marked.how, MaskSource::Generation);
    let plain = template.source().replace("{%- generation %}", "").replace("{%- endgeneration %}", "");
    let plain = plain.replace("{% generation %}", "").replace("{% endgeneration %}", "");
    let plain = ChatTemplate::new(&plain, tokenizer.special_texts()).unwrap();
    let by_prefix = encode_conversation(&tokenizer, &plain, &hello(), &RenderOptions::default()).unwrap();
    assert_eq!(by_prefix.how, MaskSource::Prefix);
    let own = |encoded: &parlor_text::Encoded| {
        let ids: Vec<u32> = encoded
            .ids
            .iter()
            .zip(&encoded.assistant_mask)
            .filter(|(_, own)| **own)
            .map(|(id, _)| *id)
            .collect();
        tokenizer.decode(&ids, parlor_text::SpecialTokens::Include).unwrap()
    };
    assert!(own(&marked).starts_with("Hello<|im_end|>"), "{:?}", own(&marked));
    assert!(own(&by_prefix).starts_with("Hello<|im_end|>"), "{:?}", own(&by_prefix));
}

#[test]
fn a_template_that_rewrites_the_past_is_refused() {
    let (tokenizer, _) = chat_model();
    let source = "{{ messages | length }}{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}";
    let template = ChatTemplate::new(source, Map::new()).unwrap();
    let error = encode_conversation(&tokenizer, &template, &hello(), &RenderOptions::default()).unwrap_err();
    insta::assert_snapshot!(error, @"cannot tell which tokens are the assistant's: with message 1 the template renders the text before it differently (from byte 0 on). Put {% generation %} and {% endgeneration %} around the assistant's part of the template, or train on all tokens with `training.sft.train_on: all`");
}

#[test]
fn the_default_template_marks_answers_and_takes_tools() {
    let tokenizer = Tokenizer::from_dir(&fixture("tokenizers/byte_level")).unwrap();
    let template = ChatTemplate::chatml(&tokenizer).unwrap();
    let messages =
        [Message::new("system", "Be brief."), Message::new("user", "Hi"), Message::new("assistant", "Yo")];
    let mut options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
    let rendered = template.render(&messages, &options).unwrap();
    insta::assert_snapshot!(rendered.text, @"
    <|im_start|>system
    Be brief.<|im_end|>
    <|im_start|>user
    Hi<|im_end|>
    <|im_start|>assistant
    Yo<|im_end|>
    <|im_start|>assistant
    ");
    assert_eq!(&rendered.text[rendered.generated[0].clone()], "Yo<|im_end|>");
    options.tools = Some(vec![serde_json::json!({"type": "function", "function": {"name": "now"}})]);
    let text = template.render(&messages, &options).unwrap().text;
    assert!(
        text.contains("Be brief.\n\n# Tools")
            && text.contains(r#"{"type": "function", "function": {"name": "now"}}"#)
    );
}

#[test]
fn marks_in_a_message_are_refused() {
    let (_, template) = chat_model();
    let sly = [Message::new("user", "\u{F0A10}\u{10A10}\u{F0A11}"), Message::new("assistant", "x")];
    let error = template.render(&sly, &RenderOptions::default()).unwrap_err();
    assert_eq!(error, parlor_text::TemplateError::Reserved);
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(3), ..ProptestConfig::default() })]

    /// Whatever the template and the message, an answer or an error, never a panic.
    #[test]
    fn any_template_is_survived(source in "(\\{%|\\{\\{|%\\}|\\}\\}|-| |generation|endgeneration|if|messages|[a-z|.()0-9'\n]){0,30}", text in ".{0,20}") {
        let _ = render(&source, &[Message::new("user", &text)]);
    }
}
