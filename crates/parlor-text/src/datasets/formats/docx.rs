//! The text of a `.docx`: the paragraphs and tables of its main part (ECMA-376, `word/document.xml`).
//!
//! Read with `zip` and `quick-xml`, because crates that model the whole format fail on parts without text.
//! Leaves out headers, footnotes, comments and deleted text.

use std::io::{BufReader, Cursor, Read};

use quick_xml::Reader;
use quick_xml::events::Event;

pub(crate) fn text(bytes: &[u8], limit: u64) -> Result<String, String> {
    let mut archive =
        zip::ZipArchive::new(Cursor::new(bytes)).map_err(|cause| format!("not a readable .docx: {cause}"))?;
    let part = archive
        .by_name("word/document.xml")
        .map_err(|cause| format!("not a readable .docx (`word/document.xml`): {cause}"))?;
    let mut reader = Reader::from_reader(BufReader::new(part.take(limit)));
    let (mut out, mut buffer) = (String::new(), Vec::new());
    let (mut within_text, mut cells, mut fallbacks) = (false, 0usize, 0usize);
    loop {
        buffer.clear();
        let event = reader.read_event_into(&mut buffer);
        let event = event.map_err(|cause| format!("`word/document.xml` is damaged: {cause}"))?;
        match event {
            Event::Eof => return Ok(out),
            Event::Start(element) => match element.name().as_ref() {
                "w:t" => within_text = true,
                "w:tc" => cells += 1,
                // Repeats the content for programs that do not know the first form.
                "mc:Fallback" => fallbacks += 1,
                _ => {}
            },
            Event::Empty(element) if fallbacks == 0 => match element.name().as_ref() {
                "w:tab" => out.push('\t'),
                "w:br" | "w:cr" => out.push('\n'),
                _ => {}
            },
            Event::End(element) => match element.name().as_ref() {
                "w:t" => within_text = false,
                "w:tc" => {
                    cells = cells.saturating_sub(1);
                    out.truncate(out.trim_end().len());
                    out.push('\t');
                }
                "w:tr" => out.push('\n'),
                "w:p" if fallbacks == 0 => out.push_str(if cells > 0 { "\n" } else { "\n\n" }),
                "mc:Fallback" => fallbacks = fallbacks.saturating_sub(1),
                _ => {}
            },
            Event::Text(text) if within_text && fallbacks == 0 => {
                out.push_str(&text);
            }
            Event::CData(text) if within_text && fallbacks == 0 => {
                out.push_str(&text);
            }
            Event::GeneralRef(name) if within_text && fallbacks == 0 => {
                let c = name.resolve_char_ref().map_err(|cause| cause.to_string())?;
                let entity: &str = &name;
                match (c, quick_xml::escape::resolve_predefined_entity(entity)) {
                    (Some(c), _) => out.push(c),
                    (None, Some(text)) => out.push_str(text),
                    (None, None) => {
                        return Err(format!("`word/document.xml` has an unknown entity `&{entity};`"));
                    }
                }
            }
            _ => {}
        }
    }
}
