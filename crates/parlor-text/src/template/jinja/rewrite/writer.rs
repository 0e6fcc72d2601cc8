//! Writes the text of a rewritten template, and knows the line and the loops it is in.

/// Whether the output says which message each part of it belongs to ([`crate::template::jinja::message_parts`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageMarks {
    Omitted,
    Written,
}

/// A loop whose body is being written.
pub(super) struct OpenLoop {
    pub(super) number: usize,
    /// Name of the loop variable.
    pub(super) item: String,
    /// Whether the loop variable is an index into the messages.
    pub(super) by_index: bool,
}

/// The output, and where in the template it stands.
pub(super) struct Writer {
    pub(super) out: String,
    /// The line of the template that is being written.
    pub(super) line: u32,
    pub(super) marks: MessageMarks,
    /// Number of loops so far.
    pub(super) loops: usize,
    /// Enclosing loops, the innermost last.
    pub(super) open_loops: Vec<OpenLoop>,
}

impl Writer {
    /// An empty output for a template of `length` bytes.
    pub(super) fn new(length: usize, marks: MessageMarks) -> Self {
        let out = String::with_capacity(length * 2);
        Self { out, line: 1, marks, loops: 0, open_loops: Vec::new() }
    }

    /// Appends `text`.
    pub(super) fn put(&mut self, text: &str) {
        self.out.push_str(text);
    }

    /// Begins a tag, on the line on which the template has it.
    pub(super) fn open(&mut self, tag: &str, line: u16) {
        self.put(tag);
        while self.line < u32::from(line) {
            self.out.push('\n');
            self.line += 1;
        }
        self.put(" ");
    }

    /// Writes `{% tag %}`.
    pub(super) fn end(&mut self, tag: &str) {
        self.put("{% ");
        self.put(tag);
        self.put(" %}");
    }

    /// Writes a string literal. Line breaks are escaped, so that only `open` begins lines.
    pub(super) fn text(&mut self, text: &str) {
        self.put("\"");
        for c in text.chars() {
            match c {
                '"' => self.put("\\\""),
                '\\' => self.put("\\\\"),
                '\n' => self.put("\\n"),
                '\r' => self.put("\\r"),
                c => self.out.push(c),
            }
        }
        self.put("\"");
    }
}
