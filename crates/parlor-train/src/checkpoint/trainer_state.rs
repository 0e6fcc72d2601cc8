//! `trainer_state.json`: exactly the fields of HF's `TrainerState`, which refuses unknown ones. Parlor's own
//! state is in `parlor_state.json`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// HF's `TrainerState`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the names are HF's and documented there")]
pub struct TrainerState {
    pub best_global_step: Option<u64>,
    pub best_metric: Option<f64>,
    pub best_model_checkpoint: Option<String>,
    pub epoch: f64,
    pub eval_steps: u64,
    pub global_step: u64,
    pub is_hyper_param_search: bool,
    pub is_local_process_zero: bool,
    pub is_world_process_zero: bool,
    pub log_history: Vec<Map<String, Value>>,
    pub logging_steps: u64,
    pub max_steps: u64,
    pub num_input_tokens_seen: u64,
    pub num_train_epochs: u64,
    pub save_steps: u64,
    pub stateful_callbacks: Value,
    pub total_flos: f64,
    pub train_batch_size: u64,
    pub trial_name: Option<String>,
    pub trial_params: Option<Value>,
}

impl TrainerState {
    /// A state at step 0, single process.
    pub fn new() -> Self {
        Self {
            best_global_step: None,
            best_metric: None,
            best_model_checkpoint: None,
            epoch: 0.0,
            eval_steps: 0,
            global_step: 0,
            is_hyper_param_search: false,
            is_local_process_zero: true,
            is_world_process_zero: true,
            log_history: Vec::new(),
            logging_steps: 0,
            max_steps: 0,
            num_input_tokens_seen: 0,
            num_train_epochs: 0,
            save_steps: 0,
            stateful_callbacks: json!({}),
            total_flos: 0.0,
            train_batch_size: 0,
            trial_name: None,
            trial_params: None,
        }
    }

    /// Sets the one callback that HF's `Trainer` requires; `finished` says whether training is over.
    pub fn set_control(&mut self, finished: bool) {
        self.stateful_callbacks = json!({"TrainerControl": {
            "args": {
                "should_training_stop": finished,
                "should_epoch_stop": false,
                "should_save": true,
                "should_evaluate": false,
                "should_log": false,
            },
            "attributes": {},
        }});
    }
}

impl Default for TrainerState {
    fn default() -> Self {
        Self::new()
    }
}
