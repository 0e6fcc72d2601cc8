//! Renders chat templates for `xtask/readers/check_templates.py`: reads a JSON file of cases, and prints for each a line
//! with the text and the character spans of `{% generation %}`, or with the error. With `--masks` first, the spans are
//! those of the tokens that fine-tuning trains.

use std::error::Error;
use std::io::Write as _;

use parlor_text::{ChatTemplate, Message, RenderOptions, training_spans};
use serde_json::{Map, Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let masks = arguments.first().is_some_and(|first| first == "--masks");
    if masks {
        arguments.remove(0);
    }
    let [file] = &arguments[..] else { return Err("usage: render_cases [--masks] CASES.json".into()) };
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(file)?)?;
    let mut out = std::io::stdout().lock();
    for case in &cases {
        let line = match render(case, masks) {
            Ok(line) => line,
            Err(error) => json!({ "error": error.to_string() }),
        };
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn render(case: &Value, masks: bool) -> Result<Value, Box<dyn Error>> {
    let source = case["source"].as_str().ok_or("a case has no `source`")?;
    let special = case["special"].as_object().cloned().unwrap_or_default();
    let template = ChatTemplate::new(source, special)?;
    let messages: Vec<Message> = serde_json::from_value(case["messages"].clone())?;
    let options = RenderOptions {
        tools: case["tools"].as_array().cloned(),
        add_generation_prompt: case["add_generation_prompt"] == true,
        now: case["now"].as_str().map(str::parse).transpose()?,
        kwargs: case["kwargs"].as_object().cloned().unwrap_or_else(Map::new),
    };
    let (text, spans) = if masks {
        let masked = training_spans(&template, &messages, &options)?;
        (masked.text, masked.spans)
    } else {
        let rendered = template.render(&messages, &options)?;
        (rendered.text, rendered.generated)
    };
    let characters = |at: usize| text[..at].chars().count();
    let spans: Vec<[usize; 2]> =
        spans.iter().map(|span| [characters(span.start), characters(span.end)]).collect();
    Ok(json!({ "text": text, "spans": spans }))
}
