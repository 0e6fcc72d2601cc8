//! The section `serving:`. Typed here, so that files with it load; `parlor serve` comes later.

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
            api_key: None,
        }
    }
}
