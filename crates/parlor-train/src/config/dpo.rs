//! `training.dpo`: preference optimisation (Rafailov et al., 2023) and its kin, with TRL's names.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::hyperparameters::training_section;

/// The loss on preference data (TRL's names).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DpoLoss {
    /// `-log sigmoid(beta * margin)`.
    #[default]
    Sigmoid,
    /// `max(0, 1 - beta * margin)`.
    Hinge,
    /// Squared distance of the length-averaged margin from `1 / (2 beta)`.
    Ipo,
    /// Sigmoid made unbiased for a share `label_smoothing` of swapped labels.
    Robust,
    /// Sigmoid of length-averaged log-probabilities less `simpo_gamma`, without a reference.
    Simpo,
    /// Likelihood of the chosen completion and odds ratio of both, without a reference.
    Orpo,
    /// Unpaired preferences: rows with `completion` and `label`.
    Kto,
}

impl DpoLoss {
    /// The name in a config file.
    pub fn name(self) -> &'static str {
        match self {
            DpoLoss::Sigmoid => "sigmoid",
            DpoLoss::Hinge => "hinge",
            DpoLoss::Ipo => "ipo",
            DpoLoss::Robust => "robust",
            DpoLoss::Simpo => "simpo",
            DpoLoss::Orpo => "orpo",
            DpoLoss::Kto => "kto",
        }
    }

    fn has_reference(self) -> bool {
        !matches!(self, DpoLoss::Simpo | DpoLoss::Orpo)
    }

    fn smooths(self) -> bool {
        matches!(self, DpoLoss::Sigmoid | DpoLoss::Robust | DpoLoss::Simpo)
    }
}

training_section! {
    /// Training on preference data, either pairs or completions with a label. Trains an adapter when
    /// `training.lora.enabled` is true, every weight when it is false.
    DpoConfig {
        num_train_epochs: 1,
        per_device_train_batch_size: 2,
        learning_rate: 1e-6,
        /// Loss on the completions. For pairs (`prompt`, `chosen`, `rejected`): `sigmoid`, `hinge`, `ipo` and
        /// `robust` measure against a reference model, `simpo` and `orpo` need none. `kto` takes unpaired
        /// preferences (`prompt`, `completion`, `label`), or a pair as one desirable and one undesirable
        /// completion.
        loss_type: DpoLoss = DpoLoss::Sigmoid,
        /// Strength of the pull towards the reference model; a lower value moves further away from it. For
        /// `simpo` the scale of the margin (2 and more are usual), for `orpo` the weight of the odds ratio.
        #[schemars(extend("exclusiveMinimum" = 0))]
        beta: f64 = 0.1,
        /// Assumed share of pairs whose labels are swapped; for `sigmoid`, `robust` (below 0.5) and `simpo`.
        #[schemars(range(min = 0, max = 0.5))]
        label_smoothing: f64 = 0.0,
        /// Margin that `simpo` aims at.
        simpo_gamma: f64 = 0.5,
        /// Weight of desirable completions in `kto`; raise it when they are fewer.
        #[schemars(range(min = 0))]
        desirable_weight: f64 = 1.0,
        /// Weight of undesirable completions in `kto`.
        #[schemars(range(min = 0))]
        undesirable_weight: f64 = 1.0,
        /// Longest prompt with a completion, in tokens; null takes `data.max_length`. Longer ones lose their
        /// end, and rows whose prompt leaves no room for a completion are left out.
        #[schemars(range(min = 2))]
        max_length: Option<usize> = None,
        /// Longest prompt, in tokens; longer ones lose their beginning. Null leaves prompts whole.
        #[schemars(range(min = 1))]
        max_prompt_length: Option<usize> = None,
        /// Model to measure against; null is the model before training. It must have the same tokenizer.
        reference_model_path: Option<PathBuf> = None,
        /// Train an adapter without its `lora_dropout`, so that it differs from the reference only by what it
        /// has learned.
        disable_dropout: bool = true,
        /// Leave the reference out of the losses on pairs, as if it found all completions equally likely.
        reference_free: bool = false,
    }
}

impl DpoConfig {
    /// Whether the loss measures against a reference model.
    pub fn needs_reference(&self) -> bool {
        self.loss_type.has_reference() && !self.reference_free
    }

    /// Values that cannot work, alone or together: key and sentence.
    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        let (mut found, loss) = (Vec::new(), self.loss_type.name());
        let mut wrong = |key, message: String| found.push((key, message));
        if !(self.beta.is_finite() && self.beta > 0.0) {
            wrong("beta", format!("it is {}; it must be above 0", self.beta));
        }
        let smoothing = self.label_smoothing;
        if !(0.0..=0.5).contains(&smoothing) {
            wrong("label_smoothing", format!("it is {smoothing}; it must be 0 to 0.5"));
        } else if smoothing > 0.0 && !self.loss_type.smooths() {
            let message = format!(
                "it is {smoothing}, but `loss_type: {loss}` does not read it; set it to 0, or choose `sigmoid`, `robust` \
                 or `simpo`"
            );
            wrong("label_smoothing", message);
        } else if smoothing == 0.5 && self.loss_type == DpoLoss::Robust {
            wrong("label_smoothing", "it is 0.5; for `loss_type: robust` it must be below 0.5".to_owned());
        }
        if !self.simpo_gamma.is_finite() {
            wrong("simpo_gamma", format!("it is {}; it must be a finite number", self.simpo_gamma));
        }
        for (key, weight) in
            [("desirable_weight", self.desirable_weight), ("undesirable_weight", self.undesirable_weight)]
        {
            if !(weight.is_finite() && weight >= 0.0) {
                wrong(key, format!("it is {weight}; it must be 0 or above"));
            }
        }
        for (key, length, least) in
            [("max_length", self.max_length, 2), ("max_prompt_length", self.max_prompt_length, 1)]
        {
            if let Some(length) = length.filter(|&length| length < least) {
                wrong(key, format!("it is {length}; it must be at least {least}"));
            }
        }
        if self.reference_free && matches!(self.loss_type, DpoLoss::Kto) {
            wrong(
                "reference_free",
                "`loss_type: kto` measures against the reference; set it to false".to_owned(),
            );
        }
        if self.reference_model_path.is_some() && !self.needs_reference() {
            let because = if self.reference_free { "`reference_free: true`" } else { "this `loss_type`" };
            wrong("reference_model_path", format!("{because} needs no reference model; set it to null"));
        }
        if self.loss_type == DpoLoss::Kto && self.per_device_train_batch_size < 2 {
            let message = format!(
                "it is {}, but `loss_type: kto` compares with the completions of other examples in a pass; take at least 2",
                self.per_device_train_batch_size
            );
            wrong("per_device_train_batch_size", message);
        }
        found
    }
}
