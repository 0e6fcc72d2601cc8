//! The section `serving:`. Typed here, so that files with it load; `parlor serve` comes later.

use parlor_engine::SamplingOverrides;
use parlor_track::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What runs the model when serving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BackendType {
    /// Parlor itself (`native` is another name).
    #[default]
    Pytorch,
    /// ONNX Runtime.
    Onnx,
    /// A vLLM server that Parlor stands before.
    Vllm,
}

/// Sampling settings that count before the model's own and after those of a request or a flag.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingDefaults {
    /// Divides the logits; 0 takes the likeliest token each time (greedy).
    #[schemars(range(min = 0.0))]
    pub temperature: Option<f64>,
    /// Only so many of the likeliest tokens; 0 is all.
    pub top_k: Option<usize>,
    /// Only the likeliest tokens that reach this probability together; 1 is all.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub top_p: Option<f64>,
    /// Only tokens at least this many times as likely as the likeliest; 0 is all.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_p: Option<f64>,
    /// Only tokens about as surprising as expected, up to this probability; 1 is all.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub typical_p: Option<f64>,
    /// Makes tokens that were seen less likely; 1 is off.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub repetition_penalty: Option<f64>,
    /// Subtracted per time that a token was generated; 0 is off.
    #[schemars(range(min = -2.0, max = 2.0))]
    pub frequency_penalty: Option<f64>,
    /// Subtracted once a token was generated; 0 is off.
    #[schemars(range(min = -2.0, max = 2.0))]
    pub presence_penalty: Option<f64>,
    /// Most new tokens.
    #[schemars(range(min = 1))]
    pub max_new_tokens: Option<usize>,
    /// Texts that end an answer, beside the model's own.
    pub stop_strings: Vec<String>,
}

impl SamplingDefaults {
    /// As the engine takes them.
    pub fn overrides(&self) -> SamplingOverrides {
        let float = |value: Option<f64>| value.map(|value| value as f32);
        SamplingOverrides {
            temperature: float(self.temperature),
            top_k: self.top_k,
            top_p: float(self.top_p),
            min_p: float(self.min_p),
            typical_p: float(self.typical_p),
            repetition_penalty: float(self.repetition_penalty),
            frequency_penalty: float(self.frequency_penalty),
            presence_penalty: float(self.presence_penalty),
            max_tokens: self.max_new_tokens,
            stop: self.stop_strings.clone(),
            ..SamplingOverrides::default()
        }
    }
}

/// Serving over HTTP (not in this build yet: `parlor serve` comes with a later version).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServingConfig {
    /// What runs the model: `pytorch` (Parlor itself; `native` is another name), `onnx` or `vllm`.
    pub backend_type: BackendType,
    /// Address to listen on. `0.0.0.0` is every interface; `127.0.0.1` is this machine only.
    #[schemars(length(min = 1))]
    pub host: String,
    /// Port to listen on.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Requests that run at the same time; more wait.
    #[schemars(range(min = 1, max = 100_000))]
    pub max_concurrent_requests: usize,
    /// Devices that share one model's layers (for `vllm`).
    #[schemars(range(min = 1, max = 1024))]
    pub tensor_parallel_size: usize,
    /// Share of the GPU's memory that serving may take (for `vllm`), above 0 and at most 1.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0))]
    pub gpu_memory_utilization: f64,
    /// Sampling settings of `generate` and `chat`, by their names in generation_config.json. What applies is, for each, the
    /// first of: the flag, this, the model's generation_config.json, the neutral value (no penalty, no filter, the
    /// temperature 1). Without a temperature from flag or config, the model's `do_sample` decides whether tokens are
    /// drawn or the likeliest is taken, as in transformers.
    pub sampling_defaults: SamplingDefaults,
    /// Key that clients must present (environment: API_KEY). A secret: never shown, and better set through the
    /// environment than in a file. Null asks for none.
    pub api_key: Option<Secret>,
}

impl Default for ServingConfig {
    fn default() -> Self {
        Self {
            backend_type: BackendType::Pytorch,
            host: "0.0.0.0".to_owned(),
            port: 8000,
            max_concurrent_requests: 100,
            tensor_parallel_size: 1,
            gpu_memory_utilization: 0.9,
            sampling_defaults: SamplingDefaults::default(),
            api_key: None,
        }
    }
}
