//! Running the built program in a directory of its own, without the caller's environment.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// Whether to run every repetition of slow tests: with `PARLOR_TESTS=all`, which `cargo xtask test --all` sets.
pub(crate) fn thorough() -> bool {
    std::env::var_os("PARLOR_TESTS").is_some_and(|tests| tests == "all")
}

/// How a run of the program ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The program, to be run in `directory`.
pub(crate) fn command(directory: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parlor"));
    command.current_dir(directory).args(args).env_clear().stdin(Stdio::null());
    // Small work gains nothing from more threads, and tests run side by side.
    command.env("RAYON_NUM_THREADS", "1");
    // Where the library is, of a program built against one that is not the system's.
    if let Some(path) = std::env::var_os("LD_LIBRARY_PATH").filter(|_| cfg!(feature = "mpi")) {
        command.env("LD_LIBRARY_PATH", path);
    }
    command
}

/// Runs the program to its end.
pub(crate) fn parlor(directory: &Path, args: &[&str]) -> Ended {
    ended(&mut command(directory, args))
}

/// Runs a command to its end.
pub(crate) fn ended(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Ended {
    /// It ended well.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// It refused its input: exit code 2, nothing on stdout, and these words on stderr.
    #[track_caller]
    pub(crate) fn refused(self, words: &[&str]) -> Self {
        assert_eq!(self.code, 2, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        assert_eq!(self.stdout, "", "an error is no result");
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is not in:\n{}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// Its only line, as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "{}", self.stdout);
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// What it said on stderr, with `directory` as `[DIR]`.
    pub(crate) fn said(&self, directory: &Path) -> String {
        filtered(&self.stderr, directory)
    }
}

/// `text` with `directory` as `[DIR]`.
pub(crate) fn filtered(text: &str, directory: &Path) -> String {
    text.replace(&directory.display().to_string(), "[DIR]")
}

/// The keys of an object, in order.
#[track_caller]
pub(crate) fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}
