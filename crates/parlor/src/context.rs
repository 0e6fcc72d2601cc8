//! What every verb is given: the flags, the form of results, and the configuration, read when first asked for.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parlor::configuration::{Layer, Sources};
use parlor::train::TrainError;
use parlor::{Config, ConfigManager};

use crate::cli::Global;
use crate::failure::Failure;
use crate::output::Output;
use crate::paths::{self, Missing};

/// Flags and configuration.
pub(crate) struct Context {
    pub(crate) global: Global,
    pub(crate) output: Output,
    manager: OnceCell<ConfigManager<Config>>,
    resolved: OnceCell<(Arc<Config>, Vec<Missing>)>,
}

/// Read when no `-c` is given.
pub(crate) const DEFAULT_FILE: &str = "config.yaml";

impl Context {
    pub(crate) fn new(global: Global) -> Self {
        let output = if global.json { Output::Json } else { Output::Text };
        Self { global, output, manager: OnceCell::new(), resolved: OnceCell::new() }
    }

    /// The same with values that count before all others, as `--set` gives them.
    pub(crate) fn with_settings(&self, settings: Vec<String>) -> Self {
        let mut global = self.global.clone();
        global.set.extend(settings);
        Self::new(global)
    }

    /// Where the configuration comes from: files, `.env`, the environment, `--set`.
    pub(crate) fn sources(&self) -> Sources {
        let mut files: Vec<PathBuf> = self.global.config.clone();
        if files.is_empty() && Path::new(DEFAULT_FILE).is_file() {
            files.push(DEFAULT_FILE.into());
        }
        let dotenv = Some(PathBuf::from(".env")).filter(|path| path.is_file());
        // A variable that is not Unicode is none of ours.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Sources { files, dotenv, environment, set: self.global.set.clone() }
    }

    /// The configuration with where each value came from. The first call also starts logging at its level.
    pub(crate) fn manager(&self) -> Result<&ConfigManager<Config>, Failure> {
        if let Some(manager) = self.manager.get() {
            return Ok(manager);
        }
        let manager = parlor::load_config(self.sources())?;
        crate::logging::start(&self.global, manager.get().log_level);
        if let Some(isa) = manager.get().model.instruction_set.0 {
            parlor::kernels::cpu::isa::force(isa).map_err(|error| {
                Failure::input_help(
                    format!("`model.instruction_set`: {error}"),
                    "set it to `auto`, or to one of those",
                )
            })?;
        }
        Ok(self.manager.get_or_init(|| manager))
    }

    /// The configuration, relative paths of files resolved.
    pub(crate) fn config(&self) -> Result<Arc<Config>, Failure> {
        Ok(Arc::clone(&self.resolved()?.0))
    }

    /// Paths of config files that are nowhere.
    pub(crate) fn missing(&self) -> Result<&[Missing], Failure> {
        Ok(&self.resolved()?.1)
    }

    /// The failure of a run or an evaluation, with the places where a path of the configuration was looked for.
    pub(crate) fn run_failure(&self, error: TrainError) -> Failure {
        match self.missing() {
            Ok(missing) => paths::of_run(missing, error),
            Err(failure) => failure,
        }
    }

    fn resolved(&self) -> Result<&(Arc<Config>, Vec<Missing>), Failure> {
        let manager = self.manager()?;
        Ok(self.resolved.get_or_init(|| {
            let mut config = Config::clone(&manager.get());
            let missing = paths::resolve(&mut config, manager);
            (Arc::new(config), missing)
        }))
    }

    /// Whether someone set this key: a file, the environment or a flag.
    pub(crate) fn named(&self, key: &str) -> Result<bool, Failure> {
        Ok(self.manager()?.explain(key).is_ok_and(|found| found.layer != Layer::Default))
    }

    /// Whether someone chose a value of their own for this key. A file that repeats the default, as the one of
    /// `init` does, chooses nothing.
    pub(crate) fn chosen(&self, key: &str) -> Result<bool, Failure> {
        let found = self.manager()?.explain(key);
        Ok(found.is_ok_and(|found| found.layer != Layer::Default && found.value != found.default))
    }
}
