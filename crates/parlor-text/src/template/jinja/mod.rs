//! Jinja2 as `transformers` runs it, on the `minijinja` engine.
//!
//! `minijinja` parses and runs templates; Python is what it does not know. This folder gives it Python's values
//! (integers of any size, dictionaries with methods), their spelling (`str`, `repr`, `json.dumps`), the methods of
//! `str`, `list` and `dict`, and Jinja2's filters, tests and globals where theirs differ. Sources: Jinja2 3.1's
//! `filters.py`, `tests.py` and `sandbox.py`, CPython 3.11's `unicodeobject.c`, and
//! `transformers/utils/chat_template_utils.py` (5.23).
//!
//! Leaves out what lies in the engine itself: `varargs` and `kwargs` of macros.

mod arguments;
mod clock;
mod containers;
mod filters;
mod functions;
mod json;
mod operators;
mod ownership;
mod rewrite;
mod sequences;
mod spelling;
mod strings;
mod tests;
mod values;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, Value};

pub(crate) use clock::strftime_now;
pub(crate) use functions::RAISED;
pub(crate) use ownership::{Part, parts};
pub(crate) use rewrite::{Ownership, rewritten};
pub(crate) use values::{from_json, message};

/// Steps a rendering may take: about a second's worth, far beyond any real template.
const FUEL: u64 = 20_000_000;
const MAX_RECURSION: usize = 100;

/// The environment of `transformers`: `trim_blocks`, `lstrip_blocks`, loop controls, no escaping.
pub(crate) fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(syntax()?);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(MAX_RECURSION);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(|_, receiver, method, arguments| {
        method_of(receiver, method, arguments).unwrap_or_else(|| Err(Error::from(ErrorKind::UnknownMethod)))
    });
    environment.set_formatter(|out, _, value| {
        let failed = |_| Error::new(ErrorKind::WriteFailure, "the output cannot grow");
        match value.as_str() {
            Some(text) => out.write_str(text).map_err(failed),
            None => out.write_str(&spelling::text(value)?).map_err(failed),
        }
    });
    filters::add(&mut environment);
    tests::add(&mut environment);
    functions::add(&mut environment);
    operators::add(&mut environment);
    ownership::add(&mut environment);
    Ok(environment)
}

/// The syntax of chat templates.
pub(crate) fn syntax() -> Result<SyntaxConfig, Error> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()
}

/// Calls a method that Python's type of `receiver` has; none when it has no such method.
fn method_of(receiver: &Value, method: &str, arguments: &[Value]) -> Option<Result<Value, Error>> {
    match receiver.kind() {
        ValueKind::String => strings::method(receiver.as_str()?, method, arguments),
        ValueKind::Map => containers::of_dict(receiver, method, arguments),
        ValueKind::Seq | ValueKind::Iterable => containers::of_list(receiver, method, arguments),
        ValueKind::Number => values::of_number(receiver, method, arguments),
        _ => None,
    }
}

/// An error of a template.
fn invalid(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, why.into())
}
