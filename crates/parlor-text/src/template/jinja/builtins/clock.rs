//! `strftime_now`: the date as C's locale writes it.

use jiff::civil::DateTime;
use minijinja::value::{Kwargs, Rest};
use minijinja::{Error, Value};

use crate::template::jinja::values::arguments::{Arguments, required, text, together};
use crate::template::jinja::values::error::invalid;

/// The function `strftime_now(format)`.
pub(crate) fn strftime_now(now: DateTime) -> Value {
    Value::from_function(move |positional: Rest<Value>, named: Kwargs| {
        let arguments = together(positional, named);
        let [format] = Arguments::new(&arguments)?.bind(["format"])?;
        strftime(text(&required(format, "format")?)?, now)
    })
}

/// `datetime.strftime` of a date without a time zone.
fn strftime(format: &str, now: DateTime) -> Result<String, Error> {
    let mut plain = String::with_capacity(format.len());
    let mut characters = format.chars();
    while let Some(c) = characters.next() {
        if c != '%' {
            plain.push(c);
            continue;
        }
        match characters.next() {
            // There is no time zone to name.
            Some('Z' | 'z') => {}
            Some('c') => plain.push_str("%a %b %e %H:%M:%S %Y"),
            Some('x') => plain.push_str("%m/%d/%y"),
            Some('X') => plain.push_str("%H:%M:%S"),
            Some('r') => plain.push_str("%I:%M:%S %p"),
            // Microseconds, always six digits.
            Some('f') => plain.push_str(&format!("{:06}", now.subsec_nanosecond() / 1000)),
            Some(directive) => {
                plain.push('%');
                plain.push(directive);
            }
            None => plain.push_str("%%"),
        }
    }
    jiff::fmt::strtime::format(&plain, now).map_err(|error| invalid(error.to_string()))
}
