//! The `{% generation %}` tag, which `transformers` adds to Jinja to mark what the assistant says.
//!
//! The engine takes no new tags, so these are replaced by private marks in the output before the template is
//! compiled.

use super::error::TemplateError;
use super::rendered::Rendered;

/// Marks the beginning of the assistant's part in the output: private-use code points that no text should hold.
const BEGIN: &str = "\u{F0A10}\u{10A10}\u{F0A11}";
/// Marks its end.
const END: &str = "\u{F0A12}\u{10A12}\u{F0A13}";

/// A source with line breaks as Jinja2 normalizes them.
pub(super) fn normalized(source: &str) -> String {
    source.replace("\r\n", "\n").replace('\r', "\n")
}

/// What the tags are replaced by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Generation {
    Marked,
    Ignored,
}

/// Replaces the `generation` tags by marks or by nothing, keeping their white-space control. Also returns
/// whether there were any.
pub(super) fn mark_generation(source: &str, generation: Generation) -> (String, bool) {
    let (mut out, mut rest, mut found) = (String::with_capacity(source.len()), source, false);
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start + 2..].find("%}").map(|at| at + 2) else { break };
        let tag = &rest[start..start + length + 2];
        let inner = &tag[2..tag.len() - 2];
        let (left, inner) = control(inner, true);
        let (right, inner) = control(inner, false);
        let mark = match inner.trim() {
            "generation" => Some(BEGIN),
            "endgeneration" => Some(END),
            _ => None,
        };
        out.push_str(&rest[..start]);
        match mark {
            // Two tags around the mark, so that each side keeps its own white-space control.
            Some(mark) => {
                found = true;
                let mark = if generation == Generation::Marked { mark } else { "" };
                out.push_str(&format!("{{%{left} if true %}}{mark}{{% endif {right}%}}"));
            }
            None => out.push_str(tag),
        }
        rest = &rest[start + length + 2..];
    }
    out.push_str(rest);
    (out, found)
}

/// Splits the white-space control sign off one end of the inside of a tag.
fn control(inner: &str, leading: bool) -> (&str, &str) {
    for sign in ["-", "+"] {
        let stripped = if leading { inner.strip_prefix(sign) } else { inner.strip_suffix(sign) };
        if let Some(rest) = stripped {
            return (sign, rest);
        }
    }
    ("", inner)
}

/// Removes the marks from the output and notes what they enclosed.
///
/// # Errors
/// [`TemplateError::Reserved`] when the output holds marks that are not in pairs.
pub(super) fn unmark(text: &str) -> Result<Rendered, TemplateError> {
    let mut rendered = Rendered { text: String::with_capacity(text.len()), generated: Vec::new() };
    let (mut rest, mut open) = (text, None);
    loop {
        let mark = if open.is_none() { BEGIN } else { END };
        let (before, after) = match rest.split_once(mark) {
            Some((before, after)) => (before, Some(after)),
            None => (rest, None),
        };
        if before.contains(BEGIN) || before.contains(END) {
            return Err(TemplateError::Reserved);
        }
        rendered.text.push_str(before);
        let Some(after) = after else { break };
        match open.take() {
            None => open = Some(rendered.text.len()),
            Some(start) => rendered.generated.push(start..rendered.text.len()),
        }
        rest = after;
    }
    if open.is_some() { Err(TemplateError::Reserved) } else { Ok(rendered) }
}
