//! What the tests share: a clock that ticks, a directory, a listing of files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard};

use jiff::Timestamp;
use parlor_track::{Clock, MlflowConfig, MonitoringConfig, Row, RunInfo, RunStart};
use tempfile::TempDir;

/// A second later each time it is asked.
pub(crate) fn ticking_clock() -> Clock {
    let milliseconds = AtomicI64::new(1_800_000_000_000);
    Clock::new(move || Timestamp::from_millisecond(milliseconds.fetch_add(1000, Ordering::SeqCst)).unwrap())
}

pub(crate) const RUN_ID: &str = "0123456789abcdef0123456789abcdef";

/// A directory with room for an output directory and a store.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.dir.path().join("mlruns")
    }

    pub(crate) fn config(&self) -> MonitoringConfig {
        MonitoringConfig {
            mlflow: MlflowConfig {
                tracking_uri: self.store().to_str().unwrap().to_owned(),
                run_name: Some("a run".to_owned()),
                ..MlflowConfig::default()
            },
            ..MonitoringConfig::default()
        }
    }

    pub(crate) fn start(&self, resume_from: Option<u64>) -> RunStart {
        RunStart {
            resume_from,
            run_id: Some(RUN_ID.to_owned()),
            clock: ticking_clock(),
            ..RunStart::new(self.out(), info())
        }
    }

    /// The one run directory of the store.
    pub(crate) fn mlflow_run(&self) -> PathBuf {
        let found = files(&self.store());
        let meta = format!("{RUN_ID}/meta.yaml");
        let path = found.iter().find(|path| path.ends_with(&meta)).expect("a run in the store");
        self.store().join(path).parent().unwrap().to_owned()
    }

    /// The text of a file, with this directory's name taken out.
    pub(crate) fn text(&self, path: &Path) -> String {
        let text = std::fs::read_to_string(path).unwrap();
        text.replace(self.dir.path().to_str().unwrap(), "DIR")
    }
}

pub(crate) fn info() -> RunInfo {
    let mut info = RunInfo {
        command: Some("parlor train".to_owned()),
        user: Some("someone".to_owned()),
        versions: [("parlor".to_owned(), "0.1.0".to_owned())].into(),
        seeds: [("training.seed".to_owned(), 42)].into(),
        data_sha256: [("./data/train/a.jsonl".to_owned(), "ab".repeat(32))].into(),
        template_sha256: Some("cd".repeat(32)),
        ..RunInfo::default()
    };
    info.add_params(
        "training",
        &serde_json::json!({"learning_rate": 5e-5, "lora": {"r": 16, "alpha": null}}),
    );
    info
}

pub(crate) fn row(step: u64) -> Row {
    Row::new(step).with("loss", 4.0 / step as f64).with("learning_rate", 1e-7).with("tokens", step * 512)
}

/// All files below, relative, sorted.
pub(crate) fn files(directory: &Path) -> Vec<String> {
    fn walk(base: &Path, directory: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(base, &path, found);
            } else {
                found.push(path.strip_prefix(base).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(directory, directory, &mut found);
    found.sort();
    found
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap()
    }
}

impl std::io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.bytes().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The warnings that `act` emits, a line each.
pub(crate) fn warnings(act: impl FnOnce()) -> Vec<String> {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, act);
    let text = String::from_utf8(captured.bytes().clone()).unwrap();
    text.lines().map(|line| line.trim().to_owned()).collect()
}
