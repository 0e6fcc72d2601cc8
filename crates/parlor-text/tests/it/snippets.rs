//! Small templates over all of Jinja2, with what `transformers` makes of each (`fixtures/make/jinja_snippets.py`).

use parlor_text::{ChatTemplate, Message, RenderOptions};
use serde_json::{Map, Value};

use crate::{fixture, json};

/// What is known to differ is left out of this number: escaped text (`Markup`), `str.format`'s rarer forms, arguments of
/// macros beyond their names, and names of Unicode characters.
const EQUAL: usize = 397;

#[test]
fn small_templates_render_as_the_reference() {
    let messages: Vec<Message> = serde_json::from_value(json("templates/snippet_messages.json")).unwrap();
    let options =
        RenderOptions { now: Some("2026-01-02T03:04:05".parse().unwrap()), ..RenderOptions::default() };
    let snippets = std::fs::read_to_string(fixture("templates/snippets.jsonl")).unwrap();
    let mut differ = Vec::new();
    let mut equal = 0;
    for line in snippets.lines() {
        let snippet: Value = serde_json::from_str(line).unwrap();
        let source = snippet["template"].as_str().unwrap();
        let rendered = ChatTemplate::new(source, Map::new())
            .and_then(|template| template.render(&messages, &options).map(|rendered| rendered.text))
            .ok();
        match rendered.as_deref() == snippet["want"].as_str() {
            true => equal += 1,
            false => differ.push(format!("{source}\n    want {}\n    got  {rendered:?}", snippet["want"])),
        }
    }
    assert!(equal >= EQUAL, "{equal} are equal; these differ:\n{}", differ.join("\n"));
}
