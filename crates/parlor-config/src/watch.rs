//! Following changes of the files: validated, then swapped in; a bad file is reported and changes nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use notify::{RecursiveMode, Watcher};

use crate::Configuration;
use crate::manager::ConfigManager;
use crate::problem::ConfigError;

/// Editors write a file in several steps; a change counts when nothing has happened for this long.
const QUIET: Duration = Duration::from_millis(200);

/// Ends the watching when it is dropped.
#[derive(Debug)]
pub struct WatchGuard {
    _watcher: notify::RecommendedWatcher,
}

impl<C: Configuration> ConfigManager<C> {
    /// Reloads when one of the files changes. `report` hears of each reload: `Ok` when the new configuration is in
    /// force, else what is wrong with it (the old one stays).
    ///
    /// # Errors
    /// When the operating system cannot watch the directories.
    pub fn watch(
        &self,
        mut report: impl FnMut(Result<(), ConfigError>) + Send + 'static,
    ) -> Result<WatchGuard, notify::Error> {
        let files: BTreeSet<PathBuf> = self.files().iter().map(|file| absolute(file)).collect();
        let (sender, events) = channel();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // A receiver that is gone means that the watching ends.
            let _ = sender.send(event);
        })?;
        // Directories, since an editor that saves by renaming replaces the file that a watch would be on.
        let directories: BTreeSet<&Path> = files.iter().filter_map(|file| file.parent()).collect();
        for directory in directories {
            watcher.watch(directory, RecursiveMode::NonRecursive)?;
        }
        let manager = self.clone();
        std::thread::spawn(move || {
            let concerns = |event: notify::Result<notify::Event>| match event {
                Ok(event) if event.kind.is_access() => false,
                Ok(event) => event.paths.iter().any(|path| files.contains(&absolute(path))),
                Err(error) => {
                    tracing::warn!(%error, "watching the configuration files");
                    false
                }
            };
            while let Ok(event) = events.recv() {
                if !concerns(event) {
                    continue;
                }
                loop {
                    match events.recv_timeout(QUIET) {
                        Ok(_) => {}
                        Err(RecvTimeoutError::Timeout) => break,
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
                let result = manager.reload();
                match &result {
                    Ok(()) => tracing::info!("configuration reloaded"),
                    Err(error) => {
                        tracing::warn!(%error, "the changed configuration is not valid; the old one stays")
                    }
                }
                report(result);
            }
        });
        Ok(WatchGuard { _watcher: watcher })
    }
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
