//! Jinja2's tests that the engine lacks or defines differently.

use std::cmp::Ordering;

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, Value};

use crate::template::jinja::dict::is_callable;
use crate::template::jinja::methods;
use crate::template::jinja::values::compare::{compare, contains, is_number};
use crate::template::jinja::values::numbers::{is_float, is_integer};
use crate::template::jinja::values::spelling;

/// Tests of the engine that Jinja2 does not have.
const FOREIGN: [&str; 5] = ["containing", "endingwith", "int", "safe", "startingwith"];

pub(crate) fn add(environment: &mut Environment<'static>) {
    FOREIGN.iter().for_each(|name| environment.remove_test(name));
    // Python iterates over an undefined value, and never over `None` or a number.
    environment.add_test("iterable", |value: &Value| {
        !matches!(
            value.kind(),
            ValueKind::None | ValueKind::Bool | ValueKind::Number | ValueKind::Plain | ValueKind::Invalid
        )
    });
    // A sequence has a length and can be subscripted.
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map)
    });
    environment.add_test("number", is_number);
    environment.add_test("integer", |value: &Value| is_integer(value) && value.kind() != ValueKind::Bool);
    environment.add_test("float", is_float);
    environment.add_test("callable", is_callable);
    environment.add_test("escaped", |_: &Value| false);
    environment.add_test("in", |value: &Value, container: &Value| contains(container, value));
    environment.add_test("lower", |value: &Value| cased(value, "islower"));
    environment.add_test("upper", |value: &Value| cased(value, "isupper"));
    let mut order = |names: [&'static str; 3], predicate: fn(Ordering) -> bool| {
        for name in names.into_iter().filter(|name| !name.is_empty()) {
            environment.add_test(name, move |left: &Value, right: &Value| {
                compare(left, right).map(|found| found.is_some_and(predicate))
            });
        }
    };
    order(["lt", "lessthan", "<"], Ordering::is_lt);
    order(["le", "<=", ""], Ordering::is_le);
    order(["gt", "greaterthan", ">"], Ordering::is_gt);
    order(["ge", ">=", ""], Ordering::is_ge);
}

/// `str(value).islower()`.
fn cased(value: &Value, method: &str) -> Result<bool, Error> {
    let text = spelling::text(value)?;
    let result = methods::text::call(&text, method, &[]).transpose()?;
    Ok(result.is_some_and(|result| result.is_true()))
}
