//! Documents of fpdf2, reportlab and python-docx, web pages, and damaged ones.

use parlor_text::{Row, read};

use crate::fixture;

/// The text of a file of this name and content, or what is wrong with it.
fn check(name: &str, bytes: &[u8]) -> String {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(name), bytes).unwrap();
    match read(&directory.path().join(name)) {
        Ok(dataset) => match &dataset.rows[0].row {
            Row::Text(text) => text.clone(),
            other => panic!("{other:?}"),
        },
        Err(error) => error.to_string().replace(&directory.path().display().to_string(), "DIR"),
    }
}

fn stored(name: &str) -> Vec<u8> {
    std::fs::read(fixture("data/documents").join(name)).unwrap()
}

#[test]
fn the_text_of_pdf_and_word_files() {
    insta::assert_snapshot!(check("a.pdf", &stored("paragraphs.pdf")), @"
    The first paragraph has two sentences. This is the second one.
    Käse, señor, and a dash - here.

    A second page.
    ");
    insta::assert_snapshot!(check("a.pdf", &stored("report.pdf")), @"
    Annual report
    Sales rose by 5 %.

    Second page.
    ");
    insta::assert_snapshot!(check("a.docx", &stored("word.docx")), @"
    A heading

    The first paragraph has two sentences. This is the second one.

    Käse, señor, and a dash - here.

    An item

    name	value
    one	1
    Bold and < plain >
    after a break	and a tab
    ");
}

#[test]
fn the_text_of_web_pages() {
    let page = "<!DOCTYPE html><html><head><title>No</title><style>p { color: red }</style>\
        <script>alert('no')</script></head><body><!-- no --><h1>A heading</h1>\
        <p>One   paragraph,\nwith <b>bold</b> &amp; <a href=\"x\">a link</a>.</p>\
        <ul><li>first</li><li>second</li></ul><pre>  kept\n    as is</pre>\
        <table><tr><th>name</th><th>value</th></tr><tr><td>one</td><td>1</td></tr></table>\
        <img src=\"x\" alt=\"\"><p>Last <br> line, which is long, long, long, long, long, long, long, long, long, long, \
        long, long, long, long, long, long, long, long, long, long, long.</p></body></html>";
    insta::assert_snapshot!(check("a.html", page.as_bytes()), @r#"
A heading

One paragraph, with bold & a link.
first
second

  kept
    as is

name value
one  1

Last
line, which is long, long, long, long, long, long, long, long, long, long, long, long, long, long, long, long, long, long, long, long, long.
"#);
    insta::assert_snapshot!(check("a.htm", b"<p>caf\xE9"), @"
    DIR/a.htm: no usable row:
      DIR/a.htm: not valid UTF-8; save the file as UTF-8 (`iconv -t UTF-8` converts it)
    ");
    insta::assert_snapshot!(check("a.html", b"<script>x</script>"), @"
    DIR/a.html: no usable row:
      DIR/a.html: the document holds no text
    ");
    insta::assert_snapshot!(check("a.html", "<div>".repeat(200_000).as_bytes()), @"
    DIR/a.html: no usable row:
      DIR/a.html: elements are nested deeper than 2000 levels
    ");
    assert_eq!(check("a.html", format!("{}x", "<div>".repeat(1_900)).as_bytes()), "x\n");
    assert_eq!(check("a.html", "<p>x<br>".repeat(3_000).as_bytes()).matches('x').count(), 3_000);
}

#[test]
fn documents_without_text_and_damaged_ones_are_named() {
    insta::assert_snapshot!(check("a.pdf", &stored("no_text.pdf")), @"
    DIR/a.pdf: no usable row:
      DIR/a.pdf: the PDF holds no text (its pages are perhaps pictures); run text recognition over it, or leave it out
    ");
    insta::assert_snapshot!(check("a.pdf", b"%PDF-1.4 no"), @"
    DIR/a.pdf: no usable row:
      DIR/a.pdf: not a readable PDF: couldn't parse input
    ");
    insta::assert_snapshot!(check("a.docx", b"PK no"), @"
    DIR/a.docx: no usable row:
      DIR/a.docx: not a readable .docx: invalid Zip archive: Could not find EOCD
    ");
    insta::assert_snapshot!(check("a.docx", &stored("word.docx")[..900]), @"
    DIR/a.docx: no usable row:
      DIR/a.docx: not a readable .docx: invalid Zip archive: Could not find EOCD
    ");
    insta::assert_snapshot!(check("a.pdf", format!("%PDF-1.4\n1 0 obj\n{}\nendobj\n", "[".repeat(200_000)).as_bytes()), @"
    DIR/a.pdf: no usable row:
      DIR/a.pdf: not a readable PDF: failed parsing cross reference table
    ");
}

/// Any flipped bit is another text or a problem, never the end of the program.
#[test]
fn documents_survive_flipped_bits() {
    for name in ["paragraphs.pdf", "report.pdf", "word.docx"] {
        let whole = stored(name);
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            check(name, &bytes);
        }
        for cut in (0..whole.len()).step_by(11) {
            check(name, &whole[..cut]);
        }
    }
}
