//! Decodes ids one by one, for streaming. Never emits half a UTF-8 character.
//!
//! Written by hand beside `tokenizers::DecodeStream`, which fails on an id whose text changes its neighbours'
//! and offers no way to flush what an unfinished character leaves. The idea is the same: a token's text is the
//! difference that it makes to the text of a short window before it.

use super::codec::Tokenizer;
use super::error::TokenizerError;
use super::special_tokens::SpecialTokens;

/// Decodes one stream of ids; keeps only the ids since the last whole character, and a window of context.
#[derive(Clone, Debug)]
pub struct StreamDecoder<'t> {
    tokenizer: &'t Tokenizer,
    special: SpecialTokens,
    /// First `context` ids whose text was emitted, then ids that are pending.
    window: Vec<u32>,
    context: usize,
    /// Bytes of the window's text that were emitted.
    emitted: usize,
}

/// How a decoder renders bytes that are not (yet) a character.
const REPLACEMENT: char = '\u{FFFD}';

impl<'t> StreamDecoder<'t> {
    /// A decoder for a new stream.
    pub fn new(tokenizer: &'t Tokenizer, special: SpecialTokens) -> Self {
        Self { tokenizer, special, window: Vec::new(), context: 0, emitted: 0 }
    }

    /// Adds an id; returns the text that is certain now, if any.
    ///
    /// # Errors
    /// [`TokenizerError::Use`] when the tokenizer's decoder fails.
    pub fn push(&mut self, id: u32) -> Result<Option<String>, TokenizerError> {
        self.window.push(id);
        let text = self.tokenizer.decode(&self.window, self.special)?;
        let certain = text.trim_end_matches(REPLACEMENT);
        if certain.len() <= self.emitted || !certain.is_char_boundary(self.emitted) {
            return Ok(None);
        }
        let new = certain[self.emitted..].to_owned();
        if certain.len() == text.len() {
            // The window ends with a whole character: the pending ids become the context of the next ones.
            self.window.drain(..self.context);
            self.context = self.window.len();
            self.emitted = self.tokenizer.decode(&self.window, self.special)?.len();
        } else {
            self.emitted = certain.len();
        }
        Ok(Some(new))
    }

    /// The rest, when the stream has ended: bytes that never became a character, as replacement characters.
    ///
    /// # Errors
    /// [`TokenizerError::Use`] when the tokenizer's decoder fails.
    pub fn finish(&mut self) -> Result<String, TokenizerError> {
        let text = self.tokenizer.decode(&self.window, self.special)?;
        // A byte-fallback decoder replaces a whole run of bytes when its end is not a character, even
        // characters that were emitted already. The pending ids are then decoded alone.
        let whole = text.get(..self.emitted).is_some_and(|emitted| !emitted.ends_with(REPLACEMENT));
        let rest = match text.get(self.emitted..) {
            Some(rest) if whole || self.emitted == 0 => rest.to_owned(),
            _ => self.tokenizer.decode(&self.window[self.context..], self.special)?,
        };
        self.window.clear();
        (self.context, self.emitted) = (0, 0);
        Ok(rest)
    }
}
