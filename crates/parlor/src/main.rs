//! The program's entry point: parses the command line, runs a verb, and exits with its code.
#![forbid(unsafe_code)]

mod answer;
mod arguments;
mod cli;
mod context;
mod diagnostics;
mod failure;
mod interrupt;
mod logging;
mod model;
mod output;
mod paths;
mod progress;
mod ranks;
mod sampler;
mod verbs;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    diagnostics::install();
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version go to stdout (exit 0); everything else is a usage error (stderr, exit 2).
        Err(error) => {
            let code = if error.use_stderr() { 2 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let arguments: Vec<_> = std::env::args_os().collect();
    if let Some(error) = arguments::flag_as_text(&arguments) {
        let _ = error.print();
        return ExitCode::from(2);
    }
    parlor_kernels::parallel::threads::initialise(ranks::threads(cli.global.threads, &cli.verb));
    let context = context::Context::new(cli.global);
    match verbs::run(&context, cli.verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
