//! All-reduce of gradients, overlapped with the backward pass: a block's gradients enter a bucket once they
//! are complete, and a separate thread sums full buckets (Li et al., 2020: PyTorch DDP).

use std::sync::mpsc::{Receiver, Sender, channel};

use parlor_kernels::Values;
use parlor_model::{Decoder, Gradients, ParameterId, Role};

use super::Collective;

/// Elements of a bucket: DDP's 25 MB.
const BUCKET: usize = 25 * 1024 * 1024 / 4;

/// Gradients that are moved out until they are summed.
type Bucket = Vec<(ParameterId, Values)>;

/// Collects gradients in buckets, and sends full buckets to be summed.
pub(crate) struct GradientBuckets {
    /// Parameters by block; those outside the blocks are sent last.
    by_block: Vec<Vec<ParameterId>>,
    open: Bucket,
    elements: usize,
    full: Sender<Bucket>,
}

impl GradientBuckets {
    /// Buckets for parameters with these roles, and the receiver of full ones.
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

    /// Adds the complete gradients of a block.
    pub(crate) fn block(&mut self, layer: usize, gradients: &mut Gradients) {
        for id in self.by_block.get(layer).cloned().unwrap_or_default() {
            self.add(id, gradients);
        }
    }

    /// Sends all remaining gradients.
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
        // Fails only when the receiving thread panicked, which ends the step too.
        let _ = self.full.send(std::mem::take(&mut self.open));
    }
}

/// Runs `backward`, and sums over the ranks the gradients that it puts into buckets, then all others.
pub(crate) fn sum_overlapped<T>(
    collective: &dyn Collective,
    decoder: &Decoder,
    gradients: &mut Gradients,
    backward: impl FnOnce(&mut Gradients, &mut GradientBuckets) -> T,
) -> T {
    let (mut buckets, arriving) =
        GradientBuckets::new(decoder.parameters().iter().map(|parameter| parameter.spec.role));
    std::thread::scope(|scope| {
        let summing = scope.spawn(move || sum_arriving(collective, &arriving));
        let result = backward(gradients, &mut buckets);
        buckets.rest(gradients);
        match summing.join() {
            Ok(buckets) => buckets.into_iter().flatten().for_each(|(id, values)| gradients.put(id, values)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
        result
    })
}

/// Sums arriving buckets until the sender is done.
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
