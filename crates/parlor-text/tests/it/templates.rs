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
        @"the chat template failed at line 1: it runs for too long");
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
    // What a processor keeps beside is for models without one of their own.
    write("chat_template.json", r#"{"chat_template": "J"}"#);
    assert_eq!(find(), Ok(Some("C".to_owned())));
    write("tokenizer_config.json", "{}");
    assert_eq!(find(), Ok(Some("J".to_owned())));
    write("chat_template.jinja", "F");
    assert_eq!(find(), Ok(Some("F".to_owned())));
    std::fs::remove_file(directory.path().join("chat_template.jinja")).unwrap();
    write("chat_template.json", r#"{"chat_template": 7}"#);
    assert!(find().unwrap_err().ends_with("`chat_template` is neither a text nor a list of templates"));
}

#[test]
fn conversations_with_tools_take_the_template_for_them() {
    let tokenizer = Tokenizer::from_dir(&fixture("tokenizers/byte_level")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    let check = || {
        let template = ChatTemplate::from_dir(directory.path(), &tokenizer).unwrap().unwrap();
        let tools = RenderOptions { tools: Some(vec![serde_json::json!({})]), ..RenderOptions::default() };
        let of = |options: &RenderOptions| template.render(&hello(), options).unwrap().text;
        assert_eq!((of(&RenderOptions::default()), of(&tools)), ("plain".to_owned(), "with 1".to_owned()));
        assert_eq!(template.files().len(), 2);
    };
    write(
        "tokenizer_config.json",
        r#"{"chat_template": [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "with {{ tools | length }}"}]}"#,
    );
    check();
    std::fs::create_dir(directory.path().join("additional_chat_templates")).unwrap();
    write("tokenizer_config.json", "{}");
    write("chat_template.jinja", "plain");
    write("additional_chat_templates/tool_use.jinja", "with {{ tools | length }}");
    check();
    std::fs::remove_file(directory.path().join("chat_template.jinja")).unwrap();
    write("additional_chat_templates/rag.jinja", "R");
    let error = ChatTemplate::from_dir(directory.path(), &tokenizer).unwrap_err().to_string();
    assert!(error.ends_with("none of the chat templates [rag, tool_use] is called `default`"), "{error}");
}

#[test]
fn variables_come_from_the_template_s_owner_and_from_the_call() {
    let template = ChatTemplate::new("{{ documents }} {{ depth }} {{ tone }}\r\n.", Map::new()).unwrap();
    let owner = serde_json::json!({"depth": 1, "tone": "dry"});
    let template = template.with_kwargs(owner.as_object().unwrap());
    let call = serde_json::json!({"depth": 2});
    let options = RenderOptions { kwargs: call.as_object().unwrap().clone(), ..RenderOptions::default() };
    assert_eq!(template.render(&hello(), &options).unwrap().text, "None 2 dry\n.");
}

#[test]
fn a_date_of_its_own_is_what_a_template_reads() {
    let template = ChatTemplate::new("{{ strftime_now('%d %b %Y') }}", Map::new()).unwrap();
    assert!(template.reads_clock());
    let template = template.with_now("2025-03-09T10:00:00".parse().unwrap());
    assert_eq!(template.render(&hello(), &RenderOptions::default()).unwrap().text, "09 Mar 2025");
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
    assert_eq!(by_prefix.how, MaskSource::Messages);
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
    let source = "{{ messages | length }}: {{ messages | map(attribute='content') | join(';') }}";
    let template = ChatTemplate::new(source, Map::new()).unwrap();
    let error = encode_conversation(&tokenizer, &template, &hello(), &RenderOptions::default()).unwrap_err();
    insta::assert_snapshot!(error, @r#"cannot tell which tokens are the assistant's: with message 1 the template renders the text before it differently (from byte 0 on): "1: Hi" became "2: Hi;Hello". Put {% generation %} and {% endgeneration %} around the assistant's part of the template, or train on all tokens with `training.sft.train_on: all`"#);
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
