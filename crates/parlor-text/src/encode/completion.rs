//! A prompt and how it goes on, as ids: TRL's rules (1.16, `tokenize_fn` of its trainers).
//!
//! Both are tokenised as one, since tokens may merge across the seam; the completion begins where the ids of the
//! prompt alone and those of the whole part. Plain text ends with EOS, what a template renders ends as the template
//! says.

use crate::assistant::MaskError;
use crate::chat::Message;
use crate::datasets::{Content, TemplateInputs};
use crate::template::{ChatTemplate, RenderOptions};
use crate::tokenizer::{SpecialTokens, Tokenizer, TokenizerError};

/// The ids of a prompt alone, and of the prompt with its completion.
pub(crate) struct Continuation {
    pub(crate) prompt: Vec<u32>,
    pub(crate) whole: Vec<u32>,
}

impl Continuation {
    /// Of plain text.
    pub(crate) fn plain(
        tokenizer: &Tokenizer,
        prompt: &str,
        completion: &str,
    ) -> Result<Self, TokenizerError> {
        let whole = text_ids(tokenizer, &format!("{prompt}{completion}"))?;
        let prompt = text_ids(tokenizer, prompt)?;
        Ok(Self { prompt, whole: ended(tokenizer, whole) })
    }

    /// Of messages: the prompt with its generation prompt, the whole without.
    pub(crate) fn rendered(
        tokenizer: &Tokenizer,
        template: &ChatTemplate,
        prompt: &[Message],
        completion: &[Message],
        options: &RenderOptions,
    ) -> Result<Self, MaskError> {
        let asked = RenderOptions { add_generation_prompt: true, ..options.clone() };
        let before = template.render(prompt, &asked)?.text;
        let whole: Vec<Message> = prompt.iter().chain(completion).cloned().collect();
        let whole = template.render(&whole, options)?.text;
        Ok(Self {
            prompt: tokenizer.encode(&before, SpecialTokens::Omit)?,
            whole: tokenizer.encode(&whole, SpecialTokens::Omit)?,
        })
    }

    /// Of a row's parts; none when one is text and the other messages.
    pub(crate) fn of(
        tokenizer: &Tokenizer,
        template: Option<&ChatTemplate>,
        prompt: &Content,
        completion: &Content,
        inputs: &TemplateInputs,
    ) -> Result<Self, String> {
        match (prompt, completion, template) {
            (Content::Text(prompt), Content::Text(completion), _) => {
                Self::plain(tokenizer, prompt, completion).map_err(|error| error.to_string())
            }
            (Content::Messages(prompt), Content::Messages(completion), Some(template)) => {
                Self::rendered(tokenizer, template, prompt, completion, &inputs.render_options())
                    .map_err(|error| error.to_string())
            }
            (Content::Messages(_), Content::Messages(_), None) => Err(NO_TEMPLATE.to_owned()),
            _ => Err("prompt and answers are of different kinds: texts and messages".to_owned()),
        }
    }

    /// Where the completion begins in the whole.
    pub(crate) fn boundary(&self) -> usize {
        self.prompt.iter().zip(&self.whole).take_while(|(a, b)| a == b).count()
    }
}

pub(crate) const NO_TEMPLATE: &str = "a conversation needs a chat template, and the model has none: put a chat_template.jinja into the model's directory";

/// The ids of plain text with the tokens that frame it. What a text begins or ends with already, as one that a template
/// rendered does, is not put there again.
pub(crate) fn text_ids(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, TokenizerError> {
    let mut framed = tokenizer.encode(text, SpecialTokens::Include)?;
    let twice = |ids: &[u32]| ids.len() > 1 && ids[0] == ids[1];
    let at_end: Vec<u32> = framed.iter().rev().take(2).copied().collect();
    if !twice(&framed) && !twice(&at_end) {
        return Ok(framed);
    }
    let alone = tokenizer.encode(text, SpecialTokens::Omit)?;
    let Some(before) = framed.windows(alone.len().max(1)).rposition(|part| part == alone) else {
        return Ok(framed);
    };
    if alone.last().is_some() && framed.get(before + alone.len()) == alone.last() {
        framed.remove(before + alone.len());
    }
    if before > 0 && framed.get(before - 1) == alone.first() {
        framed.remove(before - 1);
    }
    Ok(framed)
}

/// `ids` with EOS last, where the tokenizer has one.
pub(crate) fn ended(tokenizer: &Tokenizer, mut ids: Vec<u32>) -> Vec<u32> {
    if let Some(eos) = tokenizer.eos()
        && ids.last() != Some(&eos.id)
    {
        ids.push(eos.id);
    }
    ids
}
