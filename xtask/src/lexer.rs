//! Just enough of Rust's lexer to tell code from comments and texts. Written here because the laws need only
//! this and must not depend on a compiler's internals.

/// What a line of source holds, apart.
#[derive(Debug, Default, Clone)]
pub(crate) struct Line {
    /// Code, without comments and with the content of string literals blanked.
    pub(crate) code: String,
    /// The content of string literals.
    pub(crate) strings: String,
    /// Comments.
    pub(crate) comment: String,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Code,
    LineComment,
    BlockComment(usize),
    String,
    RawString(usize),
}

/// Splits `source` into lines.
pub(crate) fn lines(source: &str) -> Vec<Line> {
    let chars: Vec<char> = source.chars().collect();
    let (mut lines, mut line, mut state, mut i) = (Vec::new(), Line::default(), State::Code, 0);
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    while i < chars.len() {
        let c = chars[i];
        if c == '\n' {
            if state == State::LineComment {
                state = State::Code;
            }
            lines.push(std::mem::take(&mut line));
            i += 1;
            continue;
        }
        match state {
            State::Code => {
                let hashes = chars[i + 1..].iter().take_while(|c| **c == '#').count();
                let word_before = i > 0 && (at(i - 1).is_alphanumeric() || at(i - 1) == '_');
                if c == '/' && at(i + 1) == '/' {
                    state = State::LineComment;
                    i += 1;
                } else if c == '/' && at(i + 1) == '*' {
                    state = State::BlockComment(1);
                    i += 1;
                } else if c == '"' {
                    state = State::String;
                    line.code.push('"');
                } else if c == 'r' && !word_before && at(i + 1 + hashes) == '"' {
                    state = State::RawString(hashes);
                    line.code.push('"');
                    i += 1 + hashes;
                } else if c == '\'' && (at(i + 1) == '\\' || at(i + 2) == '\'') {
                    // A character literal (a lifetime has no closing quote two characters on).
                    i += if at(i + 1) == '\\' { 3 } else { 2 };
                    while i < chars.len() && chars[i] != '\'' && chars[i] != '\n' {
                        i += 1;
                    }
                    line.code.push_str("' '");
                } else {
                    line.code.push(c);
                }
            }
            State::LineComment => line.comment.push(c),
            State::BlockComment(depth) => {
                if c == '*' && at(i + 1) == '/' {
                    state = if depth == 1 { State::Code } else { State::BlockComment(depth - 1) };
                    i += 1;
                } else if c == '/' && at(i + 1) == '*' {
                    state = State::BlockComment(depth + 1);
                    i += 1;
                } else {
                    line.comment.push(c);
                }
            }
            State::String => match c {
                '\\' if at(i + 1) != '\n' => i += 1,
                '"' => {
                    state = State::Code;
                    line.code.push('"');
                }
                _ => line.strings.push(c),
            },
            State::RawString(hashes) => {
                if c == '"' && (1..=hashes).all(|n| at(i + n) == '#') {
                    state = State::Code;
                    line.code.push('"');
                    i += hashes;
                } else {
                    line.strings.push(c);
                }
            }
        }
        i += 1;
    }
    lines.push(line);
    lines
}

/// Whether `text` contains `word` as a whole word.
pub(crate) fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(part)
            && !text[at + word.len()..].chars().next().is_some_and(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_comments_and_texts_are_told_apart() {
        let source = "let x = \"unsafe // no\"; // unsafe yes\n/* a /* b */ c */ let r = r#\"exit\"#; 'a: loop { '\\'' }";
        let lines = lines(source);
        assert!(!lines[0].code.contains("unsafe") && lines[0].strings == "unsafe // no");
        assert_eq!(lines[0].comment, " unsafe yes");
        assert!(lines[1].code.contains("let r =") && !lines[1].code.contains("exit"));
        assert!(lines[1].code.contains("'a: loop"));
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("a unsafe {", "unsafe") && !has_word("unsafe_code", "unsafe"));
    }
}
