//! Methods of `int` and `float`.

use minijinja::{Error, Value};

use crate::template::jinja::values::arguments::Arguments;

/// Calls `method`; none when numbers have no such method.
pub(super) fn call(value: &Value, method: &str, arguments: &[Value]) -> Option<Result<Value, Error>> {
    let number = f64::try_from(value.clone()).ok()?;
    let result = match method {
        "is_integer" => Value::from(number.fract() == 0.0),
        "bit_length" if value.is_integer() => {
            let magnitude = i128::try_from(value.clone()).ok()?.unsigned_abs();
            Value::from(u128::BITS - magnitude.leading_zeros())
        }
        _ => return None,
    };
    Some(Arguments::new(arguments).and_then(Arguments::none).map(|()| result))
}
