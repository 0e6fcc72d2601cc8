//! Ids to text one by one, for answers that are shown while they are made. Never half a UTF-8 character.
//!
//! Written by hand beside `tokenizers::DecodeStream`, which fails on an id whose text changes its neighbours'
//! and offers no way to flush what an unfinished character leaves. The idea is the same: a token's text is the
//! difference that it makes to the text of a short window before it.

use crate::tokenizer::{SpecialTokens, Tokenizer, TokenizerError};

/// Decodes one stream of ids; holds the ids since the last whole character only.
#[derive(Clone, Debug)]
pub struct StreamDecoder<'t> {
    tokenizer: &'t Tokenizer,
    special: SpecialTokens,
    /// Ids whose text was shown, kept as context, then ids that are pending.
    window: Vec<u32>,
    context: usize,
    /// Bytes of the window's text that were shown.
    shown: usize,
}

/// How a decoder renders bytes that are not (yet) a character.
const REPLACEMENT: char = '\u{FFFD}';

impl<'t> StreamDecoder<'t> {
    /// A decoder for a new stream.
    pub fn new(tokenizer: &'t Tokenizer, special: SpecialTokens) -> Self {
        Self { tokenizer, special, window: Vec::new(), context: 0, shown: 0 }
    }

    /// Adds an id; returns the text that is certain now, if any.
    ///
    /// # Errors
    /// [`TokenizerError::Use`] when the tokenizer's decoder fails.
    pub fn push(&mut self, id: u32) -> Result<Option<String>, TokenizerError> {
        self.window.push(id);
        let text = self.tokenizer.decode(&self.window, self.special)?;
        let certain = text.trim_end_matches(REPLACEMENT);
        if certain.len() <= self.shown || !certain.is_char_boundary(self.shown) {
            return Ok(None);
        }
        let new = certain[self.shown..].to_owned();
        if certain.len() == text.len() {
            // A clean cut: what was pending becomes the context of what follows.
            self.window.drain(..self.context);
            self.context = self.window.len();
            self.shown = self.tokenizer.decode(&self.window, self.special)?.len();
        } else {
            self.shown = certain.len();
        }
        Ok(Some(new))
    }

    /// The rest, when the stream has ended: bytes that never became a character, as replacement characters.
    ///
    /// # Errors
    /// [`TokenizerError::Use`] when the tokenizer's decoder fails.
    pub fn finish(&mut self) -> Result<String, TokenizerError> {
        let text = self.tokenizer.decode(&self.window, self.special)?;
        let rest = text.get(self.shown..).unwrap_or_default().to_owned();
        self.window.clear();
        (self.context, self.shown) = (0, 0);
        Ok(rest)
    }
}
