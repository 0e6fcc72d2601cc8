//! Classes of characters as CPython's `str` has them, by Unicode's general categories.

use unicode_properties::{GeneralCategory as Category, UnicodeGeneralCategory as _};

/// `str.isspace` of a character: Unicode's white space, and the four information separators.
pub(crate) fn is_space(c: char) -> bool {
    matches!(c, '\u{1c}'..='\u{1f}') || c.is_whitespace()
}

/// `str.isalpha` of a character.
pub(crate) fn is_alphabetic(c: char) -> bool {
    matches!(
        c.general_category(),
        Category::UppercaseLetter
            | Category::LowercaseLetter
            | Category::TitlecaseLetter
            | Category::ModifierLetter
            | Category::OtherLetter
    )
}

/// `str.isdecimal` of a character.
pub(crate) fn is_decimal(c: char) -> bool {
    c.general_category() == Category::DecimalNumber
}

/// `str.isdigit` of a character: decimal digits, superscripts, subscripts and circled digits.
pub(crate) fn is_digit(c: char) -> bool {
    is_decimal(c)
        || matches!(c, '²' | '³' | '¹' | '\u{2070}' | '\u{2074}'..='\u{2079}' | '\u{2080}'..='\u{2089}'
            | '\u{2460}'..='\u{2468}' | '\u{2474}'..='\u{247c}' | '\u{2488}'..='\u{2490}' | '\u{24ea}'
            | '\u{24f5}'..='\u{24fd}' | '\u{24ff}' | '\u{2776}'..='\u{277e}' | '\u{2780}'..='\u{2788}'
            | '\u{278a}'..='\u{2792}')
}

/// `str.isprintable` of one character: not a control, format, surrogate, private-use or unassigned one, and no
/// separator but the space.
pub(crate) fn is_printable(c: char) -> bool {
    c == ' '
        || !matches!(
            c.general_category(),
            Category::Control
                | Category::Format
                | Category::Surrogate
                | Category::PrivateUse
                | Category::Unassigned
                | Category::LineSeparator
                | Category::ParagraphSeparator
                | Category::SpaceSeparator
        )
}
