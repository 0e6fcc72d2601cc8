//! One file per verb: from flags and configuration to a result.

mod bench;
mod chat;
mod config;
mod data;
mod eval;
mod generate;
mod info;
mod init;
mod merge;
mod messages;
mod plan;
mod quickstart;
mod render;
mod score;
mod tokenize;
mod train;

use crate::cli::Verb;
use crate::context::Context;
use crate::failure::Failure;

/// Runs a verb.
pub(crate) fn run(context: &Context, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Quickstart(args) => quickstart::run(context, &args),
        Verb::Init(args) => init::run(context, &args),
        Verb::Config(verb) => config::run(context, &verb),
        Verb::Info(args) => info::run(context, &args),
        Verb::Tokenize(args) => tokenize::run(context, &args),
        Verb::Render(args) => render::run(context, &args),
        Verb::Score(args) => score::run(context, &args),
        Verb::Generate(args) => generate::run(context, &args),
        Verb::Chat(args) => chat::run(context, &args),
        Verb::Data(verb) => data::run(context, &verb),
        Verb::Plan(args) => plan::run(context, &args),
        Verb::Train(args) => train::run(context, &args),
        Verb::Eval(args) => eval::run(context, &args),
        Verb::Merge(args) => merge::run(context, &args),
        Verb::Bench(args) => bench::run(context, &args),
    }
}
