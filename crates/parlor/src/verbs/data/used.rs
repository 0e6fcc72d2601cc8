//! The columns of a row that were used, as `inspect` shows them.

use parlor::text::{Content, Message, Row, SourcedRow};

/// The columns of a row that were used, and what they hold, in words.
pub(super) fn used(sourced: &SourcedRow) -> Vec<String> {
    let mut used = match &sourced.row {
        Row::Messages { messages } => vec![described("messages", messages)],
        Row::Instruction { input, lead, .. } => {
            let mut used = vec!["instruction".to_owned()];
            if !input.is_empty() {
                used.push("input".to_owned());
            }
            if !lead.is_empty() {
                used.push(described("system and history", lead));
            }
            used.push("output".to_owned());
            used
        }
        Row::PromptCompletion { prompt, completion } => {
            vec![content("prompt", prompt), content("completion", completion)]
        }
        Row::Text(_) => vec!["text".to_owned()],
        Row::Preference { prompt, chosen, rejected } => {
            vec![content("prompt", prompt), content("chosen", chosen), content("rejected", rejected)]
        }
        Row::Unpaired { prompt, completion, desirable } => {
            vec![content("prompt", prompt), content("completion", completion), format!("label ({desirable})")]
        }
    };
    let inputs = &sourced.inputs;
    if let Some(tools) = &inputs.tools {
        let name = |tool: &serde_json::Value| {
            let name = tool.pointer("/function/name").or_else(|| tool.get("name"));
            name.and_then(serde_json::Value::as_str).unwrap_or("unnamed").to_owned()
        };
        used.push(format!("tools ({})", tools.iter().map(name).collect::<Vec<_>>().join(", ")));
    }
    if let Some(documents) = &inputs.documents {
        used.push(format!("documents ({})", documents.len()));
    }
    if !inputs.chat_template_kwargs.is_empty() {
        let variables = inputs.chat_template_kwargs.iter();
        let variables: Vec<String> = variables.map(|(name, value)| format!("{name}: {value}")).collect();
        used.push(format!("chat_template_kwargs ({})", variables.join(", ")));
    }
    used
}

fn content(name: &str, content: &Content) -> String {
    match content {
        Content::Text(_) => format!("{name} (text)"),
        Content::Messages(messages) => described(name, messages),
    }
}

fn described(name: &str, messages: &[Message]) -> String {
    let roles: Vec<&str> = messages.iter().map(Message::role).collect();
    let untrained = messages.iter().filter(|message| !message.is_trained()).count();
    let untrained = if untrained > 0 { format!("; {untrained} not trained") } else { String::new() };
    format!("{name} ({}{untrained})", roles.join(", "))
}
