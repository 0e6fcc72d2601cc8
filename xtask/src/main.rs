//! The project's chores: `cargo xtask test | tidy | docs | fixtures | isa | emulate | ranks | readers | readme | quickstart`.
#![forbid(unsafe_code)]
// A program talks to its user.
#![allow(clippy::print_stderr, clippy::print_stdout)]

mod bench_train;
mod circles;
mod depth;
mod emulate;
mod isa;
mod lexer;
mod module_graph;
mod perplexity;
mod process;
mod python;
mod quickstart;
mod ranks;
mod readers;
mod readme;
mod sanitize;
mod test;
mod tidy;
mod words;

use anyhow::bail;
use test::Scope;

fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["test"] => test::run(Scope::Quick),
        ["test", "--touched"] => test::run(Scope::Touched),
        ["test", "--all"] => test::run(Scope::All),
        ["tidy"] => tidy::run(),
        ["circles"] => circles::run(),
        ["docs"] => {
            process::cargo(&["run", "--quiet", "--release", "--package", "parlor", "--example", "write_docs"])
        }
        ["ranks"] => ranks::run(),
        ["isa"] => isa::run(depth::Depth::Full),
        ["sanitize"] => sanitize::run(),
        ["emulate"] => emulate::run(),
        ["readers"] => readers::run_all(),
        ["bench-train", python] => bench_train::run(python, 5, None),
        ["bench-train", python, rounds] => bench_train::run(python, rounds.parse()?, None),
        ["bench-train", python, rounds, work] => bench_train::run(python, rounds.parse()?, Some(work)),
        ["perplexity", program, python] => perplexity::run(program, python),
        ["readme"] => readme::run(),
        ["quickstart"] => quickstart::run(),
        ["fixtures"] => readers::make_fixtures(),
        _ => bail!(
            "usage: cargo xtask VERB\n\
             \x20 test        format, lints, laws, tests, quickstart, README commands, third-party readers\n\
             \x20 test --all  these in full, and instruction sets, sanitizers, aarch64, ranks: before a release\n\
             \x20 test --touched  what CI runs: `test`, and in full what guards paths that changed since `--all` passed\n\
             \x20 tidy        the laws of the house alone\n\
             \x20 circles     modules that import each other\n\
             \x20 docs        writes config.yaml, docs/CONFIG.md and docs/config.schema.json from the structs\n\
             \x20 ranks       training over MPI, with a library of its own\n\
             \x20 readers     third-party readers over files that Parlor wrote\n\
             \x20 isa         the tests of kernels and model on each instruction set that this machine has\n\
             \x20 emulate     the tests of the kernels' vectors on aarch64, by qemu\n\
             \x20 sanitize    the tests of the kernels under address and thread sanitizers\n\
             \x20 readme      the commands of README.md\n\
             \x20 quickstart  trains the bundled bot and asks it its questions (a few minutes)\n\
             \x20 bench-train PYTHON [ROUNDS [WORK]]  training beside PyTorch in the environment of that Python\n\
             \x20 perplexity LLAMA_PERPLEXITY PYTHON  quantized models beside llama.cpp\n\
             \x20 fixtures    writes fixtures/ anew with the pinned reference packages (several GB)"
        ),
    }
}
