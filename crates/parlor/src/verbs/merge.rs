//! `parlor merge`: merges adapters into the weights, and writes a model directory.

use std::path::PathBuf;

use parlor::model::{
    LoadedModel, MaxLength, SaveModel, load_with_adapters, locate_model, locate_with_adapters, merge,
    save_directory,
};
use serde::Serialize;

use crate::cli::MergeArgs;
use crate::context::Context;
use crate::failure::Failure;
use crate::model::{named, section};

#[derive(Debug, Serialize)]
struct Merged {
    path: PathBuf,
}

pub(super) fn run(context: &Context, args: &MergeArgs) -> Result<(), Failure> {
    let section = section(context, &args.model)?;
    let cache_dir = section.cache_dir.as_deref();
    let named = locate_model(&section.name, cache_dir).map_err(|error| named(context, error))?;
    let (base, adapters) = locate_with_adapters(&named, &args.model.adapter, cache_dir)?;
    if adapters.is_empty() {
        return Err(Failure::input_help(
            "no adapter is named",
            "pass `-a ADAPTER`, or `-m` with an adapter's directory",
        ));
    }
    if args.out.exists() {
        return Err(Failure::input_help(
            format!("{} exists already", args.out.display()),
            "name a directory that does not exist; nothing is ever replaced",
        ));
    }
    let options = section.load_options(MaxLength::default());
    // Tokenizer and template come from the adapter if there is only one, else from the base.
    let mut model = load_with_adapters(&base, &adapters[..1], &options)?;
    model.decoder = merged(&model)?;
    for adapter in &adapters[1..] {
        let mut next = LoadedModel { adapters: Vec::new(), ..model };
        parlor::model::load_adapter(&mut next.decoder, next.architecture, adapter)?;
        next.decoder = merged(&next)?;
        model = next;
    }
    save_directory(&args.out, &SaveModel::of(&model)).map_err(|error| Failure::failed(error.to_string()))?;
    let path = args.out.clone();
    context.output.result(&Merged { path }, || format!("merged: {}\n", args.out.display()))
}

fn merged(model: &LoadedModel) -> Result<parlor::model::Decoder, Failure> {
    merge(&model.decoder, 0).map_err(|error| Failure::failed(error.to_string()))
}
