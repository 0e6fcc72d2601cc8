//! Partition of the optimizer state over the ranks: the largest parameters first, each to the rank with the
//! smallest load.

use parlor_model::{Decoder, ParameterId};

/// The owner of each trained parameter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shards {
    owners: Vec<usize>,
    rank: usize,
}

impl Shards {
    /// The partition for `decoder`, as seen by `rank` of `world_size`.
    pub fn new(decoder: &Decoder, rank: usize, world_size: usize) -> Self {
        let mut ids: Vec<ParameterId> =
            (0..decoder.parameters().len()).filter(|&id| decoder.is_trained(id)).collect();
        let size = |id: ParameterId| decoder.parameters()[id].spec.len();
        // A stable order, so that every rank finds the same owners.
        ids.sort_by_key(|&id| std::cmp::Reverse(size(id)));
        let mut owners = vec![0; decoder.parameters().len()];
        let mut loads = vec![0; world_size.max(1)];
        for id in ids {
            let least = (0..loads.len()).min_by_key(|&rank| loads[rank]).unwrap_or(0);
            loads[least] += size(id);
            owners[id] = least;
        }
        Self { owners, rank }
    }

    /// The rank that keeps the state of parameter `id`.
    pub fn owner(&self, id: ParameterId) -> usize {
        self.owners.get(id).copied().unwrap_or(0)
    }

    /// Whether this rank keeps the state of parameter `id`.
    pub fn is_own(&self, id: ParameterId) -> bool {
        self.owner(id) == self.rank
    }
}
