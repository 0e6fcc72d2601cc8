//! Findings: what is suspicious about rows that can be trained on (answers without an end, two BOS tokens,
//! tools that the template leaves out). Each is counted, with the first row as an example and what to do.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::datasets::{Content, Row, SourcedRow};
use crate::message::Message;
use crate::template::{ChatTemplate, RenderOptions};
use crate::tokenizer::{SpecialTokens, Tokenizer};

/// A property that some rows have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Number of rows.
    pub count: usize,
    /// The first of them: `file:line`.
    pub first: Option<String>,
}

impl Finding {
    fn add(&mut self, sourced: &SourcedRow) {
        self.count += 1;
        self.first.get_or_insert_with(|| sourced.source.to_string());
    }

    fn merge(&mut self, other: Finding) {
        self.count += other.count;
        self.first = self.first.take().or(other.first);
    }
}

/// The findings in all rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Findings {
    /// Rows whose last trained token is no end-of-turn token.
    pub without_end: Finding,
    /// Rows that begin with two BOS tokens.
    pub doubled_bos: Finding,
    /// Rows with tools of which the template renders none.
    pub tools_not_rendered: Finding,
    /// Conversations whose end is cut off.
    pub cut: Finding,
    /// Rows without a system prompt that get the template's own.
    pub system_from_template: Finding,
    /// The beginning of that prompt.
    pub system_prompt: Option<String>,
}

impl Findings {
    /// Adds the findings of other rows.
    pub fn add(&mut self, other: Findings) {
        self.without_end.merge(other.without_end);
        self.doubled_bos.merge(other.doubled_bos);
        self.tools_not_rendered.merge(other.tools_not_rendered);
        self.cut.merge(other.cut);
        self.system_from_template.merge(other.system_from_template);
        self.system_prompt = self.system_prompt.take().or(other.system_prompt);
    }

    /// A sentence per finding, with an example and what to do.
    pub fn sentences(&self) -> Vec<String> {
        let prompt = self.system_prompt.as_deref().unwrap_or_default();
        let all = [
            (
                &self.without_end,
                "without an end-of-turn token among what is trained: the model would not learn to stop; name the \
                 tokenizer's `eos_token`, or let the chat template end each answer"
                    .to_owned(),
            ),
            (
                &self.doubled_bos,
                "with two BOS tokens at the beginning: take it out of the rows, or out of the chat template".to_owned(),
            ),
            (
                &self.tools_not_rendered,
                "with `tools` that the chat template does not render: use a template that knows tools \
                 (`additional_chat_templates/tool_use.jinja`), or leave the column out"
                    .to_owned(),
            ),
            (
                &self.cut,
                "cut at `data.max_length`, their last turns partly or wholly: raise it, or leave such rows out by \
                 `data.on_long_row: drop`"
                    .to_owned(),
            ),
            (
                &self.system_from_template,
                format!(
                    "without a system prompt get the chat template's own ({prompt:?}): it is in what the model is \
                     trained on; put one into the rows to replace it"
                ),
            ),
        ];
        let found = all.into_iter().filter(|(finding, _)| finding.count > 0);
        found
            .map(|(Finding { count, first }, what)| {
                let rows = if *count == 1 { "row" } else { "rows" };
                format!("{count} {rows} {what} (the first: {})", first.as_deref().unwrap_or("?"))
            })
            .collect()
    }
}

/// Inspects encoded rows.
pub(super) struct Inspector {
    /// Tokens that may end an answer: all special tokens.
    ends: HashSet<u32>,
    bos: Option<u32>,
    /// The beginning of the template's default system prompt.
    system_prompt: Option<String>,
}

/// The findings in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RowFindings {
    without_end: bool,
    doubled_bos: bool,
    tools_not_rendered: bool,
    system_from_template: bool,
}

/// A template that writes at least this many words before the first question has a default system prompt;
/// roles alone are fewer.
const PROMPT_WORDS: usize = 5;

impl Inspector {
    pub(super) fn new(tokenizer: &Tokenizer, template: Option<&ChatTemplate>) -> Self {
        let mut ends: HashSet<u32> = tokenizer.special_ids().collect();
        ends.extend(tokenizer.eos().map(|eos| eos.id));
        Self {
            ends,
            bos: tokenizer.bos().map(|bos| bos.id),
            system_prompt: template.and_then(|template| system_prompt(template, tokenizer)),
        }
    }

    /// The findings in a row with these ids. `trained` is the index of the last id that is trained, if any is.
    pub(super) fn inspect(
        &self,
        tokenizer: &Tokenizer,
        sourced: &SourcedRow,
        ids: &[u32],
        trained: Option<usize>,
    ) -> RowFindings {
        let text = |ids: &[u32]| tokenizer.decode(ids, SpecialTokens::Include).unwrap_or_default();
        let ended = |last: usize| {
            let mut back = ids[..=last].iter().rev();
            // A template may write a line break after the token.
            back.find(|id| self.ends.contains(id) || !text(&[**id]).trim().is_empty())
                .is_some_and(|id| self.ends.contains(id))
        };
        let names = |tool: &serde_json::Value| {
            let name = tool.pointer("/function/name").or_else(|| tool.get("name"));
            name.and_then(serde_json::Value::as_str).map(str::to_owned)
        };
        let tools = sourced.inputs.tools.iter().flatten().filter_map(names).collect::<Vec<_>>();
        let rendered = if tools.is_empty() { String::new() } else { text(ids) };
        RowFindings {
            without_end: trained.is_some_and(|last| last < ids.len() && !ended(last)),
            doubled_bos: self.bos.is_some_and(|bos| ids.starts_with(&[bos, bos])),
            tools_not_rendered: !tools.is_empty() && !tools.iter().any(|name| rendered.contains(name)),
            system_from_template: self.system_prompt.is_some() && lacks_system(&sourced.row),
        }
    }

    /// Counts the findings of a row.
    pub(super) fn count(&self, findings: &mut Findings, sourced: &SourcedRow, found: RowFindings) {
        let all = [
            (found.without_end, &mut findings.without_end),
            (found.doubled_bos, &mut findings.doubled_bos),
            (found.tools_not_rendered, &mut findings.tools_not_rendered),
            (found.system_from_template, &mut findings.system_from_template),
        ];
        for (has, finding) in all {
            if has {
                finding.add(sourced);
            }
        }
        if found.system_from_template {
            findings.system_prompt.clone_from(&self.system_prompt);
        }
    }
}

/// Counts a row whose end is cut off.
pub(super) fn count_cut(findings: &mut Findings, sourced: &SourcedRow) {
    findings.cut.add(sourced);
}

/// The beginning of what a template writes before a question without a system prompt, if that is a system prompt.
fn system_prompt(template: &ChatTemplate, tokenizer: &Tokenizer) -> Option<String> {
    const QUESTION: &str = "Hm?";
    let text = template.render(&[Message::new("user", QUESTION)], &RenderOptions::default()).ok()?.text;
    let (mut before, _) = text.split_once(QUESTION)?;
    if let Some(bos) = tokenizer.bos() {
        before = before.strip_prefix(bos.text.as_str()).unwrap_or(before);
    }
    // Tags are not words.
    let mut words = String::new();
    let mut inside = false;
    for c in before.chars() {
        match c {
            '<' | '[' => inside = true,
            '>' | ']' => {
                inside = false;
                words.push(' ');
            }
            c if !inside => words.push(c),
            _ => {}
        }
    }
    let words: Vec<&str> =
        words.split_whitespace().filter(|word| !["system", "user"].contains(word)).collect();
    let first: String = words.join(" ").chars().take(60).collect();
    (words.len() >= PROMPT_WORDS).then_some(first)
}

fn lacks_system(row: &Row) -> bool {
    let lacks = |messages: &[Message]| {
        !messages.iter().any(|message| matches!(message.role(), "system" | "developer"))
    };
    let content = |content: &Content| match content {
        Content::Messages(messages) => lacks(messages),
        Content::Text(_) => false,
    };
    match row {
        Row::Messages { messages } => lacks(messages),
        Row::Instruction { lead, .. } => lacks(lead),
        Row::PromptCompletion { prompt, .. }
        | Row::Preference { prompt, .. }
        | Row::Unpaired { prompt, .. } => content(prompt),
        Row::Text(_) => false,
    }
}
