//! The one forward pass, for training and serving: ids to the residual stream, and from chosen rows of it to
//! log-probabilities or logits.
//!
//! Source: `LlamaModel.forward` and `GPT2Model.forward` in transformers, whose order of operations it follows.

use parlor_kernels::{Write, cross_entropy, embedding, linear, random};

use super::activation_memory::{PassKind, PassSize};
use super::batch::{Batch, Context};
use super::block;
use super::block_context::BlockContext;
use super::cache::KvCache;
use super::error::DecoderError;
use super::network::Decoder;
use super::norm;
use super::options::{Checkpointing, PassOptions};
use super::pass::Pass;
use super::targets::Targets;
use super::workspace::{BlockActivations, CompletedForward, Workspace, resized};

/// Which blocks' activations a forward pass keeps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Retain {
    /// Every block's, for a backward pass.
    All,
    /// One block's buffers serve all; no backward pass follows.
    None,
    /// One block's buffers serve all, and the residual stream before every so many blocks is kept for a
    /// backward pass.
    GroupInputs(usize),
}

/// A forward pass over one batch.
struct Run<'a> {
    pass: &'a Pass<'a>,
    batch: &'a Batch,
    retain: Retain,
}

impl Retain {
    fn of(backward: Option<Checkpointing>) -> Self {
        match backward {
            None => Retain::None,
            Some(checkpointing) => checkpointing.group().map_or(Retain::All, Retain::GroupInputs),
        }
    }
}

impl Decoder {
    /// Log-probability of `targets.ids[t]` at each row `t` with a weight, `[tokens]`; 0 at the others. Fills
    /// `workspace` for [`Self::backward`].
    ///
    /// # Errors
    /// [`DecoderError::Batch`] when the batch or the targets do not fit this decoder,
    /// [`DecoderError::OutOfMemory`] when the activations do not fit in memory.
    pub fn logprobs(
        &self,
        batch: &Batch,
        targets: &Targets,
        options: &PassOptions,
        workspace: &mut Workspace,
    ) -> Result<Vec<f32>, DecoderError> {
        let pass = Pass::new(self, batch, options.seed, workspace.arithmetic)?;
        let run = Run { pass: &pass, batch, retain: Retain::of(Some(options.checkpointing)) };
        self.reserve(batch, targets, Some(options.checkpointing), workspace)?;
        self.run(&run, options.neftune_noise_alpha, None, workspace)?;
        let logp = self.target_logprobs(&run, targets, workspace);
        workspace.completed = Some(CompletedForward { tokens: batch.len(), options: *options });
        Ok(logp)
    }

    /// The same log-probabilities in the memory of one block: no backward pass can follow.
    ///
    /// # Errors
    /// Those of [`Self::logprobs`].
    pub fn evaluate(
        &self,
        batch: &Batch,
        targets: &Targets,
        workspace: &mut Workspace,
    ) -> Result<Vec<f32>, DecoderError> {
        let pass = Pass::new(self, batch, None, workspace.arithmetic)?;
        let run = Run { pass: &pass, batch, retain: Retain::None };
        self.reserve(batch, targets, None, workspace)?;
        self.run(&run, 0.0, None, workspace)?;
        Ok(self.target_logprobs(&run, targets, workspace))
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
        workspace: &mut Workspace,
    ) -> Result<Vec<f32>, DecoderError> {
        if let Some(row) = rows.iter().find(|&&row| row >= batch.len()) {
            return Err(DecoderError::Batch(format!(
                "logits of row {row} are asked for, but the batch has {} tokens",
                batch.len()
            )));
        }
        let pass = Pass::new(self, batch, None, workspace.arithmetic)?;
        let run = Run { pass: &pass, batch, retain: Retain::None };
        self.run(&run, 0.0, cache, workspace)?;
        self.select_rows(&pass, rows.iter().copied(), workspace);
        let mut logits = vec![0.0; rows.len() * self.config.vocab_size];
        let shape = linear::Shape {
            rows: rows.len(),
            inputs: self.config.hidden_size,
            outputs: self.config.vocab_size,
            arithmetic: workspace.arithmetic,
        };
        let head = self.weight(pass.head());
        linear::forward(&workspace.head.normed, head, None, &mut logits, Write::Replace, shape);
        Ok(logits)
    }

    /// Checks the targets, and reserves the memory of a pass.
    fn reserve(
        &self,
        batch: &Batch,
        targets: &Targets,
        backward: Option<Checkpointing>,
        workspace: &mut Workspace,
    ) -> Result<(), DecoderError> {
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
        let kind = PassKind::of(self, workspace.arithmetic, backward);
        workspace.reserve(&self.config, kind, PassSize { tokens: batch.len(), rows })
    }

    /// Log-probabilities of the targets, from the residual stream in `workspace`.
    fn target_logprobs(&self, run: &Run<'_>, targets: &Targets, workspace: &mut Workspace) -> Vec<f32> {
        let (pass, tokens) = (run.pass, run.batch.len());
        self.select_rows(pass, (0..tokens).filter(|&row| targets.weights[row] != 0.0), workspace);
        let head = &mut workspace.head;
        head.targets.clear();
        head.targets.extend(head.rows.iter().map(|&row| targets.ids[row]));
        let mut chosen = vec![0.0; head.rows.len()];
        let lse = resized(&mut head.lse, chosen.len());
        let rows = (&head.normed[..], &head.targets[..]);
        // A frozen head needs no logits in the backward pass, only this.
        let head_gradient = match run.retain != Retain::None && !self.is_trained(pass.head()) {
            true => Some(resized(&mut head.head_gradient, head.normed.len())),
            false => {
                head.head_gradient.clear();
                None
            }
        };
        let output_head = self.output_head(pass);
        cross_entropy::forward(output_head, rows, (&mut chosen, lse), &mut head.logits, head_gradient);
        let mut logp = vec![0.0; tokens];
        for (&row, value) in head.rows.iter().zip(chosen) {
            logp[row] = value;
        }
        logp
    }

    /// Gathers rows of the residual stream and normalises them for the head.
    fn select_rows(&self, pass: &Pass<'_>, rows: impl Iterator<Item = usize>, workspace: &mut Workspace) {
        let (width, head) = (self.config.hidden_size, &mut workspace.head);
        head.rows.clear();
        head.rows.extend(rows);
        head.x.clear();
        for &row in &head.rows {
            head.x.extend_from_slice(&workspace.stream[row * width..(row + 1) * width]);
        }
        let normed = resized(&mut head.normed, head.x.len());
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

    /// All blocks over the batch; leaves the residual stream in `workspace.stream`.
    fn run(
        &self,
        run: &Run<'_>,
        neftune_noise_alpha: f32,
        mut cache: Option<&mut KvCache>,
        workspace: &mut Workspace,
    ) -> Result<(), DecoderError> {
        let Run { pass, batch, retain } = *run;
        workspace.completed = None;
        self.check(batch, cache.as_deref())?;
        let Workspace { angles, stream, blocks, scratch, group_inputs, .. } = workspace;
        self.embed(run, neftune_noise_alpha, stream);
        angles.resize_with(self.rope_tables.len(), Default::default);
        for (angles, frequencies) in angles.iter_mut().zip(&self.rope_tables) {
            angles.fill(&batch.positions, frequencies);
        }
        let kept = if retain == Retain::All { self.blocks.len() } else { 1 };
        blocks.resize_with(kept.max(blocks.len()), BlockActivations::default);
        for layer in 0..self.blocks.len() {
            let activations = &mut blocks[if retain == Retain::All { layer } else { 0 }];
            if let Retain::GroupInputs(group) = retain
                && layer.is_multiple_of(group)
            {
                group_inputs.resize_with(group_inputs.len().max(layer / group + 1), Vec::new);
                resized(&mut group_inputs[layer / group], stream.len()).copy_from_slice(stream);
            }
            let context = BlockContext { pass, batch, angles, layer, cache: cache.as_deref() };
            block::forward(&context, activations, scratch, stream);
            if let Some(cache) = cache.as_deref_mut() {
                cache
                    .append_layer(batch, layer, &activations.k, &activations.v)
                    .map_err(|error| DecoderError::Batch(error.to_string()))?;
            }
        }
        if let Some(cache) = cache {
            cache.advance(batch);
        }
        Ok(())
    }

    /// The embeddings of the batch's tokens, with learned positions and NEFTune's noise where there are some.
    fn embed(&self, run: &Run<'_>, neftune_noise_alpha: f32, stream: &mut Vec<f32>) {
        let (pass, batch, width) = (run.pass, run.batch, self.config.hidden_size);
        let out = resized(stream, batch.len() * width);
        embedding::forward(pass.weight(self.embedding), &batch.ids, width, out, Write::Replace);
        if let Some(positions) = self.positions {
            embedding::forward(pass.weight(positions), &batch.positions, width, stream, Write::Accumulate);
        }
        let Some(seed) = pass.seed.filter(|_| neftune_noise_alpha > 0.0) else { return };
        for segment in &batch.segments {
            let parent =
                if let Context::Parent(of) = segment.context { batch.segments[of].rows.len() } else { 0 };
            let elements = (parent + segment.rows.len()) * width;
            let rows = segment.rows.start * width..segment.rows.end * width;
            let magnitude = neftune_noise_alpha / (elements as f32).sqrt();
            random::add_uniform_noise(
                &mut stream[rows.clone()],
                magnitude,
                seed.wrapping_add(rows.start as u64),
            );
        }
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
