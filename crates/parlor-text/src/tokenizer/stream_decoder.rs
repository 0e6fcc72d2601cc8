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
        // A byte-fallback decoder replaces a whole run of bytes when its end is not a character, also what was
        // whole and is shown already: what is pending is then decoded alone.
        let whole = text.get(..self.shown).is_some_and(|shown| !shown.ends_with(REPLACEMENT));
        let rest = match text.get(self.shown..) {
            Some(rest) if whole || self.shown == 0 => rest.to_owned(),
            _ => self.tokenizer.decode(&self.window[self.context..], self.special)?,
        };
        self.window.clear();
        (self.context, self.shown) = (0, 0);
        Ok(rest)
    }
}
