//! `parlor data`: validates, inspects and converts data files.

mod convert;
mod encode;
mod inspect;
mod report;
mod used;
mod validate;

use crate::cli::DataVerb;
use crate::context::Context;
use crate::failure::Failure;

pub(super) fn run(context: &Context, verb: &DataVerb) -> Result<(), Failure> {
    match verb {
        DataVerb::Validate { path, model } => validate::run(context, path, model),
        DataVerb::Inspect { path, model, template, rows, summary } => {
            let shown = if *summary { inspect::Detail::Summary } else { inspect::Detail::Rows };
            inspect::run(context, path, model, template, *rows, shown)
        }
        DataVerb::Convert { input, output, to } => convert::run(context, input, output, *to),
    }
}
