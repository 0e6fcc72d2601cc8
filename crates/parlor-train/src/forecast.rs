//! What a run will need, as it is reported: bytes by category, counts, and changes that make the run fit.

use serde::Serialize;

/// Bytes of memory at the peak of a run, by category.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryForecast {
    /// The model's parameters.
    pub weights: u64,
    /// Gradients of the trained parameters.
    pub gradients: u64,
    /// The optimizer's state.
    pub optimizer: u64,
    /// Activations kept for the backward pass, and scratch.
    pub activations: u64,
    /// Largest chunk of logits.
    pub logits: u64,
    /// Temporary allocations of operations and of saving.
    pub workspace: u64,
    /// The adapter's parameters.
    pub adapters: u64,
    /// Keys and values while `training.sample_prompts` are completed.
    pub cache: u64,
    /// What the process holds already: the program, the tokenizer, the data.
    pub program: u64,
    /// Sum of the categories.
    pub total: u64,
    /// What the process may use in all: what it holds and what is free. None when the system does not say.
    pub available: Option<u64>,
}

impl MemoryForecast {
    /// The categories by name.
    pub fn categories(&self) -> [(&'static str, u64); 9] {
        [
            ("weights", self.weights),
            ("gradients", self.gradients),
            ("optimizer", self.optimizer),
            ("activations", self.activations),
            ("logits", self.logits),
            ("workspace", self.workspace),
            ("adapters", self.adapters),
            ("cache", self.cache),
            ("program", self.program),
        ]
    }

    /// Whether the run fits. It does when the available memory is unknown.
    pub fn fits(&self) -> bool {
        self.available.is_none_or(|available| self.total <= available)
    }

    /// Whether the run fits with a margin of 3%, so that a proposed fix still fits when it is applied.
    pub(crate) fn fits_with_margin(&self) -> bool {
        self.available.is_none_or(|available| self.total + self.total / 32 <= available)
    }
}

/// Forecast of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// Bytes by category.
    pub memory: MemoryForecast,
    /// Tokens that go through the model in an epoch.
    pub tokens_per_epoch: u64,
    /// Tokens in the largest pass.
    pub tokens_per_pass: usize,
    /// Training examples.
    pub examples: usize,
    /// Optimizer steps.
    pub steps: u64,
    /// Optimizer steps of an epoch.
    pub steps_per_epoch: u64,
}

/// A change of one config key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Config key, from the root.
    pub key: String,
    /// New value, in the form that `--set` takes.
    pub value: String,
}

/// Changes that make a run fit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fix {
    /// The changes, to be made together.
    pub changes: Vec<Change>,
    /// Memory of the run with these changes.
    pub memory: MemoryForecast,
    /// What the changes cost, a phrase each.
    pub costs: Vec<&'static str>,
}

impl Fix {
    /// The changes in the form that `--set` takes: `KEY=VALUE`.
    pub fn settings(&self) -> Vec<String> {
        self.changes.iter().map(|Change { key, value }| format!("{key}={value}")).collect()
    }
}

/// A run that needs more memory than there is.
#[derive(Clone, Debug, PartialEq)]
pub struct TooLarge {
    /// Memory that the run needs.
    pub memory: MemoryForecast,
    /// Changes that make it fit, cheapest first.
    pub fixes: Vec<Fix>,
}

impl std::fmt::Display for TooLarge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { memory, fixes, .. } = self;
        let shown = |bytes: u64| format!("{:.2} GB", bytes as f64 / 1e9);
        let available = memory.available.map_or_else(|| "less".to_owned(), shown);
        write!(f, "the run needs {} of memory, and {available} can be had\n ", shown(memory.total))?;
        let parts = memory.categories();
        let parts: Vec<String> = parts
            .iter()
            .filter(|(_, bytes)| *bytes > 0)
            .map(|(name, bytes)| format!("{name} {}", shown(*bytes)))
            .collect();
        write!(f, " {}", parts.join(", "))?;
        if fixes.is_empty() {
            return write!(
                f,
                "\n  no change of the config that is known here makes it fit: take a smaller model, or shorter rows"
            );
        }
        for (index, fix) in fixes.iter().enumerate() {
            write!(f, "\n  {}. {}", index + 1, fix.settings().join(" "))?;
            write!(f, "\n     {}: {}", shown(fix.memory.total), fix.costs.join("; "))?;
        }
        write!(f, "\n  `--fit` takes the first of them")
    }
}
