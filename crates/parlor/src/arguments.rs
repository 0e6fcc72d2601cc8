//! Refuses flags in the place of a text: `generate -p --json` is not a prompt of "--json".
//!
//! Options that take any text accept one that begins with a hyphen (a list item, a YAML document). Clap
//! cannot tell these from flags, so a value that equals one of the verb's flags is refused here.
//! `--prompt=--json` passes it as text.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Arg, Command, CommandFactory};

use crate::cli::Cli;

/// The usage error, if `arguments` (the program's name first) hold such a flag.
pub(crate) fn flag_as_text(arguments: &[OsString]) -> Option<clap::Error> {
    let mut program = Cli::command();
    program.build();
    let words: Vec<&str> = arguments.iter().skip(1).map_while(|word| word.to_str()).collect();
    let verb = verb(&program, &words);
    let flags: Vec<&Arg> = verb.get_arguments().filter(|arg| !arg.is_positional()).collect();
    let named = |word: &str| flags.iter().copied().find(|arg| is_named(arg, word));
    let options = words.iter().take_while(|word| **word != "--").zip(words.iter().skip(1));
    let (option, value) =
        options.filter_map(|(word, next)| Some((named(word)?, *next))).find(|(option, next)| {
            let takes_text = option.is_allow_hyphen_values_set() && option.get_action().takes_values();
            takes_text && named(next.split('=').next().unwrap_or(next)).is_some()
        })?;
    let name = option.get_long().unwrap_or_default();
    let message = format!(
        "a value is required for '{option}', but '{value}' is a flag\n\n  tip: to pass it as the text, write \
         '--{name}={value}'"
    );
    Some(verb.clone().error(ErrorKind::InvalidValue, message))
}

/// The innermost command that the words name.
fn verb<'a>(program: &'a Command, words: &[&str]) -> &'a Command {
    words.iter().fold(program, |command, word| command.find_subcommand(word).unwrap_or(command))
}

/// Whether `word` is this flag, long or short.
fn is_named(arg: &Arg, word: &str) -> bool {
    match word.strip_prefix("--") {
        Some(long) => arg.get_long() == Some(long),
        None => {
            let mut letters = word.strip_prefix('-').unwrap_or_default().chars();
            let first = letters.next();
            first.is_some() && letters.next().is_none() && arg.get_short() == first
        }
    }
}
