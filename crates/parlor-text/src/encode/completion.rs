//! A prompt and its completion as ids, by TRL's rules (1.16, `tokenize_fn` of its trainers).
//!
//! The two are tokenised as one text, since tokens may merge across the boundary. The completion begins where
//! these ids first differ from those of the prompt alone. Plain text ends with EOS; a rendered conversation
//! ends as its template ends it.

use crate::datasets::{Content, TemplateInputs};
use crate::masks::MaskError;
use crate::message::Message;
use crate::template::{ChatTemplate, RenderOptions};
use crate::tokenizer::{SpecialTokens, Tokenizer, TokenizerError};

/// The ids of a prompt alone, and of the prompt with its completion.
pub(super) struct EncodedCompletion {
    pub(super) prompt: Vec<u32>,
    pub(super) whole: Vec<u32>,
}

impl EncodedCompletion {
    /// Encodes plain text.
    pub(super) fn plain(
        tokenizer: &Tokenizer,
        prompt: &str,
        completion: &str,
    ) -> Result<Self, TokenizerError> {
        let whole = framed_ids(tokenizer, &format!("{prompt}{completion}"))?;
        let prompt = framed_ids(tokenizer, prompt)?;
        Ok(Self { prompt, whole: with_eos(tokenizer, whole) })
    }

    /// Encodes messages: the prompt with a generation prompt, the whole without.
    pub(super) fn rendered(
        tokenizer: &Tokenizer,
        template: &ChatTemplate,
        prompt: &[Message],
        completion: &[Message],
        options: &RenderOptions,
    ) -> Result<Self, MaskError> {
        let prompted = RenderOptions { add_generation_prompt: true, ..options.clone() };
        let before = template.render(prompt, &prompted)?.text;
        let whole: Vec<Message> = prompt.iter().chain(completion).cloned().collect();
        let whole = template.render(&whole, options)?.text;
        Ok(Self {
            prompt: tokenizer.encode(&before, SpecialTokens::Omit)?,
            whole: tokenizer.encode(&whole, SpecialTokens::Omit)?,
        })
    }

    /// Encodes prompt and completion of a row.
    ///
    /// # Errors
    /// What is wrong with the row.
    pub(super) fn of(
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

    /// Index of the first id of the completion in `whole`.
    pub(super) fn boundary(&self) -> usize {
        self.prompt.iter().zip(&self.whole).take_while(|(a, b)| a == b).count()
    }
}

pub(super) const NO_TEMPLATE: &str = "a conversation needs a chat template, and the model has none: put a \
     chat_template.jinja into the model's directory";

/// The ids of plain text with the tokens that frame it (BOS, EOS). A token that the text begins or ends with
/// already, as text that a template rendered may, is not added again.
pub(super) fn framed_ids(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, TokenizerError> {
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

/// `ids` with EOS as the last id, if the tokenizer has one.
pub(super) fn with_eos(tokenizer: &Tokenizer, mut ids: Vec<u32>) -> Vec<u32> {
    if let Some(eos) = tokenizer.eos()
        && ids.last() != Some(&eos.id)
    {
        ids.push(eos.id);
    }
    ids
}
