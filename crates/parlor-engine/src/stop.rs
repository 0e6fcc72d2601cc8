//! Stop texts over a stream: what may be emitted, and when a completion ends.
//!
//! The stream is text with hidden (special) tokens in between. A stop text is found in the emitted text;
//! where it spells a special token, it also matches that token's id. No match begins or ends inside a hidden
//! token, or skips one.

use std::ops::Range;

/// Searches a stream of text for the first stop text, and buffers text that may still become one.
#[derive(Clone, Debug)]
pub struct StopScanner {
    stops: Vec<String>,
    /// Text that is not emitted yet, with hidden tokens spelled out.
    buffer: String,
    /// Bytes of `buffer` that are hidden tokens.
    hidden: Vec<Range<usize>>,
    stopped: bool,
}

impl StopScanner {
    /// Searches for any of `stops`.
    pub fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Self { stops, buffer: String::new(), hidden: Vec::new(), stopped: false }
    }

    /// Whether there is a stop text to search for.
    pub fn watches(&self) -> bool {
        !self.stops.is_empty()
    }

    /// Adds a piece of text; returns what can be emitted now. Nothing is emitted after a stop text.
    pub fn push(&mut self, piece: &str) -> String {
        self.buffer.push_str(piece);
        self.scan()
    }

    /// Adds a hidden token, spelled as in the vocabulary; returns what can be emitted now.
    pub fn push_hidden(&mut self, token: &str) -> String {
        let start = self.buffer.len();
        self.buffer.push_str(token);
        self.hidden.push(start..self.buffer.len());
        self.scan()
    }

    /// Whether a stop text was found.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// The rest of the buffer, when the completion ends for another reason.
    pub fn finish(&mut self) -> String {
        if self.stopped { String::new() } else { self.release(self.buffer.len()) }
    }

    fn scan(&mut self) -> String {
        if self.stopped {
            return String::new();
        }
        // The stop text that ends first, as if the text came character by character: else what is emitted
        // would depend on where the pieces are cut. Of several that end together, the longest.
        let found = self.stops.iter().filter_map(|stop| self.find(stop)).min();
        if let Some((_, at)) = found {
            self.stopped = true;
            return self.release(at);
        }
        let keep = self.stops.iter().map(|stop| self.partial_match(stop)).max().unwrap_or(0);
        self.release(self.buffer.len() - keep)
    }

    /// End and start of the first match of `stop`.
    fn find(&self, stop: &str) -> Option<(usize, usize)> {
        let mut from = 0;
        while let Some(at) = self.buffer[from..].find(stop).map(|at| from + at) {
            if self.is_boundary(at) && self.is_boundary(at + stop.len()) {
                return Some((at + stop.len(), at));
            }
            from = at + self.buffer[at..].chars().next().map_or(1, char::len_utf8);
        }
        None
    }

    /// Length in bytes of the longest suffix of the buffer that is a prefix of `stop`.
    fn partial_match(&self, stop: &str) -> usize {
        let ends = stop.char_indices().map(|(at, _)| at).filter(|&len| len > 0 && len <= self.buffer.len());
        let begins =
            |len: usize| self.buffer.ends_with(&stop[..len]) && self.is_boundary(self.buffer.len() - len);
        ends.filter(|&len| begins(len)).max().unwrap_or(0)
    }

    /// Whether a byte position lies outside the hidden tokens.
    fn is_boundary(&self, at: usize) -> bool {
        !self.hidden.iter().any(|token| token.start < at && at < token.end)
    }

    /// Removes the first `len` bytes of the buffer; returns those that are not hidden.
    fn release(&mut self, len: usize) -> String {
        let rest = self.buffer.split_off(len);
        let text = std::mem::replace(&mut self.buffer, rest);
        let mut shown = String::with_capacity(text.len());
        let mut from = 0;
        for token in self.hidden.iter().filter(|token| token.end <= len) {
            shown.push_str(&text[from..token.start]);
            from = token.end;
        }
        shown.push_str(&text[from..]);
        self.hidden.retain(|token| token.end > len);
        for token in &mut self.hidden {
            *token = token.start - len..token.end - len;
        }
        shown
    }
}
