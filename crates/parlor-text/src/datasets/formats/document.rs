//! Documents as plain text: `.html`, `.pdf` and `.docx`. A file is one row, and pre-training splits it into
//! examples.
//!
//! Only text is kept: formatting, images and page layout are lost. Leaves out scanned pages, encrypted files,
//! and the old `.doc`.

use std::io::Cursor;

use html2text::render::TrivialDecorator;

use super::compression::{INVALID_UTF8, read_whole, utf8, without_bom};
use super::docx;
use super::guarded::guarded;
use crate::datasets::intake::FileRows;

/// Formats of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DocumentKind {
    Html,
    Pdf,
    Docx,
}

/// Largest document in bytes. Its decoder holds it in memory several times over.
const MAX_DOCUMENT: u64 = 256 << 20;
/// Largest page or part in bytes, decompressed.
const MAX_PART: usize = 256 << 20;
/// Stack of the decoding thread in bytes. Decoders recurse; documents as deep as [`MAX_DEPTH`] fit in this.
const STACK: usize = 256 << 20;

pub(crate) fn read(out: &mut FileRows<'_, '_>, kind: DocumentKind) {
    let bytes = match read_whole(out.path(), MAX_DOCUMENT) {
        Ok(bytes) => bytes,
        Err(why) => return out.problem(0, why),
    };
    let decode = || {
        guarded(|| match kind {
            DocumentKind::Html => html(&bytes),
            DocumentKind::Pdf => pdf(&bytes),
            DocumentKind::Docx => docx::text(&bytes, MAX_PART as u64),
        })
    };
    let decoded = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, decode);
        match thread.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(decoded)) => decoded,
            Ok(Err(_)) => Err("the file is damaged: its decoder failed".to_owned()),
            Err(cause) => Err(format!("no thread could be started for it: {cause}")),
        }
    });
    match decoded.map(|text| tidy(&text)) {
        Ok(text) if text.is_empty() => out.problem(0, nothing(kind)),
        Ok(text) => out.push_text(text),
        Err(why) => out.problem(0, why),
    }
}

fn nothing(kind: DocumentKind) -> &'static str {
    match kind {
        DocumentKind::Pdf => {
            "the PDF holds no text (its pages are perhaps pictures); run text recognition over it, or leave it out"
        }
        DocumentKind::Html | DocumentKind::Docx => "the document holds no text",
    }
}

/// Removes white space at the ends of lines, and collapses empty lines to one.
fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut empty = 0;
    for line in text.lines().map(str::trim_end) {
        empty = if line.is_empty() { empty + 1 } else { 0 };
        if empty < 2 && !(out.is_empty() && line.is_empty()) {
            out.push_str(line);
            out.push('\n');
        }
    }
    out.truncate(out.trim_end().len());
    if !out.is_empty() {
        out.push('\n');
    }
    out
}

/// Width of a line, so large that paragraphs are not wrapped.
const WIDTH: usize = 1 << 24;
/// Deepest nesting of elements. Real pages have some dozens.
const MAX_DEPTH: usize = 2000;

fn html(bytes: &[u8]) -> Result<String, String> {
    let text = utf8(without_bom(bytes)).map_err(|_| INVALID_UTF8)?;
    if depth(text) > MAX_DEPTH {
        return Err(format!("elements are nested deeper than {MAX_DEPTH} levels"));
    }
    html2text::config::with_decorator(TrivialDecorator::new())
        .no_table_borders()
        .string_from_read(text.as_bytes(), WIDTH)
        .map_err(|cause| cause.to_string())
}

/// An upper bound of the nesting: opening tags minus closing ones, without elements that need no closing tag.
fn depth(text: &str) -> usize {
    const ENDING: [&str; 22] = [
        "area", "base", "br", "col", "dd", "dt", "embed", "hr", "img", "input", "li", "link", "meta",
        "option", "p", "param", "source", "td", "th", "tr", "track", "wbr",
    ];
    let (mut open, mut deepest) = (0usize, 0);
    for tag in text.split('<').skip(1) {
        let name: String = tag.chars().take_while(char::is_ascii_alphanumeric).collect();
        if let Some(closed) = tag.strip_prefix('/') {
            let name: String = closed.chars().take_while(char::is_ascii_alphanumeric).collect();
            if !ENDING.contains(&name.to_ascii_lowercase().as_str()) {
                open = open.saturating_sub(1);
            }
        } else if !name.is_empty() && !ENDING.contains(&name.to_ascii_lowercase().as_str()) {
            open += 1;
            deepest = deepest.max(open);
        }
    }
    deepest
}

fn pdf(bytes: &[u8]) -> Result<String, String> {
    let wrong = |cause: lopdf::Error| format!("not a readable PDF: {cause}");
    let document = lopdf::Document::load_from(Cursor::new(bytes)).map_err(wrong)?;
    if document.is_encrypted() {
        return Err("the PDF is protected; save it without a password".to_owned());
    }
    let mut text = String::new();
    for number in document.get_pages().into_keys() {
        let page = document.extract_text_with_limit(&[number], MAX_PART);
        text.push_str(&page.map_err(|cause| format!("page {number}: {cause}"))?);
        text.push_str("\n\n");
    }
    Ok(text)
}
