//! Which tokens are trained, of templates that do not mark them. The rules are those of TRL's training templates, with which
//! `xtask/readers/check_masks.py` compares; here each has a small template of its own.

use parlor_text::{
    ChatTemplate, MaskSource, MaskedText, Message, RenderOptions, assistant_spans, training_spans,
};
use serde_json::{Map, Value, json};

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, Map::new()).unwrap()
}

fn messages(value: Value) -> Vec<Message> {
    serde_json::from_value(value).unwrap()
}

/// The text with what is trained in brackets.
fn shown(masked: &MaskedText) -> String {
    let (mut out, mut at) = (String::new(), 0);
    for span in &masked.spans {
        out.push_str(&format!("{}[{}]", &masked.text[at..span.start], &masked.text[span.clone()]));
        at = span.end;
    }
    out + &masked.text[at..]
}

fn trained(source: &str, conversation: Value) -> String {
    shown(&training_spans(&template(source), &messages(conversation), &RenderOptions::default()).unwrap())
}

/// In the manner of Qwen3: a thought stands in the newest answer only, and an empty one where there was none.
const THINKER: &str = "{% for m in messages %}<{{ m.role }}>\n\
    {% if m.role == 'assistant' and (loop.last or m.reasoning_content) and not (messages[loop.index0:] | selectattr('role', 'equalto', 'user') | list) %}\
    <think>\n{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}\
    {{ m.content }}<end>\n{% endfor %}{% if add_generation_prompt %}<assistant>\n{% endif %}";

fn two_turns() -> Value {
    json!([
        {"role": "user", "content": "Name a fruit."}, {"role": "assistant", "content": "Apple."},
        {"role": "user", "content": "Another?"}, {"role": "assistant", "content": "Pear."},
    ])
}

#[test]
fn what_a_template_adds_behind_the_last_message_is_not_trained() {
    // The header of the next answer, whether it is asked for or not.
    let source = "<bos>{% for m in messages %}<{{ m.role }}>{{ m.content }}<eot>{% endfor %}<assistant>";
    insta::assert_snapshot!(trained(source, two_turns()),
        @"<bos><user>Name a fruit.<eot><assistant>[Apple.<eot>]<user>Another?<eot><assistant>[Pear.<eot>]<assistant>");
}

#[test]
fn thoughts_of_earlier_answers_are_trained_as_they_are_made() {
    insta::assert_snapshot!(trained(THINKER, two_turns()), @r"
    <user>
    Name a fruit.<end>
    <assistant>
    [<think>

    </think>

    Apple.<end>
    ]<user>
    Another?<end>
    <assistant>
    [<think>

    </think>

    Pear.<end>
    ]
    ");
    let mut thoughtful = two_turns();
    thoughtful[1]["reasoning_content"] = "Red ones.".into();
    assert!(trained(THINKER, thoughtful).contains("[<think>\nRed ones.\n</think>\n\nApple.<end>\n]"));
}

#[test]
fn a_rendering_for_reading_is_the_template_s_own() {
    let masked =
        assistant_spans(&template(THINKER), &messages(two_turns()), &RenderOptions::default()).unwrap();
    assert_eq!(masked.how, MaskSource::Messages);
    let own = template(THINKER).render(&messages(two_turns()), &RenderOptions::default()).unwrap();
    assert_eq!(masked.text, own.text);
    assert!(shown(&masked).contains("<assistant>\n[Apple.<end>\n]<user>"));
}

#[test]
fn thoughts_that_a_template_drops_from_every_answer_are_kept_for_training() {
    let source = "{% for m in messages %}{% set content = m.content %}{% if m.role == 'assistant' %}\
        {% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}<a>{{ content }}<eos>\
        {% else %}<u>{{ content }}{% endif %}{% endfor %}{% if add_generation_prompt %}<a><think>\n{% endif %}";
    let conversation = json!([{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "<think>Add.</think>4"}]);
    assert_eq!(trained(source, conversation), "<u>2+2?<a>[<think>Add.</think>4<eos>]");
}

#[test]
fn answers_that_are_not_to_be_trained_are_not() {
    let marked = "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<eot>\
        {% endgeneration %}{% else %}{{ m.content }}<eot>{% endif %}{% endfor %}";
    let plain = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<eot>{% endfor %}\
        {% if add_generation_prompt %}<assistant>{% endif %}";
    for (flag, off) in [("weight", json!(0)), ("train", json!(false))] {
        let mut conversation = two_turns();
        conversation[1][flag] = off;
        for source in [marked, plain] {
            assert_eq!(
                trained(source, conversation.clone()),
                "<user>Name a fruit.<eot><assistant>Apple.<eot><user>Another?<eot><assistant>[Pear.<eot>]"
            );
        }
    }
}

#[test]
fn a_conversation_may_begin_with_the_assistant() {
    let source = "{% for m in messages %}{% if loop.first %}<bos>{% endif %}<{{ m.role }}>{{ m.content }}<eot>{% endfor %}\
        {% if add_generation_prompt %}<assistant>{% endif %}";
    let conversation =
        json!([{"role": "assistant", "content": "Welcome."}, {"role": "user", "content": "Thanks."}]);
    assert_eq!(trained(source, conversation), "<bos><assistant>[Welcome.<eot>]<user>Thanks.<eot>");
}

#[test]
fn answers_of_tools_within_a_turn_are_not_trained() {
    // In the manner of Gemma 4: what the tools answer is rendered with the call.
    let source = "{% for m in messages %}{% if m.role != 'tool' %}<{{ m.role }}>{% if m.tool_calls %}<call>\
        {% for k in range(loop.index0 + 1, messages | length) %}{% if messages[k].role == 'tool' %}\
        {% set follow = messages[k] %}<response>{{ follow.content }}</response>{% endif %}{% endfor %}{% endif %}\
        {{ m.content or '' }}<eot>{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
    let conversation = json!([
        {"role": "user", "content": "Time?"},
        {"role": "assistant", "content": "Looking.", "tool_calls": [{"function": {"name": "clock", "arguments": {}}}]},
        {"role": "tool", "content": "12:34"}, {"role": "assistant", "content": "12:34."},
    ]);
    assert_eq!(
        trained(source, conversation),
        "<user>Time?<eot><assistant>[<call>]<response>12:34</response>[Looking.<eot>]<assistant>[12:34.<eot>]"
    );
}

#[test]
fn long_conversations_are_masked_by_few_renderings() {
    let turns = (0..4000).map(|index| match index % 2 {
        0 => json!({"role": "user", "content": format!("Question {index}")}),
        _ => json!({"role": "assistant", "content": format!("Answer {index}")}),
    });
    // A rendering of the conversation up to each turn would run out of the engine's steps, or of patience.
    let masked = training_spans(
        &template("{% for m in messages %}<{{ m.role }}>{{ m.content }}<eot>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"),
        &messages(turns.collect()),
        &RenderOptions::default(),
    )
    .unwrap();
    assert_eq!(masked.spans.len(), 2000);
    assert_eq!(&masked.text[masked.spans[1999].clone()], "Answer 3999<eot>");
}
