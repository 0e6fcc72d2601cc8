//! Sixteen public styles of chat template, byte for byte as `transformers.apply_chat_template` renders them
//! (`fixtures/make/templates.py`), errors and `{% generation %}` spans included.

use parlor_text::{ChatTemplate, Message, RenderOptions, TemplateError, encode_conversation};
use serde_json::{Map, Value};

use crate::{chat_model, fixture, json};

fn messages(value: &Value) -> Vec<Message> {
    serde_json::from_value(value.clone()).unwrap()
}

fn check(case: &Value) -> Result<(), String> {
    let source =
        std::fs::read_to_string(fixture("templates").join(case["template"].as_str().unwrap())).unwrap();
    let template = ChatTemplate::new(&source, Map::new()).map_err(|error| error.to_string())?;
    let options = RenderOptions {
        tools: case["tools"].as_array().cloned(),
        add_generation_prompt: case["add_generation_prompt"] == true,
        now: Some(case["now"].as_str().unwrap().parse().unwrap()),
        kwargs: case["kwargs"].as_object().unwrap().clone(),
    };
    match (template.render(&messages(&case["messages"]), &options), case["expected"].as_str()) {
        (Ok(rendered), Some(expected)) => {
            if rendered.text != expected {
                return Err(format!("got {:?}\nwant {expected:?}", rendered.text));
            }
            let Some(spans) = case["assistant_spans"].as_array() else { return Ok(()) };
            let characters = |at: usize| expected[..at].chars().count();
            let got: Vec<[usize; 2]> = rendered
                .generated
                .iter()
                .map(|span| [characters(span.start), characters(span.end)])
                .collect();
            let want: Vec<[usize; 2]> =
                spans.iter().map(|span| serde_json::from_value(span.clone()).unwrap()).collect();
            if got == want { Ok(()) } else { Err(format!("spans {got:?}, want {want:?}")) }
        }
        (Err(error), None) => match case["error"].as_str().unwrap() {
            // Python itself stops here, in words that cannot be compared.
            "" => Ok(()),
            words if matches!(&error, TemplateError::Raised { message } if message.contains(words)) => Ok(()),
            words => Err(format!("{error}, want {words:?}")),
        },
        (Ok(rendered), None) => Err(format!("accepted as {:?}", rendered.text)),
        (Err(error), Some(_)) => Err(error.to_string()),
    }
}

#[test]
fn every_style_renders_as_the_reference() {
    let cases = json("templates/cases.json");
    let cases = cases.as_array().unwrap();
    let styles: std::collections::BTreeSet<&str> =
        cases.iter().map(|case| case["template"].as_str().unwrap()).collect();
    assert!(styles.len() >= 8 && cases.len() >= 300, "{} styles, {} cases", styles.len(), cases.len());
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| check(case).err().map(|why| format!("{}: {why}", case["name"])))
        .collect();
    assert!(wrong.is_empty(), "{} of {} cases differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn conversations_encode_as_the_reference() {
    let (tokenizer, template) = chat_model();
    let cases = json("models/qwen2_chat/render.json");
    for case in cases.as_array().unwrap() {
        let options = RenderOptions { tools: case["tools"].as_array().cloned(), ..RenderOptions::default() };
        let encoded =
            encode_conversation(&tokenizer, &template, &messages(&case["messages"]), &options).unwrap();
        let mask: Vec<u64> = encoded.assistant_mask.iter().map(|&own| u64::from(own)).collect();
        assert_eq!(encoded.text, case["text"].as_str().unwrap(), "{}", case["name"]);
        assert_eq!(Value::from(encoded.ids), case["ids"], "{}", case["name"]);
        assert_eq!(Value::from(mask), case["assistant_mask"], "{}", case["name"]);
    }
}
