//! Learning rate and weight decay of each parameter.
//!
//! The first rule that fits applies: a group of `training.param_groups`; `training.lora.loraplus_lr_ratio`
//! (Hayou et al., 2024) for an adapter's B matrices and vectors, as in PEFT; the training type's own. Unless
//! a group says otherwise, matrices and adapters are decayed, norm weights and biases are not, as HF's
//! `Trainer` has it.

use parlor_model::{Decoder, Factor, Kind, ParameterSpec, Role};
use regex::Regex;

use crate::config::{Hyperparameters, Problem, TrainingConfig};

/// Rates of one parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rates {
    /// Learning rate at the peak of the schedule.
    pub(crate) learning_rate: f64,
    /// Weight decay.
    pub(crate) weight_decay: f64,
}

/// The rates of every parameter, in the decoder's order, frozen ones included.
///
/// # Errors
/// A group that no trained parameter belongs to.
pub(crate) fn rates(
    training: &TrainingConfig,
    hyper: &Hyperparameters,
    decoder: &Decoder,
) -> Result<Vec<Rates>, Problem> {
    // Invalid patterns were refused with the config.
    let patterns: Vec<Option<Regex>> =
        training.param_groups.iter().map(|group| Regex::new(&group.pattern).ok()).collect();
    let mut used = vec![false; patterns.len()];
    let mut rates = Vec::with_capacity(decoder.parameters().len());
    for (id, parameter) in decoder.parameters().iter().enumerate() {
        let spec = &parameter.spec;
        let name = spec.role.to_string();
        let mut own = usual(training, hyper, spec);
        let fits = |pattern: &Option<Regex>| pattern.as_ref().is_some_and(|pattern| pattern.is_match(&name));
        if let Some(index) = patterns.iter().position(fits) {
            let group = &training.param_groups[index];
            own.learning_rate = group.learning_rate.unwrap_or(own.learning_rate);
            own.weight_decay = group.weight_decay.unwrap_or(own.weight_decay);
            used[index] |= decoder.is_trained(id);
        }
        rates.push(own);
    }
    match used.iter().position(|used| !used) {
        None => Ok(rates),
        Some(index) => Err(Problem {
            key: format!("training.param_groups.{index}.pattern"),
            message: format!(
                "no trained parameter is left for `{}`; their names are such as {}",
                training.param_groups[index].pattern,
                examples(decoder).join(", ")
            ),
        }),
    }
}

fn usual(training: &TrainingConfig, hyper: &Hyperparameters, spec: &ParameterSpec) -> Rates {
    let ratio = match (training.adapter().and_then(|adapter| adapter.loraplus_lr_ratio), spec.role) {
        (Some(ratio), Role::LowRank { factor: Factor::B, .. }) => ratio,
        (Some(ratio), _) if spec.shape.len() == 1 => ratio,
        _ => 1.0,
    };
    let weight_decay = match spec.kind {
        Kind::Matrix | Kind::LowRank => hyper.weight_decay,
        Kind::NormWeight | Kind::Bias => 0.0,
    };
    Rates { learning_rate: hyper.learning_rate * ratio, weight_decay }
}

/// A few names of trained parameters, of different kinds.
fn examples(decoder: &Decoder) -> Vec<String> {
    let trained = decoder.parameters().iter().enumerate().filter(|(id, _)| decoder.is_trained(*id));
    let names: Vec<String> = trained.map(|(_, parameter)| format!("`{}`", parameter.spec.role)).collect();
    let step = names.len().div_ceil(6).max(1);
    names.into_iter().step_by(step).collect()
}
