//! Methods of Python's types, as templates call them.

mod case;
pub(super) mod containers;
mod numbers;
mod padding;
mod search;
mod splitting;
pub(super) mod text;

pub(super) use case::capitalize;
pub(super) use search::replaced;

use minijinja::value::ValueKind;
use minijinja::{Error, Value};

/// Calls a method that Python's type of `receiver` has; none when it has no such method.
pub(super) fn call(receiver: &Value, method: &str, arguments: &[Value]) -> Option<Result<Value, Error>> {
    match receiver.kind() {
        ValueKind::String => text::call(receiver.as_str()?, method, arguments),
        ValueKind::Map => containers::of_dict(receiver, method, arguments),
        ValueKind::Seq | ValueKind::Iterable => containers::of_list(receiver, method, arguments),
        ValueKind::Number => numbers::call(receiver, method, arguments),
        _ => None,
    }
}
