//! `--against`: another program does the same work, alternating with Parlor in one run, so that both see the
//! same load of the machine. Compares medians.
//!
//! llama.cpp reads the same GGUF file and is measured by its own `llama-bench` and `llama-batched-bench`;
//! PyTorch gets the shape and draws random weights. Neither comes with Parlor: `--peer` names its location.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use parlor::kernels::DType;
use parlor::kernels::parallel::threads;
use serde::Serialize;
use serde_json::Value;

use super::work::{Measurement, Subject};
use crate::cli::{BenchPeer, BenchWork};
use crate::failure::Failure;
use crate::output::note;

/// A comparison, for people and scripts.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    peer: &'static str,
    command: String,
    pub(crate) results: Vec<Compared>,
}

/// A task with the results of both programs.
#[derive(Debug, Serialize)]
pub(crate) struct Compared {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    own: Vec<f64>,
    peer: Vec<f64>,
    pub(crate) own_median: f64,
    pub(crate) peer_median: f64,
    pub(crate) ratio: f64,
}

impl Compared {
    fn new(name: String, unit: &'static str, own: Vec<f64>, peer: Vec<f64>) -> Self {
        let (own_median, peer_median) = (median(&own), median(&peer));
        Self { name, unit, own, peer, own_median, peer_median, ratio: own_median / peer_median }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.get(middle) {
        Some(&above) if values.len().is_multiple_of(2) && middle > 0 => (above + values[middle - 1]) / 2.0,
        Some(&value) => value,
        None => f64::NAN,
    }
}

/// A task of both programs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    Prefill,
    Decode(usize),
    Train,
    Lora,
}

impl Task {
    /// The tasks of the works that are wanted, all when none is named.
    pub(crate) fn of(only: &[BenchWork]) -> Vec<Self> {
        let wanted = |work| only.is_empty() || only.contains(&work);
        let mut tasks = Vec::new();
        if wanted(BenchWork::Prefill) {
            tasks.push(Self::Prefill);
        }
        if wanted(BenchWork::Decode) {
            tasks.extend([Self::Decode(1), Self::Decode(8)]);
        }
        if wanted(BenchWork::Lora) {
            tasks.push(Self::Lora);
        }
        if wanted(BenchWork::Train) {
            tasks.push(Self::Train);
        }
        tasks
    }

    fn name(self) -> &'static str {
        match self {
            Self::Prefill => "prefill",
            Self::Decode(1) => "decode",
            Self::Decode(_) => "decode8",
            Self::Train => "train",
            Self::Lora => "lora",
        }
    }
}

/// Another program, found.
pub(crate) enum Peer {
    LlamaCpp { directory: PathBuf, model: PathBuf },
    Torch { python: PathBuf, config: String, dtype: &'static str },
}

impl Peer {
    /// Finds `peer`, at `place` or on the path; `model` is what `-m` names, `subject` what Parlor measures.
    pub(crate) fn find(
        peer: BenchPeer,
        place: Option<&Path>,
        model: Option<&str>,
        subject: &Subject,
    ) -> Result<Self, Failure> {
        match peer {
            BenchPeer::LlamaCpp => {
                let model =
                    model.map(PathBuf::from).filter(|path| path.extension().is_some_and(|e| e == "gguf"));
                let model = model.ok_or_else(|| {
                    Failure::input_help(
                        "llama.cpp reads GGUF files, and `-m` names none",
                        "name the file that both should run: `-m model.gguf`",
                    )
                })?;
                let directory = found("llama-bench", place)?;
                Ok(Self::LlamaCpp { directory, model })
            }
            BenchPeer::Torch => {
                let python = match place {
                    Some(path) if path.is_file() => path.to_owned(),
                    Some(path) => path.join("python3"),
                    None => found("python3", None)?.join("python3"),
                };
                let decoder = subject.decoder.config();
                let config = subject.architecture.hf_config(decoder).map_err(|misfits| {
                    Failure::input(format!("no config.json says what this model is: {}", misfits.join("; ")))
                })?;
                let dtype = if subject.dtype == DType::F32 { "float32" } else { "bfloat16" };
                Ok(Self::Torch { python, config: Value::Object(config).to_string(), dtype })
            }
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::LlamaCpp { .. } => "llama.cpp",
            Self::Torch { .. } => "torch",
        }
    }

    fn command(&self) -> String {
        match self {
            Self::LlamaCpp { directory, .. } => directory.display().to_string(),
            Self::Torch { python, .. } => python.display().to_string(),
        }
    }

    /// Tokens per second of a task; none where the peer has no such work.
    fn run(&self, task: Task) -> Result<Option<f64>, Failure> {
        match self {
            Self::LlamaCpp { directory, model } => llama_cpp(directory, model, task),
            Self::Torch { python, config, dtype } => {
                let count = threads::count().to_string();
                let mut command = Command::new(python);
                command.args(["-", task.name(), dtype, &count, config]).env("OMP_NUM_THREADS", &count);
                let said = said(command, include_str!("peer_torch.py"))?;
                let speed = said.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
                speed
                    .and_then(|speed| speed["tokens_per_second"].as_f64())
                    .map(Some)
                    .ok_or_else(|| unread(&said))
            }
        }
    }
}

fn unread(said: &str) -> Failure {
    let start: String = said.chars().take(200).collect();
    Failure::failed(format!("the other program's answer holds no speed: {start:?}"))
}

/// The directory that holds `program`.
fn found(program: &str, place: Option<&Path>) -> Result<PathBuf, Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = match place {
        Some(place) => vec![place.to_owned()],
        None => std::env::split_paths(&path).collect(),
    };
    let there = directories.iter().find(|directory| directory.join(program).is_file());
    there.cloned().ok_or_else(|| {
        let searched =
            place.map_or("the directories of PATH".to_owned(), |place| place.display().to_string());
        Failure::input_help(
            format!("there is no `{program}` in {searched}"),
            "install the other program, and say with `--peer` where it is",
        )
    })
}

fn llama_cpp(directory: &Path, model: &Path, task: Task) -> Result<Option<f64>, Failure> {
    let count = threads::count().to_string();
    let program = |name: &str, arguments: &[&str]| {
        let mut command = Command::new(directory.join(name));
        command.arg("-m").arg(model).args(["-t", &count]).args(arguments);
        command.env("LD_LIBRARY_PATH", directory);
        said(command, "")
    };
    let (said, key) = match task {
        Task::Prefill => {
            (program("llama-bench", &["-p", "512", "-n", "0", "-r", "3", "-o", "jsonl"])?, "avg_ts")
        }
        Task::Decode(1) => {
            (program("llama-bench", &["-p", "0", "-n", "128", "-r", "3", "-o", "jsonl"])?, "avg_ts")
        }
        Task::Decode(sequences) => {
            let sequences = sequences.to_string();
            let arguments =
                ["-c", "2048", "-npp", "64", "-ntg", "32", "-npl", &sequences, "--output-format", "jsonl"];
            (program("llama-batched-bench", &arguments)?, "speed_tg")
        }
        Task::Train | Task::Lora => return Ok(None),
    };
    let rows = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let speed = rows.filter_map(|row| row[key].as_f64()).next_back();
    speed.map(Some).ok_or_else(|| unread(&said))
}

/// Runs a program with this input; returns its stdout.
fn said(mut command: Command, input: &str) -> Result<String, Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |error: std::io::Error| Failure::failed(format!("{name} cannot be run: {error}"));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input may close it.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = errors.lines().rev().take(3).collect();
        let last = last.into_iter().rev().collect::<Vec<_>>().join("; ");
        return Err(Failure::failed(format!("{name} ended with {}: {last}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The results of both at one task, round by round.
struct Series {
    task: Task,
    measured: Option<Measurement>,
    own: Vec<f64>,
    peer: Vec<f64>,
}

/// Measures `tasks` of both programs alternately, `rounds` times. `own` measures one of Parlor; tasks that
/// the peer lacks are left out.
pub(crate) fn compare(
    peer: &Peer,
    tasks: &[Task],
    rounds: usize,
    mut own: impl FnMut(Task) -> Result<Measurement, Failure>,
) -> Result<Comparison, Failure> {
    let start = |task: &Task| Series { task: *task, measured: None, own: Vec::new(), peer: Vec::new() };
    let mut series: Vec<Series> = tasks.iter().map(start).collect();
    for round in 1..=rounds {
        for series in &mut series {
            let name = series.task.name();
            note(&format!("round {round} of {rounds}: {name} by {}", peer.name()));
            let Some(speed) = peer.run(series.task)? else { continue };
            series.peer.push(speed);
            note(&format!("round {round} of {rounds}: {name} by parlor"));
            let found = own(series.task)?;
            series.own.push(found.value);
            series.measured = Some(found);
        }
    }
    let results = series.into_iter().filter_map(|series| {
        let measured = series.measured?;
        Some(Compared::new(measured.name, measured.unit, series.own, series.peer))
    });
    Ok(Comparison { peer: peer.name(), command: peer.command(), results: results.collect() })
}
