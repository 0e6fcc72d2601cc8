//! Summing gradients over the ranks while the backward pass goes on: as soon as a block's gradients are complete they are
//! gathered in a bucket, and a full bucket is summed by a thread of its own (Li et al., 2020: PyTorch DDP).

use std::sync::mpsc::{Receiver, Sender, channel};

use parlor_kernels::Values;
use parlor_model::{Decoder, Gradients, ParameterId, Role};

use super::Collective;

/// Elements of a bucket: DDP's 25 MB.
const BUCKET: usize = 25 * 1024 * 1024 / 4;

/// Gradients on their way: taken from where they belong, and put back when they are summed.
type Bucket = Vec<(ParameterId, Values)>;

/// The sending side of a step's sums.
pub(crate) struct Overlap {
    /// Parameters by block; those of none come last.
    by_block: Vec<Vec<ParameterId>>,
    open: Bucket,
    elements: usize,
    full: Sender<Bucket>,
}

impl Overlap {
    /// One for gradients of parameters with these roles, and where its buckets arrive.
    fn new(roles: impl Iterator<Item = Role>) -> (Self, Receiver<Bucket>) {
        let mut by_block: Vec<Vec<ParameterId>> = Vec::new();
        for (id, role) in roles.enumerate() {
            if let Role::Block { layer, .. } | Role::LowRank { layer, .. } = role {
                by_block.resize_with(by_block.len().max(layer + 1), Vec::new);
                by_block[layer].push(id);
            }
        }
        let (full, arriving) = channel();
        (Self { by_block, open: Bucket::new(), elements: 0, full }, arriving)
    }

    /// Sends the gradients of a block, which are complete.
    pub(crate) fn block(&mut self, layer: usize, gradients: &mut Gradients) {
        for id in self.by_block.get(layer).cloned().unwrap_or_default() {
            self.add(id, gradients);
        }
    }

    /// Sends all that is left.
    fn rest(mut self, gradients: &mut Gradients) {
        for id in 0..gradients.len() {
            self.add(id, gradients);
        }
        self.send();
    }

    fn add(&mut self, id: ParameterId, gradients: &mut Gradients) {
        let Some(values) = gradients.take(id) else { return };
        self.elements += values.len();
        self.open.push((id, values));
        if self.elements >= BUCKET {
            self.send();
        }
    }

    fn send(&mut self) {
        self.elements = 0;
        // The receiver outlives this, unless its thread panicked, which ends the step too.
        let _ = self.full.send(std::mem::take(&mut self.open));
    }
}

/// Runs `work`, and sums over the ranks the gradients that it hands over, and after it all others.
pub(crate) fn summed<T>(
    collective: &dyn Collective,
    decoder: &Decoder,
    gradients: &mut Gradients,
    work: impl FnOnce(&mut Gradients, &mut Overlap) -> T,
) -> T {
    let (mut overlap, arriving) =
        Overlap::new(decoder.parameters().iter().map(|parameter| parameter.spec.role));
    std::thread::scope(|scope| {
        let summing = scope.spawn(move || sum_arriving(collective, &arriving));
        let result = work(gradients, &mut overlap);
        overlap.rest(gradients);
        match summing.join() {
            Ok(buckets) => buckets.into_iter().flatten().for_each(|(id, values)| gradients.put(id, values)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
        result
    })
}

/// Sums what arrives, a bucket at a time, until the sender is done.
fn sum_arriving(collective: &dyn Collective, arriving: &Receiver<Bucket>) -> Vec<Bucket> {
    let mut flat = Vec::new();
    let mut done = Vec::new();
    for mut bucket in arriving {
        flat.clear();
        bucket.iter().for_each(|(_, values)| flat.extend_from_slice(&values.view().widened()));
        collective.sum_f32(&mut flat);
        let mut rest = &flat[..];
        for (_, values) in &mut bucket {
            let (own, after) = rest.split_at(values.len());
            values.view_mut().set(own);
            rest = after;
        }
        done.push(bucket);
    }
    done
}
