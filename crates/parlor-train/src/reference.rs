//! The reference model that losses on judged answers measure against: which one it is, and its log-probabilities, computed
//! once before the first step.
//!
//! It is the model of `training.dpo.reference_model_path`, else the model as it was before training: the run's own
//! weights at the first step, or those beside the adapter at any. Only its log-probabilities stay in memory.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parlor_model::{
    AdapterChoice, Decoder, LoadOptions, LoadedModel, ModelConfig, ModelManager, Parameter, TorchDtype,
    Workspace,
};
use parlor_text::Tokenizer;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::checkpoint::Checkpoint;
use crate::config::{Problem, TrainingConfig};
use crate::distributed::{Alone, Collective};
use crate::error::TrainError;
use crate::evaluation::{ForwardOptions, forward_passes};
use crate::event::{Flow, TrainEvent};
use crate::materials::TextArtifacts;
use crate::objective::Objective;
use crate::parlor_state::hex;
use crate::reference_cache::{CacheFile, LogProbabilities, others};
use crate::storage::remove;
use crate::work::{ExampleSet, Examples, TrainingData};

/// Under this name the identity of a run has the reference's weights.
pub(crate) const WEIGHTS: &str = "reference model (SHA-256 of its weights)";

/// What decides which model is the reference.
#[derive(Clone, Copy)]
pub(crate) struct ReferenceSetup<'a> {
    pub(crate) training: &'a TrainingConfig,
    /// The model that is trained.
    pub(crate) model: &'a ModelConfig,
    pub(crate) text: &'a TextArtifacts,
    pub(crate) decoder: &'a Decoder,
    pub(crate) resume: Option<&'a Checkpoint>,
}

/// The reference model.
#[derive(Debug)]
pub(crate) struct ReferenceModel {
    /// Hash of its weights.
    pub(crate) weights: String,
    /// The model; none when it is the run's own, or not loaded.
    model: Option<Arc<LoadedModel>>,
}

impl ReferenceSetup<'_> {
    /// The reference that the loss needs, if it does. Going on from a checkpoint, the one that is named there.
    ///
    /// # Errors
    /// When it cannot be loaded, or has another vocabulary.
    pub(crate) fn source(&self) -> Result<Option<ReferenceModel>, TrainError> {
        if !self.training.needs_reference() {
            return Ok(None);
        }
        if let Some(weights) = self.resume.and_then(|resume| resume.state.identity.get(WEIGHTS)) {
            return Ok(Some(ReferenceModel { weights: weights.clone(), model: None }));
        }
        self.load().map(Some)
    }

    fn load(&self) -> Result<ReferenceModel, TrainError> {
        let other = self.training.dpo.reference_model_path.as_deref();
        let trained = self.resume.is_some() && self.training.adapter().is_none();
        let name = match other {
            Some(path) => path.to_string_lossy().into_owned(),
            None if trained => self.model.name.clone(),
            None => {
                let weights = weights_sha256(self.decoder.model_parameters());
                return Ok(ReferenceModel { weights, model: None });
            }
        };
        // In the numbers that the trained model has, so that both agree before the first step.
        let dtype = match self.training.adapter() {
            Some(_) => self.model.torch_dtype,
            None if self.training.pure_bf16 => TorchDtype::Bfloat16,
            None => TorchDtype::Float32,
        };
        let config = ModelConfig { name, ..self.model.clone() };
        let manager = ModelManager::with_options(config, LoadOptions { dtype, ..LoadOptions::default() });
        let model = manager.load_model().map_err(|error| TrainError::Model(Box::new(error)))?;
        if let Some(path) = other {
            self.require_vocabulary(path, &model)?;
        }
        Ok(ReferenceModel { weights: weights_sha256(model.decoder.parameters()), model: Some(model) })
    }

    /// Refuses a reference whose ids are other tokens. How its tokenizer would divide a text does not matter: it is given ids.
    fn require_vocabulary(&self, path: &Path, model: &LoadedModel) -> Result<(), TrainError> {
        let sizes = [&model.decoder, self.decoder].map(|decoder| decoder.config().vocab_size);
        let own = &self.text.tokenizer;
        let trained = &self.model.name;
        let found = match &model.tokenizer {
            Some(other) if other.vocab_size() != own.vocab_size() => {
                let (there, here) = (other.vocab_size(), own.vocab_size());
                format!("it has another tokenizer ({there} tokens, the trained model, {trained}, {here})")
            }
            _ if sizes[0] < sizes[1].min(own.vocab_size()) => {
                format!(
                    "it has a vocabulary of {} tokens, the trained model, {trained}, {}",
                    sizes[0], sizes[1]
                )
            }
            Some(other) => {
                let ids = 0..u32::try_from(own.vocab_size()).unwrap_or(u32::MAX);
                let shown = |tokenizer: &Tokenizer, id| tokenizer.token(id).unwrap_or_default();
                let Some(id) = ids.into_iter().find(|&id| other.token(id) != own.token(id)) else {
                    return Ok(());
                };
                let (there, here) = (shown(other, id), shown(own, id));
                format!(
                    "it has another tokenizer (token {id} is {there:?}, in the trained model, {trained}, {here:?})"
                )
            }
            None if sizes[0] == sizes[1] => {
                tracing::warn!(
                    "{}: the reference model has no tokenizer, so nobody can say whether its {} tokens are those of {trained}",
                    path.display(),
                    sizes[0]
                );
                return Ok(());
            }
            None => format!(
                "it has a vocabulary of {} tokens, the trained model, {trained}, {}",
                sizes[0], sizes[1]
            ),
        };
        let message = format!(
            "{}: {found}, so their log-probabilities cannot be compared; name a model with the same tokenizer, or null for \
             the model before training",
            path.display()
        );
        Err(TrainError::Config(vec![Problem {
            key: "training.dpo.reference_model_path".to_owned(),
            message,
        }]))
    }

    /// Looks for log-probabilities on disk, and loads the reference when some are missing.
    ///
    /// # Errors
    /// When it cannot be loaded, or is not the checkpoint's any more.
    pub(crate) fn find(
        &self,
        source: ReferenceModel,
        data: &TrainingData,
        output: &Path,
        warnings: &mut Vec<String>,
    ) -> Result<Reference, TrainError> {
        let mut place = |examples: &str, count: usize| {
            let file = CacheFile::new(output, &source.weights, examples);
            let found = file.read(count).unwrap_or_else(|why| {
                warnings.push(format!("{}: {why}: computing it again", file.path().display()));
                None
            });
            CachedReference { file, found }
        };
        let train = place(&data.train_sha256, data.examples.train_examples());
        let eval = data.eval_sha256.as_ref().map(|sha256| place(sha256, data.eval_examples));
        let missing = train.found.is_none() || eval.as_ref().is_some_and(|eval| eval.found.is_none());
        let used: Vec<&CacheFile> =
            [Some(&train), eval.as_ref()].into_iter().flatten().map(|p| &p.file).collect();
        let others = others(output, &used);
        if missing && !others.is_empty() {
            let list: Vec<String> = others.iter().map(|path| path.display().to_string()).collect();
            warnings.push(format!(
                "{}: of another reference model or other examples; computing the reference log-probabilities again",
                list.join(", ")
            ));
        }
        let model = match self.resume {
            Some(checkpoint) if missing => {
                let loaded = self.load()?;
                if loaded.weights != source.weights {
                    let (then, now) = (&source.weights, &loaded.weights);
                    let differences = vec![format!("{WEIGHTS}: {then} in the checkpoint, {now} now")];
                    return Err(TrainError::Changed { checkpoint: checkpoint.path.clone(), differences });
                }
                loaded.model
            }
            _ => source.model.filter(|_| missing),
        };
        Ok(Reference { model, train, eval, others })
    }
}

/// Hash over all parameters: role, shape, format, numbers.
fn weights_sha256(parameters: &[Parameter]) -> String {
    let each: Vec<_> = parameters
        .par_iter()
        .map(|Parameter { spec, tensor }| {
            let head = format!("{} {:?} {:?}", spec.role, tensor.shape(), tensor.dtype());
            Sha256::new().chain_update(head).chain_update(tensor.bytes()).finalize()
        })
        .collect();
    hex(&each.iter().fold(Sha256::new(), |all, one| all.chain_update(one)).finalize())
}

#[derive(Debug)]
struct CachedReference {
    file: CacheFile,
    found: Option<LogProbabilities>,
}

/// A reference whose log-probabilities are on disk, or that is loaded.
#[derive(Debug)]
pub(crate) struct Reference {
    /// None: the run's own decoder without its adapter.
    model: Option<Arc<LoadedModel>>,
    train: CachedReference,
    eval: Option<CachedReference>,
    others: Vec<std::path::PathBuf>,
}

/// What computing needs of a run.
pub(crate) struct Computing<'a> {
    pub(crate) decoder: &'a Decoder,
    pub(crate) batch_size: usize,
    pub(crate) observer: &'a mut dyn FnMut(TrainEvent) -> Flow,
    pub(crate) stop: &'a AtomicBool,
    pub(crate) collective: &'a dyn Collective,
}

impl Reference {
    /// Gives each example the reference's log-probabilities, from disk or computed and written. False when the caller
    /// asked to stop.
    ///
    /// # Errors
    /// When an example does not fit the model, or the disk takes nothing.
    pub(crate) fn fill(
        self,
        examples: &mut Examples,
        computing: &mut Computing<'_>,
    ) -> Result<bool, TrainError> {
        match examples {
            Examples::Tokens(_) | Examples::Stream(_) => Ok(true),
            Examples::Pairs(examples) => self.give(examples, computing, |one| &mut one.reference),
            Examples::Unpaired(examples) => self.give(examples, computing, |one| &mut one.pair.reference),
        }
    }

    fn give<O: Objective>(
        self,
        examples: &mut ExampleSet<O>,
        computing: &mut Computing<'_>,
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
                    let computed = compute(objective, examples, model.as_deref(), computing, &mut |count| {
                        done += count;
                        TrainEvent::Reference { done, total }
                    })?;
                    let Some(computed) = computed else { return Ok(false) };
                    if computing.collective.rank() == 0 {
                        file.write(&computed)?;
                    }
                    computed
                }
            };
            for (example, logp) in examples.iter_mut().zip(found) {
                *of(example) = logp;
            }
        }
        if computing.collective.rank() == 0 {
            others.iter().for_each(|path| remove(path));
        }
        Ok(true)
    }
}

/// Log-probabilities of every example's targets; none when the caller asked to stop.
fn compute<O: Objective>(
    objective: &O,
    examples: &[O::Example],
    model: Option<&LoadedModel>,
    computing: &mut Computing<'_>,
    event: &mut dyn FnMut(usize) -> TrainEvent,
) -> Result<Option<LogProbabilities>, TrainError> {
    let (decoder, adapter) = match model {
        Some(model) => (&model.decoder, AdapterChoice::Active),
        None => (computing.decoder, AdapterChoice::Base),
    };
    let refs: Vec<&O::Example> = examples.iter().collect();
    let mut found = LogProbabilities::with_capacity(examples.len());
    // Every rank computes all: what it needs is all on its own machine then.
    let never = AtomicBool::new(false);
    let stop = if computing.collective.world_size() == 1 { computing.stop } else { &never };
    let passes = ForwardOptions { batch_size: computing.batch_size, adapter, stop, collective: &Alone };
    let whole =
        forward_passes(objective, decoder, &refs, passes, &mut Workspace::default(), &mut |micro, logp| {
            for rows in &micro.rows {
                let targets = rows.clone().filter(|&row| micro.targets.weights[row] != 0.0);
                found.push(targets.map(|row| logp[row]).collect());
            }
            (computing.observer)(event(micro.rows.len()))
        });
    let whole = whole.map_err(|(rows, source)| TrainError::Batch {
        rows: refs[rows].iter().map(|example| objective.source(example)).collect(),
        source: Box::new(source),
    })?;
    Ok(whole.then_some(found))
}
