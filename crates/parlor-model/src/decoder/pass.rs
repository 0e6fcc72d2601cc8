//! Which parameters a pass uses for which rows: the model's, and those of the adapters that the batch's
//! segments choose.

use std::ops::Range;

use parlor_kernels::lora::Dropout;
use parlor_kernels::{Arithmetic, View};

use super::adapter::{Adapter, AdapterId, LowRank};
use super::batch::{AdapterChoice, Batch};
use super::error::DecoderError;
use super::layers::LinearLayer;
use super::network::Decoder;
use super::parameters::ParameterId;

/// A pass over one batch.
pub(crate) struct Pass<'a> {
    pub(crate) decoder: &'a Decoder,
    /// Ranges of rows, in order, each with the adapter that applies to it.
    spans: Vec<(Range<usize>, &'a Adapter)>,
    /// The adapter that replaces parameters of the model, for all rows.
    replacing: Option<&'a Adapter>,
    /// Seed of the adapters' dropout and of noise; none outside training.
    pub(crate) seed: Option<u64>,
    /// Precision of the products of linear layers and the head.
    pub(crate) arithmetic: Arithmetic,
}

impl<'a> Pass<'a> {
    /// Resolves the segments' choices.
    ///
    /// # Errors
    /// When a segment chooses an adapter that is not attached, or adapters that cannot share a batch meet in
    /// it.
    pub(crate) fn new(
        decoder: &'a Decoder,
        batch: &Batch,
        seed: Option<u64>,
        arithmetic: Arithmetic,
    ) -> Result<Self, DecoderError> {
        let mut pass = Self { decoder, spans: Vec::new(), replacing: None, seed, arithmetic };
        if decoder.adapters.is_empty() {
            return match batch.segments.iter().any(|s| matches!(s.adapter, AdapterChoice::Adapter(_))) {
                true => {
                    Err(DecoderError::Batch("a segment chooses an adapter, but none is attached".to_owned()))
                }
                false => Ok(pass),
            };
        }
        let mut last: Option<AdapterId> = None;
        let mut uniform: Option<Option<AdapterId>> = None;
        for segment in &batch.segments {
            let chosen = match segment.adapter {
                AdapterChoice::Active => decoder.active,
                AdapterChoice::Base => None,
                AdapterChoice::Adapter(id) => Some(id),
            };
            if let Some(id) = chosen {
                let attached = decoder.adapters.len();
                let adapter = decoder.adapters.get(id).ok_or_else(|| {
                    DecoderError::Batch(format!(
                        "a segment chooses adapter {id}, but {attached} are attached"
                    ))
                })?;
                match pass
                    .spans
                    .last_mut()
                    .filter(|(rows, _)| last == chosen && rows.end == segment.rows.start)
                {
                    Some((rows, _)) => rows.end = segment.rows.end,
                    None => pass.spans.push((segment.rows.clone(), adapter)),
                }
            }
            last = chosen;
            if uniform.is_some_and(|first| first != chosen)
                && [uniform.flatten(), chosen]
                    .iter()
                    .flatten()
                    .any(|&id| decoder.adapters[id].replaces_parameters())
            {
                return Err(DecoderError::Batch(
                    "an adapter with parameters of its own (`modules_to_save`, `bias`) cannot share a batch with others"
                        .to_owned(),
                ));
            }
            uniform = Some(chosen);
        }
        pass.replacing =
            pass.spans.first().map(|(_, adapter)| *adapter).filter(|adapter| adapter.replaces_parameters());
        Ok(pass)
    }

    /// The parameter that is used for parameter `id` of the model: the same, or the adapter's replacement.
    pub(crate) fn resolve(&self, id: ParameterId) -> ParameterId {
        self.replacing.and_then(|adapter| adapter.resolved.get(id)).copied().unwrap_or(id)
    }

    /// The output head that is used.
    pub(crate) fn head(&self) -> ParameterId {
        self.replacing.map_or(self.decoder.head, |adapter| adapter.head)
    }

    /// A matrix.
    pub(crate) fn weight(&self, id: ParameterId) -> View<'a> {
        self.decoder.weight(self.resolve(id))
    }

    /// A norm weight or a bias.
    pub(crate) fn vector(&self, id: ParameterId) -> &'a [f32] {
        self.decoder.vector(self.resolve(id))
    }

    /// The low-rank updates of `linear`, with the rows that each applies to.
    pub(crate) fn low_rank(&self, linear: &LinearLayer) -> impl Iterator<Item = (Range<usize>, &'a LowRank)> {
        let (layer, site) = (linear.layer, linear.site);
        self.spans
            .iter()
            .filter_map(move |(rows, adapter)| Some((rows.clone(), adapter.low_rank(layer, site)?)))
    }

    /// The dropout of an adapter's input for the rows that start at `row`.
    pub(crate) fn dropout(&self, update: &LowRank, row: usize) -> Option<Dropout> {
        let seed = self.seed.filter(|_| update.dropout > 0.0)?;
        // Layers of one module share its input and so its mask.
        let mask = (update.a as u64) << 32 | row as u64;
        Some(Dropout { probability: update.dropout, seed: seed ^ mask.wrapping_mul(0xd129_0d3b_3fd2_8a05) })
    }
}
