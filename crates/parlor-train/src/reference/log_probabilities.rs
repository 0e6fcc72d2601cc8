//! Log-probabilities of the reference model, computed once before the first step. Only they stay in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parlor_model::{AdapterChoice, Decoder, LoadedModel, Workspace};

use super::cache::{CacheFile, LogProbabilities, other_files};
use super::model::{ReferenceModel, ReferenceSetup, WEIGHTS};
use crate::data::{ExampleSet, Examples, TrainingData};
use crate::distributed::{Alone, Collective};
use crate::error::TrainError;
use crate::evaluation::{ForwardOptions, forward_passes};
use crate::event::{Flow, TrainEvent};
use crate::objective::Objective;
use parlor_files::atomic_dir;

/// Log-probabilities of one split, where they are on disk.
#[derive(Debug)]
struct CachedReference {
    file: CacheFile,
    found: Option<LogProbabilities>,
}

/// A reference whose log-probabilities are on disk, or which can compute them.
#[derive(Debug)]
pub(crate) struct Reference {
    /// None for the run's own decoder without its adapter.
    model: Option<Arc<LoadedModel>>,
    train: CachedReference,
    eval: Option<CachedReference>,
    /// Files of other runs or examples, which are removed in the end.
    others: Vec<PathBuf>,
}

/// How missing log-probabilities are computed.
pub(crate) struct ReferencePasses<'a> {
    /// The decoder of the run.
    pub(crate) decoder: &'a Decoder,
    pub(crate) batch_size: usize,
    pub(crate) observer: &'a mut dyn FnMut(TrainEvent) -> Flow,
    pub(crate) stop: &'a AtomicBool,
    pub(crate) collective: &'a dyn Collective,
}

impl Reference {
    /// Looks for log-probabilities on disk, and loads the reference when some are missing.
    ///
    /// # Errors
    /// When it cannot be loaded, or is no longer the checkpoint's.
    pub(crate) fn find(
        setup: &ReferenceSetup<'_>,
        reference: ReferenceModel,
        data: &TrainingData,
        output: &Path,
        warnings: &mut Vec<String>,
    ) -> Result<Self, TrainError> {
        let mut cached = |examples: &str, count: usize| {
            let file = CacheFile::new(output, &reference.weights, examples);
            let found = file.read(count).unwrap_or_else(|why| {
                warnings.push(format!("{}: {why}: computing it again", file.path().display()));
                None
            });
            CachedReference { file, found }
        };
        let train = cached(&data.train_sha256, data.examples.train_len());
        let eval = data.eval_sha256.as_ref().map(|sha256| cached(sha256, data.eval_examples));
        let missing = train.found.is_none() || eval.as_ref().is_some_and(|eval| eval.found.is_none());
        let used: Vec<&CacheFile> =
            [Some(&train), eval.as_ref()].into_iter().flatten().map(|cached| &cached.file).collect();
        let others = other_files(output, &used);
        if missing && !others.is_empty() {
            let list: Vec<String> = others.iter().map(|path| path.display().to_string()).collect();
            warnings.push(format!(
                "{}: of another reference model or other examples; computing the reference log-probabilities again",
                list.join(", ")
            ));
        }
        let model = match setup.resume {
            Some(checkpoint) if missing => {
                let loaded = setup.load()?;
                if loaded.weights != reference.weights {
                    let (then, now) = (&reference.weights, &loaded.weights);
                    let differences = vec![format!("{WEIGHTS}: {then} in the checkpoint, {now} now")];
                    return Err(TrainError::Changed { checkpoint: checkpoint.path.clone(), differences });
                }
                loaded.model
            }
            _ => reference.model.filter(|_| missing),
        };
        Ok(Self { model, train, eval, others })
    }

    /// Gives each example its reference log-probabilities, from disk, or computed and written. False when the
    /// caller asked to stop.
    ///
    /// # Errors
    /// When an example does not fit the model, or the disk takes nothing.
    pub(crate) fn fill(
        self,
        examples: &mut Examples,
        passes: &mut ReferencePasses<'_>,
    ) -> Result<bool, TrainError> {
        match examples {
            Examples::Tokens(_) | Examples::Stream(_) => Ok(true),
            Examples::Pairs(examples) => self.fill_set(examples, passes, |one| &mut one.reference),
            Examples::Unpaired(examples) => self.fill_set(examples, passes, |one| &mut one.pair.reference),
        }
    }

    fn fill_set<O: Objective>(
        self,
        examples: &mut ExampleSet<O>,
        passes: &mut ReferencePasses<'_>,
        of: fn(&mut O::Example) -> &mut Vec<f32>,
    ) -> Result<bool, TrainError> {
        let Self { model, train, eval, others } = self;
        let ExampleSet { objective, train: train_examples, eval: eval_examples } = examples;
        let sets = [(Some(train), train_examples), (eval, eval_examples)];
        let missing = |(place, examples): &(Option<CachedReference>, &mut Vec<O::Example>)| match place {
            Some(CachedReference { found: None, .. }) => examples.len(),
            _ => 0,
        };
        let (mut done, total) = (0, sets.iter().map(missing).sum());
        for (place, examples) in sets {
            let Some(CachedReference { file, found }) = place else { continue };
            let found = match found {
                Some(found) => found,
                None => {
                    let computed = compute(objective, examples, model.as_deref(), passes, &mut |count| {
                        done += count;
                        TrainEvent::Reference { done, total }
                    })?;
                    let Some(computed) = computed else { return Ok(false) };
                    if passes.collective.rank() == 0 {
                        file.write(&computed)?;
                    }
                    computed
                }
            };
            for (example, logp) in examples.iter_mut().zip(found) {
                *of(example) = logp;
            }
        }
        if passes.collective.rank() == 0 {
            others.iter().for_each(|path| atomic_dir::remove(path));
        }
        Ok(true)
    }
}

/// Log-probabilities of the targets of all examples; none when the caller asked to stop.
fn compute<O: Objective>(
    objective: &O,
    examples: &[O::Example],
    model: Option<&LoadedModel>,
    passes: &mut ReferencePasses<'_>,
    event: &mut dyn FnMut(usize) -> TrainEvent,
) -> Result<Option<LogProbabilities>, TrainError> {
    let (decoder, adapter) = match model {
        Some(model) => (&model.decoder, AdapterChoice::Active),
        None => (passes.decoder, AdapterChoice::Base),
    };
    let refs: Vec<&O::Example> = examples.iter().collect();
    let mut found = LogProbabilities::with_capacity(examples.len());
    // Every rank computes all of them, so that each has its own copy of the cache file.
    let never = AtomicBool::new(false);
    let stop = if passes.collective.world_size() == 1 { passes.stop } else { &never };
    let options = ForwardOptions { batch_size: passes.batch_size, adapter, stop, collective: &Alone };
    let whole =
        forward_passes(objective, decoder, &refs, options, &mut Workspace::default(), &mut |micro, logp| {
            for rows in &micro.rows {
                let targets = rows.clone().filter(|&row| micro.targets.weights[row] != 0.0);
                found.push(targets.map(|row| logp[row]).collect());
            }
            (passes.observer)(event(micro.rows.len()))
        });
    let whole = whole.map_err(|(rows, source)| TrainError::Batch {
        rows: refs[rows].iter().map(|example| objective.source(example)).collect(),
        source: Box::new(source),
    })?;
    Ok(whole.then_some(found))
}
