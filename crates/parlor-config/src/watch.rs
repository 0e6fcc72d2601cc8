//! Hot reload: watches the files, validates a change, and swaps it in. An invalid file is reported and
//! changes nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use notify::{RecursiveMode, Watcher};

use crate::configuration::Configuration;
use crate::manager::{ConfigManager, lock};
use crate::problem::ConfigError;

/// Debounce: editors write a file in several steps, so a reload waits until nothing has happened for this long.
const QUIET: Duration = Duration::from_millis(200);

/// The longest delay of a reload, for files that change all the time.
const PATIENCE: Duration = Duration::from_secs(2);

/// Stops watching when it is dropped.
#[derive(Debug)]
pub struct WatchGuard {
    /// The thread has a weak reference only: when this is dropped, its channel closes.
    _watched: Arc<Mutex<Watched>>,
}

/// What is watched: directories, because an editor that saves by renaming replaces the watched file.
#[derive(Debug)]
struct Watched {
    watcher: notify::RecommendedWatcher,
    directories: BTreeSet<PathBuf>,
    files: BTreeSet<PathBuf>,
}

impl Watched {
    /// Watches `files` from now on, and what they link to.
    fn follow(&mut self, files: &[PathBuf]) -> Result<(), notify::Error> {
        let targets = files.iter().filter_map(|file| file.canonicalize().ok());
        self.files = files.iter().map(|file| absolute(file)).chain(targets).collect();
        for directory in self.files.iter().filter_map(|file| file.parent()) {
            if !self.directories.contains(directory) && directory.is_dir() {
                self.watcher.watch(directory, RecursiveMode::NonRecursive)?;
                self.directories.insert(directory.to_owned());
            }
        }
        Ok(())
    }

    fn concerns(&self, event: &notify::Event) -> bool {
        !event.kind.is_access() && event.paths.iter().any(|path| self.files.contains(&absolute(path)))
    }
}

impl<C: Configuration> ConfigManager<C> {
    /// Reloads when one of the files changes: the configuration's, those that it extends, now or later, and
    /// `.env`. Calls `report` after each reload: with `Ok` when the new configuration is in force, else with
    /// its problems (the old one stays in force).
    ///
    /// # Errors
    /// When the operating system cannot watch the directories.
    pub fn watch(
        &self,
        mut report: impl FnMut(Result<(), ConfigError>) + Send + 'static,
    ) -> Result<WatchGuard, notify::Error> {
        let (sender, events) = channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Fails when the receiver is gone, which ends the thread.
            let _ = sender.send(event);
        })?;
        let mut watched = Watched { watcher, directories: BTreeSet::new(), files: BTreeSet::new() };
        let dotenv = self.dotenv().map(Path::to_owned);
        watched.follow(&self.files().into_iter().chain(dotenv.clone()).collect::<Vec<_>>())?;
        let guard = WatchGuard { _watched: Arc::new(Mutex::new(watched)) };
        let watched = Arc::downgrade(&guard._watched);
        let manager = self.clone();
        std::thread::spawn(move || {
            while let Some(()) = changed(&events, &watched) {
                let (result, files) = manager.reload_files();
                match &result {
                    Ok(()) => tracing::info!("configuration reloaded"),
                    Err(error) => {
                        tracing::warn!(%error, "the changed configuration is not valid; the old one stays")
                    }
                }
                // A file named by `extends` is watched even while it does not exist.
                if let Some(watched) = watched.upgrade() {
                    let files: Vec<PathBuf> = files.into_iter().chain(dotenv.clone()).collect();
                    if let Err(error) = lock(&watched).follow(&files) {
                        tracing::warn!(%error, "watching the configuration files");
                    }
                }
                report(result);
            }
        });
        Ok(guard)
    }
}

/// Waits for a change and then for the debounce interval; `None` when watching has ended.
fn changed(events: &Receiver<notify::Result<notify::Event>>, watched: &Weak<Mutex<Watched>>) -> Option<()> {
    let concerns = |event: notify::Result<notify::Event>| match event {
        Ok(event) => Some(lock(&*watched.upgrade()?).concerns(&event)),
        Err(error) => {
            tracing::warn!(%error, "watching the configuration files");
            Some(false)
        }
    };
    while !concerns(events.recv().ok()?)? {}
    let first = Instant::now();
    let mut last = first;
    // Ignores other files of the directory, which may change all the time.
    while last.elapsed() < QUIET && first.elapsed() < PATIENCE {
        match events.recv_timeout(QUIET.saturating_sub(last.elapsed())) {
            Ok(event) => {
                if concerns(event)? {
                    last = Instant::now();
                }
            }
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
    watched.upgrade().map(|_| ())
}

/// The path with its directory resolved; the file itself may be gone for a moment.
fn absolute(path: &Path) -> PathBuf {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let parent = parent.canonicalize().unwrap_or_else(|_| parent.to_owned());
    path.file_name().map_or_else(|| parent.clone(), |name| parent.join(name))
}
