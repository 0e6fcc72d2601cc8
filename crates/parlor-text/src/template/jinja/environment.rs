//! The engine, set up as `transformers` sets up Jinja2.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind};

use super::builtins::{filters, functions, operators, tests};
use super::values::spelling;
use super::{message_parts, methods};

/// Steps of the engine that a rendering may take: about a second, far more than any real template needs.
const FUEL: u64 = 20_000_000;
const MAX_RECURSION: usize = 100;

/// `trim_blocks`, `lstrip_blocks`, loop controls, no escaping.
pub(crate) fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(syntax()?);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(MAX_RECURSION);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(|_, receiver, method, arguments| {
        methods::call(receiver, method, arguments)
            .unwrap_or_else(|| Err(Error::from(ErrorKind::UnknownMethod)))
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
    message_parts::add(&mut environment);
    Ok(environment)
}

/// The syntax of chat templates.
pub(crate) fn syntax() -> Result<SyntaxConfig, Error> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()
}
