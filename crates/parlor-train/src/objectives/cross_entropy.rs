//! Weighted cross-entropy on the next token: the objective of `from_scratch`, `sft` and `lora`, which differ
//! in the weights that their examples carry.

use parlor_model::{Batch, PassSize, Targets};

use crate::objective::{Loss, LossKind, MicroBatch, Objective};
use crate::tokens::{Sequence, fingerprint};

/// `-sum(weight * logp)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct CrossEntropy;

impl Objective for CrossEntropy {
    type Example = Sequence;
    type Side = ();

    const KIND: LossKind = LossKind::PerToken;

    fn collate(&self, examples: &[&Sequence], _step: &[&Sequence]) -> MicroBatch<()> {
        let batch = Batch::of_sequences(examples.iter().map(|example| example.ids()));
        let weights: Vec<f32> = examples.iter().flat_map(|example| example.weights()).collect();
        let targets = Targets::next_token(&batch, &weights);
        let rows = batch.segments.iter().map(|segment| segment.rows.clone()).collect();
        MicroBatch { batch, targets, rows, side: () }
    }

    fn loss(&self, micro: &MicroBatch<()>, logp: &[f32]) -> Loss {
        let mut loss = Loss { d_logp: Vec::with_capacity(logp.len()), ..Loss::default() };
        for (&logp, &weight) in logp.iter().zip(&micro.targets.weights) {
            // A row without a target must not turn an infinity elsewhere into NaN here.
            if weight != 0.0 {
                loss.sum -= f64::from(weight) * f64::from(logp);
                loss.weight += f64::from(weight);
            }
            loss.d_logp.push(-weight);
        }
        loss
    }

    fn size(&self, examples: &[&Sequence]) -> PassSize {
        PassSize {
            tokens: examples.iter().map(|example| example.tokens()).sum(),
            rows: examples.iter().map(|example| example.targets()).sum(),
        }
    }

    fn source(&self, example: &Sequence) -> String {
        example.source().to_string()
    }

    fn fingerprint(&self, example: &Sequence, add: &mut dyn FnMut(&[u8])) {
        add(&fingerprint(example.ids(), &example.weights()));
    }
}
