//! The one forward pass, for training and serving: ids to the residual stream, and from chosen rows of it to
//! log-probabilities or logits.
//!
//! Source: `LlamaModel.forward` and `GPT2Model.forward` in transformers, whose order of operations it follows.

use parlor_kernels::{Write, cross_entropy, embedding, linear, random};

use crate::batch::{Batch, Context};
use crate::block::BlockContext;
use crate::cache::KvCache;
use crate::decoder::{Decoder, DecoderError};
use crate::footprint::{PassKind, PassSize};
use crate::norm;
use crate::pass::Pass;
use crate::saved::{BlockSaved, Ready, Saved, room};
use crate::targets::Targets;

/// Whether a backward pass will follow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// Every block's activations are kept.
    All,
    /// One block's buffers serve all; no backward follows.
    One,
    /// The same, and the residual stream before every so many blocks.
    Inputs(usize),
}

impl Decoder {
    /// Log-probability of `targets.ids[t]` at each row `t` with a weight; 0 at the others. Fills `saved` for
    /// [`Self::backward`].
    ///
    /// # Errors
    /// [`DecoderError::Batch`] when the batch or the targets do not fit this decoder.
    pub fn logprobs(
        &self,
        batch: &Batch,
        targets: &Targets,
        saved: &mut Saved,
    ) -> Result<Vec<f32>, DecoderError> {
        let pass = Pass::new(self, batch, saved.seed, saved.arithmetic)?;
        let checkpointing = saved.checkpointing;
        let keep = checkpointing.group().map_or(Keep::All, Keep::Inputs);
        let logp = self.target_logprobs(&pass, batch, targets, saved, keep)?;
        saved.ready = Some(Ready { tokens: batch.len(), checkpointing });
        Ok(logp)
    }

    /// As [`Self::logprobs`], in the memory of one block: no backward can follow.
    ///
    /// # Errors
    /// [`DecoderError::Batch`] when the batch or the targets do not fit this decoder.
    pub fn evaluate(
        &self,
        batch: &Batch,
        targets: &Targets,
        saved: &mut Saved,
    ) -> Result<Vec<f32>, DecoderError> {
        let pass = Pass::new(self, batch, None, saved.arithmetic)?;
        self.target_logprobs(&pass, batch, targets, saved, Keep::One)
    }

    /// Logits of the given rows of the batch, `[rows.len(), vocab]`. Segments with [`Context::Cache`] see that
    /// sequence of `cache` and are appended to it.
    ///
    /// # Errors
    /// [`DecoderError::Batch`] when the batch, the rows or the cache do not fit this decoder.
    pub fn logits(
        &self,
        batch: &Batch,
        rows: &[usize],
        cache: Option<&mut KvCache>,
        saved: &mut Saved,
    ) -> Result<Vec<f32>, DecoderError> {
        if let Some(row) = rows.iter().find(|&&row| row >= batch.len()) {
            return Err(DecoderError::Batch(format!(
                "logits of row {row} are asked for, but the batch has {} tokens",
                batch.len()
            )));
        }
        let pass = Pass::new(self, batch, None, saved.arithmetic)?;
        self.run(&pass, batch, cache, saved, Keep::One)?;
        self.select_rows(&pass, rows.iter().copied(), saved);
        let mut logits = vec![0.0; rows.len() * self.config.vocab_size];
        let shape = linear::Shape {
            rows: rows.len(),
            inputs: self.config.hidden_size,
            outputs: self.config.vocab_size,
            arithmetic: saved.arithmetic,
        };
        linear::forward(
            &saved.head.normed,
            self.weight(pass.head()),
            None,
            &mut logits,
            Write::Replace,
            shape,
        );
        Ok(logits)
    }

    fn target_logprobs(
        &self,
        pass: &Pass<'_>,
        batch: &Batch,
        targets: &Targets,
        saved: &mut Saved,
        keep: Keep,
    ) -> Result<Vec<f32>, DecoderError> {
        if targets.ids.len() != batch.len() || targets.weights.len() != batch.len() {
            return Err(DecoderError::Batch(format!(
                "{} targets and {} weights are given for {} tokens",
                targets.ids.len(),
                targets.weights.len(),
                batch.len()
            )));
        }
        check_ids(&targets.ids, self.config.vocab_size, "target")?;
        let rows = targets.weights.iter().filter(|&&weight| weight != 0.0).count();
        let backward = (keep != Keep::One).then_some(saved.checkpointing);
        let kind = PassKind::of(self, saved.arithmetic, backward);
        saved.reserve(&self.config, kind, PassSize { tokens: batch.len(), rows })?;
        self.run(pass, batch, None, saved, keep)?;
        self.select_rows(pass, (0..batch.len()).filter(|&row| targets.weights[row] != 0.0), saved);
        let head = &mut saved.head;
        head.targets.clear();
        head.targets.extend(head.rows.iter().map(|&row| targets.ids[row]));
        let mut chosen = vec![0.0; head.rows.len()];
        let lse = room(&mut head.lse, chosen.len());
        let rows = (&head.normed[..], &head.targets[..]);
        let slope = match keep != Keep::One && !self.is_trained(pass.head()) {
            true => Some(room(&mut head.slope, head.normed.len())),
            false => {
                head.slope.clear();
                None
            }
        };
        cross_entropy::forward(self.output_head(pass), rows, (&mut chosen, lse), &mut head.logits, slope);
        let mut logp = vec![0.0; batch.len()];
        for (&row, value) in head.rows.iter().zip(chosen) {
            logp[row] = value;
        }
        Ok(logp)
    }

    /// Gathers rows of the residual stream and normalises them for the head.
    fn select_rows(&self, pass: &Pass<'_>, rows: impl Iterator<Item = usize>, saved: &mut Saved) {
        let (width, head) = (self.config.hidden_size, &mut saved.head);
        head.rows.clear();
        head.rows.extend(rows);
        head.x.clear();
        for &row in &head.rows {
            head.x.extend_from_slice(&saved.stream[row * width..(row + 1) * width]);
        }
        let normed = room(&mut head.normed, head.x.len());
        norm::forward(pass, self.final_norm, &head.x, normed.into(), &mut head.norm);
    }

    pub(crate) fn output_head(&self, pass: &Pass<'_>) -> cross_entropy::Head<'_> {
        cross_entropy::Head {
            weight: self.weight(pass.head()),
            vocab: self.config.vocab_size,
            hidden: self.config.hidden_size,
            arithmetic: pass.arithmetic,
        }
    }

    /// All blocks over the batch; leaves the residual stream in `saved.stream`.
    fn run(
        &self,
        pass: &Pass<'_>,
        batch: &Batch,
        mut cache: Option<&mut KvCache>,
        saved: &mut Saved,
        keep: Keep,
    ) -> Result<(), DecoderError> {
        saved.ready = None;
        self.check(batch, cache.as_deref())?;
        let Saved { angles, stream, blocks, scratch, inputs, neftune_noise_alpha, .. } = saved;
        let width = self.config.hidden_size;
        embedding::forward(
            pass.weight(self.embedding),
            &batch.ids,
            width,
            room(stream, batch.len() * width),
            Write::Replace,
        );
        if let Some(positions) = self.positions {
            embedding::forward(pass.weight(positions), &batch.positions, width, stream, Write::Accumulate);
        }
        if let Some(seed) = pass.seed.filter(|_| *neftune_noise_alpha > 0.0) {
            for segment in &batch.segments {
                let parent =
                    if let Context::Parent(of) = segment.context { batch.segments[of].rows.len() } else { 0 };
                let elements = (parent + segment.rows.len()) * width;
                let rows = segment.rows.start * width..segment.rows.end * width;
                let magnitude = *neftune_noise_alpha / (elements as f32).sqrt();
                random::add_uniform_noise(
                    &mut stream[rows.clone()],
                    magnitude,
                    seed.wrapping_add(rows.start as u64),
                );
            }
        }
        angles.fill(&batch.positions, &self.inv_freq);
        let kept = if keep == Keep::All { self.blocks.len() } else { 1 };
        blocks.resize_with(kept.max(blocks.len()), BlockSaved::default);
        for (layer, block) in self.blocks.iter().enumerate() {
            let kept = &mut blocks[if keep == Keep::All { layer } else { 0 }];
            if let Keep::Inputs(group) = keep
                && layer.is_multiple_of(group)
            {
                inputs.resize_with(inputs.len().max(layer / group + 1), Vec::new);
                room(&mut inputs[layer / group], stream.len()).copy_from_slice(stream);
            }
            let context = BlockContext { pass, batch, angles, layer, cache: cache.as_deref() };
            self.block(block, &context, kept, scratch, stream);
            if let Some(cache) = cache.as_deref_mut() {
                let width = self.config.key_value_size();
                for segment in &batch.segments {
                    if let Context::Cache(sequence) = segment.context {
                        let own = segment.rows.start * width..segment.rows.end * width;
                        cache
                            .append((sequence, layer), &kept.k[own.clone()], &kept.v[own])
                            .map_err(|error| DecoderError::Batch(error.to_string()))?;
                    }
                }
            }
        }
        if let Some(cache) = cache {
            for segment in &batch.segments {
                if let Context::Cache(sequence) = segment.context {
                    cache.advance(sequence, segment.rows.len());
                }
            }
        }
        Ok(())
    }

    fn check(&self, batch: &Batch, cache: Option<&KvCache>) -> Result<(), DecoderError> {
        let wrong = |message: String| Err(DecoderError::Batch(message));
        check_ids(&batch.ids, self.config.vocab_size, "token")?;
        if batch.positions.len() != batch.len() {
            return wrong(format!("{} positions for {} tokens", batch.positions.len(), batch.len()));
        }
        let mut next = 0;
        for (index, segment) in batch.segments.iter().enumerate() {
            if segment.rows.start != next || segment.rows.end <= next || segment.rows.end > batch.len() {
                return wrong(format!("segment {index} covers rows {:?}, expected {next}..", segment.rows));
            }
            next = segment.rows.end;
            let before = match segment.context {
                Context::None => Some(0),
                Context::Cache(sequence) => {
                    cache.filter(|cache| sequence < cache.sequences()).map(|cache| cache.len(sequence))
                }
                Context::Parent(parent) => {
                    batch.segments[..index].get(parent).map(|parent| parent.start + parent.rows.len())
                }
            };
            if before != Some(segment.start) {
                return wrong(format!(
                    "segment {index} starts at position {}, but {before:?} tokens precede it",
                    segment.start
                ));
            }
            let end = segment.start + segment.rows.len();
            if self.positions.is_some() && end > self.config.max_position_embeddings {
                return wrong(format!(
                    "a sequence of {end} tokens exceeds the model's {} learned positions; use at most that many",
                    self.config.max_position_embeddings
                ));
            }
        }
        if next != batch.len() {
            return wrong(format!("segments cover {next} of {} tokens", batch.len()));
        }
        Ok(())
    }
}

fn check_ids(ids: &[u32], vocab: usize, what: &str) -> Result<(), DecoderError> {
    match ids.iter().position(|&id| id as usize >= vocab) {
        Some(row) => Err(DecoderError::Batch(format!(
            "{what} id {} at row {row} is outside the model's vocabulary of {vocab}",
            ids[row]
        ))),
        None => Ok(()),
    }
}
