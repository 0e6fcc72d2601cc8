//! The context of a verb: the flags, the output format, and the configuration, loaded on first use.

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

    /// The same context with values that override all others, as by `--set`.
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
        // Ignores variables that are not Unicode.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Sources { files, dotenv, environment, set: self.global.set.clone() }
    }

    /// The configuration with the origins of its values. The first call also starts logging at its level.
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

    /// Paths of config files that do not exist.
    pub(crate) fn missing(&self) -> Result<&[Missing], Failure> {
        Ok(&self.resolved()?.1)
    }

    /// The failure of a run or an evaluation, with the paths of the configuration that were tried.
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

    /// Whether a file, the environment or a flag sets this key.
    pub(crate) fn named(&self, key: &str) -> Result<bool, Failure> {
        Ok(self.manager()?.explain(key).is_ok_and(|found| found.layer != Layer::Default))
    }

    /// Whether this key is set to a value other than its default. (The file of `init` repeats defaults.)
    pub(crate) fn chosen(&self, key: &str) -> Result<bool, Failure> {
        let found = self.manager()?.explain(key);
        Ok(found.is_ok_and(|found| found.layer != Layer::Default && found.value != found.default))
    }
}
