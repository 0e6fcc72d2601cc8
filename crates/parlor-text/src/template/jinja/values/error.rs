//! Errors of templates.

use minijinja::{Error, ErrorKind};

/// An operation that Python or Jinja2 refuses.
pub(crate) fn invalid(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, why.into())
}
