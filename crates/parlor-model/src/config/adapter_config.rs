//! `adapter_config.json` of PEFT (0.21): what an adapter is, with PEFT's names and defaults.
//!
//! Leaves out the variants that change the base or need code of their own (PiSSA, LoftQ, aLoRA, ...): a file
//! that uses one is refused, never read as something else.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Which modules an adapter changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum TargetModules {
    /// Names, or ends of names after a dot: `["q_proj", "v_proj"]`.
    Names(Vec<String>),
    /// A regular expression that must match a whole name, or `all-linear`.
    Pattern(String),
}

/// Which biases are trained along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AdapterBias {
    /// None.
    #[default]
    None,
    /// All of the model.
    All,
    /// Those of the modules that are adapted.
    LoraOnly,
}

/// How new factors are drawn. `B` is zero, so that a new adapter changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InitLora {
    /// `A` uniform within `1 / sqrt(in)` (PEFT's `true`).
    #[default]
    Default,
    /// `A` normal with deviation `1 / r`.
    Gaussian,
}

/// What an adapter is.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterConfig {
    /// Rank of the factors.
    pub r: usize,
    /// The adapter's output is multiplied by `lora_alpha / r`.
    pub lora_alpha: f64,
    /// Share of the adapter's input that training drops.
    pub lora_dropout: f64,
    /// Modules with factors.
    pub target_modules: TargetModules,
    /// Modules that `target_modules` must not mean.
    pub exclude_modules: Option<TargetModules>,
    /// Blocks that `target_modules` may mean; none means all.
    pub layers_to_transform: Option<Vec<usize>>,
    /// Biases that are trained along.
    pub bias: AdapterBias,
    /// Modules of which the adapter has a version of its own, by the ends of their names.
    pub modules_to_save: Vec<String>,
    /// Divide `lora_alpha` by the square root of the rank instead (Kalajdzievski, 2023).
    pub use_rslora: bool,
    /// Train directions and magnitudes apart (DoRA).
    pub use_dora: bool,
    /// Rank of modules whose name ends as the key, a regular expression; the first that fits counts.
    pub rank_pattern: IndexMap<String, usize>,
    /// `lora_alpha` likewise.
    pub alpha_pattern: IndexMap<String, f64>,
    /// Values of a new adapter.
    pub init_lora_weights: InitLora,
    /// Name or path of the model that it belongs to.
    pub base_model_name_or_path: Option<String>,
}

impl Default for AdapterConfig {
    fn default() -> Self {
        Self {
            r: 8,
            lora_alpha: 8.0,
            lora_dropout: 0.0,
            target_modules: TargetModules::Pattern(ALL_LINEAR.to_owned()),
            exclude_modules: None,
            layers_to_transform: None,
            bias: AdapterBias::None,
            modules_to_save: Vec::new(),
            use_rslora: false,
            use_dora: false,
            rank_pattern: IndexMap::new(),
            alpha_pattern: IndexMap::new(),
            init_lora_weights: InitLora::Default,
            base_model_name_or_path: None,
        }
    }
}

/// The pattern that means every linear layer but the output head.
pub const ALL_LINEAR: &str = "all-linear";

/// Keys of the file that change what an adapter computes and that Parlor does not have: anything but their
/// neutral value is refused.
const UNSUPPORTED: [&str; 14] = [
    "alora_invocation_tokens",
    "arrow_config",
    "ensure_weight_tying",
    "kasa_config",
    "layer_replication",
    "layers_pattern",
    "lora_bias",
    "megatron_config",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
    "velora_config",
];

/// Beginnings of `init_lora_weights` with which PEFT changes the model's weights when it loads such an
/// adapter, by values that are in no file.
const INITS_OF_OTHER_WEIGHTS: [&str; 4] = ["pissa", "olora", "corda", "loftq"];

impl AdapterConfig {
    /// `lora_alpha / r` of a module of rank `r` and this alpha.
    pub(crate) fn scale(&self, r: usize, alpha: f64) -> f32 {
        let divisor = if self.use_rslora { (r as f64).sqrt() } else { r as f64 };
        (alpha / divisor) as f32
    }

    /// Reads the file's object.
    ///
    /// # Errors
    /// What is missing, ill-typed or not supported, one sentence.
    pub fn from_json(map: &Map<String, Value>) -> Result<Self, String> {
        let present = |key: &str| map.get(key).filter(|value| !value.is_null());
        match present("peft_type").and_then(Value::as_str) {
            Some("LORA") => {}
            other => {
                let found = other.unwrap_or("none");
                return Err(format!("`peft_type` is {found}; Parlor reads adapters of type `LORA`"));
            }
        }
        let neutral = |value: &Value| {
            matches!(value, Value::Bool(false))
                || value.as_array().is_some_and(Vec::is_empty)
                || value.as_object().is_some_and(Map::is_empty)
        };
        for key in UNSUPPORTED {
            if let Some(value) = present(key).filter(|value| !neutral(value)) {
                return Err(format!("`{key}` is {value}, which this build does not have"));
            }
        }
        if let Some(init) = present("init_lora_weights").and_then(Value::as_str)
            && INITS_OF_OTHER_WEIGHTS.iter().any(|other| init.to_lowercase().starts_with(other))
        {
            return Err(format!(
                "`init_lora_weights` is `{init}`, so the adapter belongs to weights that PEFT makes of the model's; have PEFT \
                 save it for the model's own (`path_initial_model_for_weight_conversion`)"
            ));
        }
        let defaults = Self::default();
        let target_modules = match present("target_modules") {
            Some(value) => modules("target_modules", value)?,
            None => return Err("`target_modules` is missing, so it is unknown what is adapted".to_owned()),
        };
        let flag = |key: &str| match present(key) {
            None => Ok(false),
            Some(value) => {
                value.as_bool().ok_or_else(|| format!("`{key}` is {value}, expected true or false"))
            }
        };
        let number = |key: &str, default: f64| match present(key) {
            None => Ok(default),
            Some(value) => value.as_f64().ok_or_else(|| format!("`{key}` is {value}, expected a number")),
        };
        let r = match present("r") {
            None => defaults.r,
            Some(value) => value
                .as_u64()
                .filter(|&r| r > 0)
                .and_then(|r| usize::try_from(r).ok())
                .ok_or_else(|| format!("`r` is {value}, expected a whole number of at least 1"))?,
        };
        let config = Self {
            r,
            lora_alpha: number("lora_alpha", defaults.lora_alpha)?,
            lora_dropout: number("lora_dropout", 0.0)?,
            target_modules,
            exclude_modules: present("exclude_modules")
                .map(|value| modules("exclude_modules", value))
                .transpose()?,
            layers_to_transform: present("layers_to_transform").map(layers).transpose()?,
            bias: typed(map, "bias")?.unwrap_or_default(),
            modules_to_save: typed(map, "modules_to_save")?.unwrap_or_default(),
            use_rslora: flag("use_rslora")?,
            use_dora: flag("use_dora")?,
            rank_pattern: typed(map, "rank_pattern")?.unwrap_or_default(),
            alpha_pattern: typed(map, "alpha_pattern")?.unwrap_or_default(),
            // The values are in the file; how they were first drawn no longer counts.
            init_lora_weights: InitLora::Default,
            base_model_name_or_path: typed(map, "base_model_name_or_path")?,
        };
        let problems = config.problems();
        if problems.is_empty() { Ok(config) } else { Err(problems.join("; ")) }
    }

    /// What cannot work, a sentence each.
    pub fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.r == 0 || self.rank_pattern.values().any(|&r| r == 0) {
            found.push("a rank is 0; it must be at least 1".to_owned());
        }
        let alphas = std::iter::once(&self.lora_alpha).chain(self.alpha_pattern.values());
        if alphas.into_iter().any(|alpha| !alpha.is_finite()) {
            found.push("an alpha is not a finite number".to_owned());
        }
        if !(0.0..1.0).contains(&self.lora_dropout) {
            found.push(format!("`lora_dropout` is {}; it must be 0 or above, below 1", self.lora_dropout));
        }
        found
    }

    /// The file's object, with every key that PEFT, vLLM and others read.
    pub fn to_json(&self) -> Map<String, Value> {
        let none_if_empty = |list: &[String]| if list.is_empty() { Value::Null } else { json!(list) };
        let Value::Object(map) = json!({
            "base_model_name_or_path": self.base_model_name_or_path,
            "bias": self.bias,
            "exclude_modules": self.exclude_modules,
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": match self.init_lora_weights {
                InitLora::Default => json!(true),
                InitLora::Gaussian => json!("gaussian"),
            },
            "layers_pattern": null,
            "layers_to_transform": self.layers_to_transform,
            "lora_alpha": plain(self.lora_alpha),
            "lora_dropout": self.lora_dropout,
            "modules_to_save": none_if_empty(&self.modules_to_save),
            "peft_type": "LORA",
            "peft_version": PEFT_VERSION,
            "r": self.r,
            "rank_pattern": self.rank_pattern,
            "alpha_pattern": self.alpha_pattern.iter().map(|(key, alpha)| (key.clone(), plain(*alpha))).collect::<Map<_, _>>(),
            "revision": null,
            "target_modules": self.target_modules,
            "task_type": "CAUSAL_LM",
            "use_dora": self.use_dora,
            "use_rslora": self.use_rslora,
        }) else {
            return Map::new();
        };
        map
    }
}

/// The version whose format is written.
const PEFT_VERSION: &str = "0.21.2";

/// A whole number without a fraction: vLLM wants `lora_alpha` as an integer.
fn plain(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}

fn typed<T: serde::de::DeserializeOwned>(map: &Map<String, Value>, key: &str) -> Result<Option<T>, String> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => serde_json::from_value(value.clone())
            .map(Some)
            .map_err(|error| format!("`{key}` is {value}: {error}")),
    }
}

fn modules(key: &str, value: &Value) -> Result<TargetModules, String> {
    serde_json::from_value(value.clone())
        .map_err(|_| format!("`{key}` is {value}, expected a list of names or a regular expression"))
}

fn layers(value: &Value) -> Result<Vec<usize>, String> {
    match value {
        Value::Number(_) => serde_json::from_value(json!([value])),
        _ => serde_json::from_value(value.clone()),
    }
    .map_err(|_| format!("`layers_to_transform` is {value}, expected block numbers"))
}
