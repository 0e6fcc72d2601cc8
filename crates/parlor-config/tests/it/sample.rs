//! The configuration that the tests use, and short ways to load one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use parlor_config::{
    Alias, ConfigError, ConfigManager, EnvName, EnvTarget, Problem, Rules, SeedKeys, Sources,
};
use proptest::test_runner::{Config as ProptestConfig, RngSeed};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tempfile::TempDir;

/// The model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Model {
    /// Directory or hub name.
    pub(crate) name: String,
    /// Longest sequence, in tokens.
    #[schemars(range(min = 1))]
    pub(crate) max_length: Option<u32>,
    /// Where it runs.
    pub(crate) device: String,
}

impl Default for Model {
    fn default() -> Self {
        Self { name: "tiny".into(), max_length: None, device: "auto".into() }
    }
}

/// Which objective trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TrainingType {
    /// Plain next-token prediction from random weights.
    FromScratch,
    /// Answers of dialogues.
    Sft,
    /// Preference pairs.
    Dpo,
}

/// How the weights are stepped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Optimizer {
    /// Adam with decoupled weight decay.
    Adamw,
    /// Plain gradient descent.
    Sgd,
}

/// One training type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Objective {
    /// Step size.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub(crate) learning_rate: f64,
    /// Passes over the data.
    #[schemars(range(min = 1))]
    pub(crate) epochs: u32,
}

impl Default for Objective {
    fn default() -> Self {
        Self { learning_rate: 5e-5, epochs: 3 }
    }
}

/// Training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Training {
    /// The objective.
    pub(crate) training_type: TrainingType,
    /// The optimizer.
    pub(crate) optimizer: Optimizer,
    /// Seed of everything that is random.
    pub(crate) seed: u64,
    /// Compute in bfloat16.
    pub(crate) bf16: bool,
    /// Share of units that are dropped.
    #[schemars(range(min = 0, max = 0.9))]
    pub(crate) dropout: f64,
    /// Layers that get adapters.
    pub(crate) target_modules: Vec<String>,
    /// Numbers of steps at which to save.
    pub(crate) save_at: Vec<u32>,
    /// SFT.
    pub(crate) sft: Objective,
    /// DPO.
    pub(crate) dpo: Objective,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            training_type: TrainingType::Sft,
            optimizer: Optimizer::Adamw,
            seed: 42,
            bf16: false,
            dropout: 0.1,
            target_modules: vec!["q_proj".into(), "v_proj".into()],
            save_at: Vec::new(),
            sft: Objective::default(),
            dpo: Objective { learning_rate: 1e-6, epochs: 1 },
        }
    }
}

/// The data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Data {
    /// Rows at a time.
    #[schemars(range(min = 1, max = 100_000))]
    pub(crate) batch_size: u32,
    /// Where the rows are.
    pub(crate) path: String,
}

impl Default for Data {
    fn default() -> Self {
        Self { batch_size: 1000, path: "./data".into() }
    }
}

/// The tracker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Tracker {
    /// Whether runs are tracked.
    pub(crate) enabled: bool,
    /// The key of the account.
    pub(crate) api_key: Option<String>,
}

/// The whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Sample {
    /// The model.
    pub(crate) model: Model,
    /// How it is trained.
    pub(crate) training: Training,
    /// What it is trained on.
    pub(crate) data: Data,
    /// Where its runs go.
    pub(crate) tracker: Tracker,
    /// Anything of the user's own.
    pub(crate) custom: BTreeMap<String, Value>,
}

impl SeedKeys for Sample {
    const MODEL_NAME: &str = "model.name";
    const TRAINING_TYPE: &str = "training.training_type";
    const BATCH_SIZE: &str = "data.batch_size";
}

fn learning_rate_key(values: &Value) -> String {
    let kind = values.pointer("/training/training_type").and_then(Value::as_str).unwrap_or("sft");
    format!("training.{kind}.learning_rate")
}

fn needs_data(config: &Sample) -> Vec<Problem> {
    let mut problems = Vec::new();
    if config.data.path.is_empty() {
        problems.push(Problem::at("data.path", "a path was expected").help("name a file"));
    }
    if config.training.training_type == TrainingType::Dpo && config.training.bf16 {
        problems.push(Problem::at("training.bf16", "bf16 does not go with dpo"));
    }
    problems
}

pub(crate) fn rules() -> Rules<Sample> {
    Rules {
        aliases: &[
            Alias { key: "training.optimizer", alias: "adamw_torch", canonical: "adamw" },
            Alias { key: "training.training_type", alias: "preference", canonical: "dpo" },
        ],
        env_names: &[
            EnvName { name: "MODEL_NAME", target: EnvTarget::Key("model.name") },
            EnvName { name: "MAX_LENGTH", target: EnvTarget::Key("model.max_length") },
            EnvName { name: "BATCH_SIZE", target: EnvTarget::Key("data.batch_size") },
            EnvName { name: "TRAINING_TYPE", target: EnvTarget::Key("training.training_type") },
            EnvName { name: "TRACKER_KEY", target: EnvTarget::Key("tracker.api_key") },
            EnvName { name: "LEARNING_RATE", target: EnvTarget::Resolved(learning_rate_key) },
        ],
        secrets: &["tracker.api_key"],
        validators: vec![needs_data],
        ..Rules::default()
    }
}

/// A directory with files, and what else a configuration is made of.
pub(crate) struct Case {
    pub(crate) directory: TempDir,
    pub(crate) sources: Sources,
}

impl Case {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), sources: Sources::default() }
    }

    /// One configuration file with this text.
    pub(crate) fn with(text: impl AsRef<[u8]>) -> Self {
        Self::new().file("config.yaml", text)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A file that is there, but is not read for itself.
    pub(crate) fn beside(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.path(name), text).unwrap();
        self
    }

    pub(crate) fn file(mut self, name: &str, text: impl AsRef<[u8]>) -> Self {
        self.sources.files.push(self.path(name));
        self.beside(name, text)
    }

    pub(crate) fn dotenv(mut self, text: impl AsRef<[u8]>) -> Self {
        self.sources.dotenv = Some(self.path(".env"));
        self.beside(".env", text)
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.sources.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn set(mut self, flag: &str) -> Self {
        self.sources.set.push(flag.to_owned());
        self
    }

    pub(crate) fn try_load(&self) -> Result<ConfigManager<Sample>, ConfigError> {
        ConfigManager::load(self.sources.clone(), rules())
    }

    #[track_caller]
    pub(crate) fn load(&self) -> ConfigManager<Sample> {
        self.try_load().unwrap_or_else(|error| panic!("{error}"))
    }

    #[track_caller]
    pub(crate) fn problems(&self) -> Vec<Problem> {
        match self.try_load() {
            Ok(manager) => panic!("this was expected to fail: {:?}", manager.get()),
            Err(error) => error.problems,
        }
    }

    /// The problems as a user sees them, without the temporary directory.
    #[track_caller]
    pub(crate) fn report(&self) -> String {
        let problems = self.problems();
        let text: Vec<String> = problems.iter().map(ToString::to_string).collect();
        text.join("\n").replace(&format!("{}/", self.directory.path().display()), "")
    }
}

/// The only problem of a configuration file.
#[track_caller]
pub(crate) fn only_problem(text: impl AsRef<[u8]>) -> Problem {
    let mut problems = Case::with(text).problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.remove(0)
}

/// The bytes that a problem underlines.
#[track_caller]
pub(crate) fn underlined(problem: &Problem) -> &str {
    let place = problem.place.as_ref().expect("a place");
    &place.source[place.offset..place.offset + place.len]
}

pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// The same `cases` in every run.
pub(crate) fn fixed(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(7),
        ..ProptestConfig::default()
    }
}
