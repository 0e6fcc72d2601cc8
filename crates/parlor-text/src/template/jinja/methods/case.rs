//! The methods of `str` that look at or change upper and lower case, and `isidentifier`.

use crate::template::jinja::values::characters::{is_alphabetic, is_decimal};

/// `str.isidentifier`.
pub(crate) fn is_identifier(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(|c| c == '_' || is_alphabetic(c))
        && characters.all(|c| c == '_' || is_alphabetic(c) || is_decimal(c))
}

/// Whether a text has letters of the wanted case and none of the other.
pub(crate) fn has_case(text: &str, wanted: impl Fn(char) -> bool, other: impl Fn(char) -> bool) -> bool {
    text.chars().any(wanted) && !text.chars().any(other)
}

/// `str.casefold`.
pub(crate) fn casefold(text: &str) -> String {
    text.chars()
        .flat_map(|c| match c {
            'ß' | 'ẞ' => vec!['s', 's'],
            'ς' => vec!['σ'],
            'ſ' => vec!['s'],
            c => c.to_lowercase().collect(),
        })
        .collect()
}

/// `str.title`: a word begins after every character that is not a letter.
pub(crate) fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase())
        } else {
            out.push_str(&titlecase(c))
        }
        inside = c.is_alphabetic();
    }
    out
}

/// The title case of a letter: upper case but for the digraphs and for letters that become two.
fn titlecase(c: char) -> String {
    match c {
        'ß' => "Ss".to_owned(),
        'ŉ' => "ʼN".to_owned(),
        'Ǆ' | 'ǅ' | 'ǆ' => "ǅ".to_owned(),
        'Ǉ' | 'ǈ' | 'ǉ' => "ǈ".to_owned(),
        'Ǌ' | 'ǋ' | 'ǌ' => "ǋ".to_owned(),
        'Ǳ' | 'ǲ' | 'ǳ' => "ǲ".to_owned(),
        'ﬁ' => "Fi".to_owned(),
        'ﬂ' => "Fl".to_owned(),
        'ﬀ' => "Ff".to_owned(),
        'ﬃ' => "Ffi".to_owned(),
        'ﬄ' => "Ffl".to_owned(),
        c => c.to_uppercase().collect(),
    }
}

/// `str.capitalize`.
pub(crate) fn capitalize(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => titlecase(first) + &characters.as_str().to_lowercase(),
        None => String::new(),
    }
}

/// `str.swapcase`.
pub(crate) fn swapcase(text: &str) -> String {
    let swap = |c: char| -> String {
        if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() }
    };
    text.chars().map(swap).collect()
}
