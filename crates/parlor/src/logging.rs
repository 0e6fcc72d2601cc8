//! Logs `tracing` events to stderr, at the level of `-q`, `-v` and `log_level`.

use std::io::{self, IsTerminal};

use parlor::LogLevel;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use crate::cli::Global;

/// Starts logging. Flags override the config's level.
pub(crate) fn start(global: &Global, level: LogLevel) {
    let level = match (global.quiet, global.verbose, level) {
        (true, ..) => LevelFilter::WARN,
        (_, 1, _) => LevelFilter::INFO,
        (_, 2, _) => LevelFilter::DEBUG,
        (_, 3.., _) => LevelFilter::TRACE,
        (_, _, LogLevel::Error) => LevelFilter::ERROR,
        (_, _, LogLevel::Warning) => LevelFilter::WARN,
        (_, _, LogLevel::Info) => LevelFilter::INFO,
        (_, _, LogLevel::Debug) => LevelFilter::DEBUG,
        (_, _, LogLevel::Trace) => LevelFilter::TRACE,
    };
    // Parlor's events at this level; other crates' events from warnings on.
    let ours = ["parlor", "parlor_config", "parlor_text", "parlor_model", "parlor_train", "parlor_engine"];
    let others = level.min(LevelFilter::WARN);
    let filter = ours
        .iter()
        .fold(Targets::new().with_default(others).with_target("parlor_track", level), |targets, name| {
            targets.with_target(*name, level)
        });
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .without_time()
        .with_target(false)
        .compact();
    // A second start (tests in one process) keeps the first.
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).try_init();
}
