//! Stop texts over a stream: what may be shown, and when the answer has ended.
//!
//! The stream is text with hidden tokens (special ones) in between. A stop text is found in the text that is shown; where
//! it spells a special token, it also matches that token's id. No match begins or ends inside a hidden token or skips one.

use std::ops::Range;

/// Watches pieces of text for the first stop text; text that may still become one is held back.
#[derive(Clone, Debug)]
pub struct StopScanner {
    stops: Vec<String>,
    /// What is held back, hidden tokens spelled out.
    held: String,
    /// Bytes of `held` that are hidden tokens.
    hidden: Vec<Range<usize>>,
    stopped: bool,
}

impl StopScanner {
    /// Watches for any of `stops`.
    pub fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Self { stops, held: String::new(), hidden: Vec::new(), stopped: false }
    }

    /// Whether there is anything to watch for.
    pub fn watches(&self) -> bool {
        !self.stops.is_empty()
    }

    /// Adds a piece; returns what may be shown now. After a stop text nothing more is shown.
    pub fn push(&mut self, piece: &str) -> String {
        self.held.push_str(piece);
        self.scan()
    }

    /// Adds a token that is not shown, spelled as in the vocabulary; returns what may be shown now.
    pub fn push_hidden(&mut self, token: &str) -> String {
        let start = self.held.len();
        self.held.push_str(token);
        self.hidden.push(start..self.held.len());
        self.scan()
    }

    /// Whether a stop text was found.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// What was held back, when the answer ends for another reason.
    pub fn finish(&mut self) -> String {
        if self.stopped { String::new() } else { self.release(self.held.len()) }
    }

    fn scan(&mut self) -> String {
        if self.stopped {
            return String::new();
        }
        // The one that is complete first, as if the text came character by character: else what is shown would depend
        // on where the pieces are cut. Of several that end together, the longest.
        let found = self.stops.iter().filter_map(|stop| self.find(stop)).min();
        if let Some((_, at)) = found {
            self.stopped = true;
            return self.release(at);
        }
        let keep = self.stops.iter().map(|stop| self.pending(stop)).max().unwrap_or(0);
        self.release(self.held.len() - keep)
    }

    /// End and start of the first match of `stop`.
    fn find(&self, stop: &str) -> Option<(usize, usize)> {
        let mut from = 0;
        while let Some(at) = self.held[from..].find(stop).map(|at| from + at) {
            if self.between(at) && self.between(at + stop.len()) {
                return Some((at + stop.len(), at));
            }
            from = at + self.held[at..].chars().next().map_or(1, char::len_utf8);
        }
        None
    }

    /// Length of the longest end of what is held that begins `stop`.
    fn pending(&self, stop: &str) -> usize {
        let ends = stop.char_indices().map(|(at, _)| at).filter(|&len| len > 0 && len <= self.held.len());
        let begins = |len: usize| self.held.ends_with(&stop[..len]) && self.between(self.held.len() - len);
        ends.filter(|&len| begins(len)).max().unwrap_or(0)
    }

    /// Whether a place is outside the hidden tokens.
    fn between(&self, at: usize) -> bool {
        !self.hidden.iter().any(|token| token.start < at && at < token.end)
    }

    /// Takes the first `len` bytes out; returns those that are not hidden.
    fn release(&mut self, len: usize) -> String {
        let rest = self.held.split_off(len);
        let text = std::mem::replace(&mut self.held, rest);
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
