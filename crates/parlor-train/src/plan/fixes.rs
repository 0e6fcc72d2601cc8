//! Changes of the config that make a run fit into memory, cheapest first.
//!
//! The cheapest change is the one that changes least: smaller passes compute the same; recomputed activations
//! too, in more time; 8-bit moments are nearly the same; an adapter instead of every weight is another
//! training.

use std::num::NonZeroUsize;

use parlor_model::{Checkpointing, Decoder};

use super::memory::{MemoryModel, PassSizes};
use crate::config::{DpoLoss, GradientCheckpointing, OptimizerName, TrainingType};
use crate::data::Examples;
use crate::forecast::{Change, Fix};
use crate::steps::StepPlan;

/// Most fixes that are proposed.
const PROPOSED: usize = 3;

/// A combination of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FixChoice {
    /// Divides the batch size and multiplies the accumulation.
    divisor: usize,
    recompute: bool,
    eight_bit: bool,
    adapter: bool,
}

impl FixChoice {
    /// Distance from the requested config, as a weight to sort by.
    fn distance(self) -> u32 {
        let part = |on: bool, cost: u32| if on { cost } else { 0 };
        part(self.divisor > 1, 8 + self.divisor.ilog2())
            + part(self.recompute, 20)
            + part(self.eight_bit, 40)
            + part(self.adapter, 100)
    }

    /// Whether it changes everything that `other` changes.
    fn contains(self, other: Self) -> bool {
        (self.divisor > 1 || other.divisor == 1)
            && (self.recompute || !other.recompute)
            && (self.eight_bit || !other.eight_bit)
            && (self.adapter || !other.adapter)
    }
}

/// The search for fixes of a run that does not fit.
pub(crate) struct FixSearch<'a> {
    pub(crate) memory_model: MemoryModel<'a>,
    pub(crate) examples: &'a Examples,
    /// The decoder with an adapter, where training one instead of every weight is possible.
    pub(crate) with_adapter: Option<Decoder>,
}

impl FixSearch<'_> {
    /// The changes that make the run fit, cheapest first; empty when no such change is known.
    pub(crate) fn fixes(&self) -> Vec<Fix> {
        let mut choices = self.choices();
        choices.sort_by_key(|choice| choice.distance());
        let mut found: Vec<(FixChoice, Fix)> = Vec::new();
        let mut sizes: Vec<(usize, PassSizes)> = Vec::new();
        for choice in choices {
            if found.len() == PROPOSED {
                break;
            }
            if found.iter().any(|(known, _)| choice.contains(*known)) {
                continue;
            }
            let fix = self.fix(choice, &mut sizes);
            if fix.memory.fits_with_margin() {
                found.push((choice, fix));
            }
        }
        found.into_iter().map(|(_, fix)| fix).collect()
    }

    fn choices(&self) -> Vec<FixChoice> {
        let MemoryModel { training, plan, .. } = self.memory_model;
        let mut divisors = vec![1];
        // KTO pairs completions with other prompts within a pass, so its passes keep their size.
        let fixed = training.training_type == TrainingType::Dpo && training.dpo.loss_type == DpoLoss::Kto;
        while !fixed && divisors.last().is_some_and(|last| plan.batch_size / last > 1) {
            divisors.extend(divisors.last().map(|last| last * 2));
        }
        let recompute = training.gradient_checkpointing.0 != every_block();
        let eight_bit = training.optimizer == OptimizerName::AdamwTorch;
        let either = |possible: bool| if possible { vec![false, true] } else { vec![false] };
        let mut choices = Vec::new();
        for &divisor in &divisors {
            for &recompute in &either(recompute) {
                for &eight_bit in &either(eight_bit) {
                    for &adapter in &either(self.with_adapter.is_some()) {
                        choices.push(FixChoice { divisor, recompute, eight_bit, adapter });
                    }
                }
            }
        }
        choices
    }

    fn fix(&self, choice: FixChoice, sizes: &mut Vec<(usize, PassSizes)>) -> Fix {
        let MemoryModel { training, hyper, plan, .. } = self.memory_model;
        let section = format!("training.{}", training.training_type);
        let (mut changes, mut costs) = (Vec::new(), Vec::new());
        let mut change = |key: String, value: String| changes.push(Change { key, value });
        let (mut training, mut hyper) = (training.clone(), hyper.clone());
        if choice.divisor > 1 {
            hyper.per_device_train_batch_size = plan.batch_size.div_ceil(choice.divisor);
            hyper.gradient_accumulation_steps = plan.accumulation * choice.divisor;
            hyper.per_device_eval_batch_size =
                hyper.per_device_eval_batch_size.min(hyper.per_device_train_batch_size);
            for (key, value) in [
                ("per_device_train_batch_size", hyper.per_device_train_batch_size),
                ("gradient_accumulation_steps", hyper.gradient_accumulation_steps),
                ("per_device_eval_batch_size", hyper.per_device_eval_batch_size),
            ] {
                change(format!("{section}.{key}"), value.to_string());
            }
            costs.push("the same result, in more and smaller passes");
        }
        if choice.recompute {
            training.gradient_checkpointing = GradientCheckpointing(every_block());
            change("training.gradient_checkpointing".to_owned(), "full".to_owned());
            costs.push("the same result, in about a third more time");
        }
        if choice.eight_bit {
            training.optimizer = OptimizerName::Adamw8bit;
            change("training.optimizer".to_owned(), "adamw_8bit".to_owned());
            costs.push("moments in 8 bits: nearly the same result");
        }
        let mut decoder = self.memory_model.decoder;
        if choice.adapter
            && let Some(with_adapter) = &self.with_adapter
        {
            decoder = with_adapter;
            training.lora.enabled = true;
            change("training.lora.enabled".to_owned(), "true".to_owned());
            costs.push("an adapter is trained instead of every weight");
        }
        let batch_size = hyper.per_device_train_batch_size;
        let plan = StepPlan::new(plan.examples, &hyper, plan.world_size);
        let passes = match sizes.iter().find(|(size, _)| *size == batch_size) {
            Some((_, passes)) => *passes,
            None => {
                let passes = PassSizes::of(self.examples, &plan, &hyper, training.seed);
                sizes.push((batch_size, passes));
                passes
            }
        };
        let memory_model = MemoryModel {
            decoder,
            training: &training,
            hyper: &hyper,
            plan: &plan,
            passes,
            ..self.memory_model
        };
        Fix { changes, memory: memory_model.memory(), costs }
    }
}

fn every_block() -> Checkpointing {
    Checkpointing::Every(NonZeroUsize::MIN)
}
