//! Binds the arguments of a call as Python does: by position or by name, each once, none left over.

use minijinja::value::{Kwargs, Rest, from_args};
use minijinja::{Error, ErrorKind, Value};

use super::error::invalid;
use super::numbers::is_float;

/// The arguments of one call.
pub(crate) struct Arguments<'a> {
    positional: &'a [Value],
    named: Option<Kwargs>,
}

impl<'a> Arguments<'a> {
    /// Splits the engine's arguments, of which the last holds the named ones, if there are any.
    pub(crate) fn new(all: &'a [Value]) -> Result<Self, Error> {
        match all.split_last() {
            Some((last, positional)) if last.is_kwargs() => {
                let (named,): (Kwargs,) = from_args(std::slice::from_ref(last))?;
                Ok(Self { positional, named: Some(named) })
            }
            _ => Ok(Self { positional: all, named: None }),
        }
    }

    /// Binds parameters of these names, in their order; none for those that are not given.
    pub(crate) fn bind<const N: usize>(self, names: [&str; N]) -> Result<[Option<Value>; N], Error> {
        if self.positional.len() > N {
            let (given, most) = (self.positional.len(), N);
            return Err(Error::new(
                ErrorKind::TooManyArguments,
                format!("{given} arguments were given, at most {most} are taken"),
            ));
        }
        let mut bound = names.map(|_| None);
        for (bound, value) in bound.iter_mut().zip(self.positional) {
            *bound = Some(value.clone());
        }
        if let Some(named) = &self.named {
            for (bound, name) in bound.iter_mut().zip(names) {
                let value: Option<Value> = if named.has(name) { Some(named.get(name)?) } else { None };
                match (&bound, value) {
                    (Some(_), Some(_)) => {
                        return Err(invalid(format!("the argument `{name}` was given twice")));
                    }
                    (None, Some(value)) => *bound = Some(value),
                    _ => {}
                }
            }
            named.assert_all_used()?;
        }
        Ok(bound)
    }

    /// All arguments, as the engine passed them.
    pub(crate) fn into_all(self) -> Vec<Value> {
        self.positional.iter().cloned().chain(self.named.map(Value::from)).collect()
    }

    /// Refuses any argument.
    pub(crate) fn none(self) -> Result<(), Error> {
        self.bind([]).map(|[]| ())
    }
}

/// An integer argument, as Python takes one: `True` and `False` count, a float does not.
pub(crate) fn integer(value: &Value) -> Result<i64, Error> {
    match value.as_i64() {
        Some(number) if !is_float(value) => Ok(number),
        _ => Err(invalid(format!("an integer was expected, not {}", value.kind()))),
    }
}

/// An integer argument that may be left out, or be `None`.
pub(crate) fn optional_integer(value: Option<&Value>) -> Result<Option<i64>, Error> {
    value.filter(|value| !value.is_none()).map(integer).transpose()
}

/// A text argument.
pub(crate) fn text(value: &Value) -> Result<&str, Error> {
    value.as_str().ok_or_else(|| invalid(format!("a string was expected, not {}", value.kind())))
}

/// A required argument.
pub(crate) fn required(value: Option<Value>, name: &str) -> Result<Value, Error> {
    value.ok_or_else(|| Error::new(ErrorKind::MissingArgument, format!("the argument `{name}` is missing")))
}

/// Whether an argument that may be left out is true.
pub(crate) fn flag(value: Option<&Value>, default: bool) -> bool {
    value.map_or(default, Value::is_true)
}

/// Positional and named arguments as one list, as methods get them.
pub(crate) fn together(positional: Rest<Value>, named: Kwargs) -> Vec<Value> {
    let named = named.args().next().is_some().then(|| Value::from(named.clone()));
    positional.iter().cloned().chain(named).collect()
}
