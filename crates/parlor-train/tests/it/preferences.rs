//! The objectives on preference data against TRL's own trainers (`fixtures/trl/losses.json`), and the shared
//! prompt against computing it twice.

use std::path::PathBuf;
use std::sync::Arc;

use parlor_model::{
    Batch, Decoder, Gradients, LoadOptions, LoadedModel, PassOptions, Targets, Workspace, load_directory,
};
use parlor_text::RowSource;
use parlor_train::objectives::{
    CompletionLogps, CompletionPair, KtoWeights, LabeledCompletion, Pair, Preference, PreferenceLoss,
    UnpairedPreference, orpo_loss, sigmoid_loss,
};
use parlor_train::{Loss, MetricSums, MicroBatch, Objective};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

fn fixture(path: &str) -> PathBuf {
    crate::parity::fixtures().join(path)
}

fn load(name: &str) -> LoadedModel {
    load_directory(&fixture("models").join(name), &LoadOptions::for_training()).unwrap()
}

#[derive(Deserialize)]
struct Fixture {
    policy: String,
    reference_model: String,
    pairs: Vec<[Vec<u32>; 3]>,
    cases: Vec<Case>,
    #[serde(rename = "judged")]
    unpaired: Vec<UnpairedCase>,
}

#[derive(Deserialize)]
struct Case {
    loss: String,
    beta: f64,
    #[serde(default)]
    label_smoothing: f64,
    #[serde(default)]
    simpo_gamma: f64,
    #[serde(flatten, deserialize_with = "expected")]
    expected: Expected,
}

/// Prompt, completion, mismatched completion, label.
type Example = (Vec<u32>, Vec<u32>, Vec<u32>, bool);

#[derive(Deserialize)]
struct UnpairedCase {
    policy: String,
    beta: f64,
    desirable_weight: f64,
    undesirable_weight: f64,
    examples: Vec<Example>,
    mismatched_logps: Vec<Vec<f32>>,
    mismatched_reference: Vec<Vec<f32>>,
    #[serde(flatten, deserialize_with = "expected")]
    expected: Expected,
}

/// By way of a JSON value: what is left for a flattened field holds fractions in a form that only such a
/// value reads.
fn expected<'de, D: Deserializer<'de>>(rest: D) -> Result<Expected, D::Error> {
    let rest = serde_json::Map::deserialize(rest)?;
    serde_json::from_value(Value::Object(rest)).map_err(D::Error::custom)
}

/// What both kinds have. Per completion: all better ones, then all worse ones.
#[derive(Deserialize)]
struct Expected {
    value: f64,
    metrics: serde_json::Map<String, Value>,
    logps: Vec<Vec<f32>>,
    reference: Option<Vec<Vec<f32>>>,
    d_logps: Option<Vec<Vec<f32>>>,
    gradients: serde_json::Map<String, Value>,
}

fn read() -> Fixture {
    serde_json::from_slice(&std::fs::read(fixture("trl/losses.json")).unwrap()).unwrap()
}

fn completion_pair(prompt: &[u32], completions: [&[u32]; 2], reference: Vec<f32>) -> CompletionPair {
    CompletionPair {
        prompt: prompt.to_vec(),
        completions: completions.map(<[u32]>::to_vec),
        reference,
        source: RowSource { file: Arc::new("pairs.jsonl".into()), line: 1 },
    }
}

impl Case {
    fn objective(&self) -> Preference {
        let label_smoothing = self.label_smoothing;
        let loss = match self.loss.as_str() {
            "sigmoid" => PreferenceLoss::Sigmoid { label_smoothing },
            "robust" => PreferenceLoss::Robust { label_smoothing },
            "hinge" => PreferenceLoss::Hinge,
            "ipo" => PreferenceLoss::Ipo,
            "simpo" => PreferenceLoss::Simpo { gamma: self.simpo_gamma, label_smoothing },
            "orpo" => PreferenceLoss::Orpo,
            other => panic!("{other}"),
        };
        Preference { loss, beta: self.beta }
    }

    fn examples(&self, pairs: &[[Vec<u32>; 3]]) -> Vec<CompletionPair> {
        let pair = |(index, [prompt, chosen, rejected]): (usize, &[Vec<u32>; 3])| {
            let reference = self.expected.reference.as_ref().map_or_else(Vec::new, |reference| {
                [reference[index].clone(), reference[pairs.len() + index].clone()].concat()
            });
            completion_pair(prompt, [chosen, rejected], reference)
        };
        pairs.iter().enumerate().map(pair).collect()
    }
}

/// Two f32 sums over the dozens of terms here: each rounds to 6e-8 of the terms, which are up to ten times
/// the result.
const ROUNDING: f64 = 1e-5;
/// As parlor-model's parity with `transformers`: of gradients, relative to the largest.
const GRADIENTS: f64 = 2e-5;

fn close(found: f64, wanted: f64, tolerance: f64) -> bool {
    (found - wanted).abs() <= tolerance * (1.0 + wanted.abs())
}

/// Value and metrics of a step of one pass; `kl` of pairs is Parlor's own.
fn check_numbers<O: Objective>(name: &str, objective: &O, loss: &Loss, expected: &Expected) {
    let mean = loss.sum / loss.weight;
    assert!(close(mean, expected.value, ROUNDING), "{name}: {mean}, expected {}", expected.value);
    let mut sums = MetricSums::default();
    sums.add(loss.metrics.clone());
    let found = sums.means(objective);
    for (metric, wanted) in &expected.metrics {
        let found = found.iter().find(|(name, _)| name == metric).map(|(_, value)| *value);
        let (found, wanted) =
            (found.unwrap_or_else(|| panic!("{name}: no {metric}")), wanted.as_f64().unwrap());
        assert!(close(found, wanted, ROUNDING), "{name} {metric}: {found}, expected {wanted}");
    }
}

/// Runs a model through a pass and compares value, metrics and every gradient.
fn check_model<O: Objective>(
    name: &str,
    objective: &O,
    model: &LoadedModel,
    examples: &[&O::Example],
    expected: &Expected,
) {
    let micro = objective.collate(examples, examples);
    let (loss, gradients) = pass(objective, &model.decoder, &micro);
    check_numbers(name, objective, &loss, expected);
    let tensors = model.architecture.checkpoint_tensors(model.decoder.config());
    assert_eq!(tensors.len(), expected.gradients.len());
    for tensor in &tensors {
        let id = model.decoder.parameters().iter().position(|p| p.spec.role == tensor.roles[0]).unwrap();
        let gradient: Vec<f64> =
            gradients.get(id).unwrap().iter().map(|&g| f64::from(g) / loss.weight).collect();
        let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        let wave: f64 = gradient.iter().enumerate().map(|(at, g)| g * (at as f64).cos()).sum();
        let wanted = expected.gradients[&tensor.name].as_array().unwrap();
        let (wanted_norm, wanted_wave) = (wanted[0].as_f64().unwrap(), wanted[1].as_f64().unwrap());
        let close = (norm - wanted_norm).abs() < GRADIENTS * wanted_norm
            && (wave - wanted_wave).abs() < GRADIENTS * wanted_norm;
        assert!(close, "{name} {}: {norm} {wave}, expected {wanted_norm} {wanted_wave}", tensor.name);
    }
}

fn pass<O: Objective>(objective: &O, decoder: &Decoder, micro: &MicroBatch<O::Side>) -> (Loss, Gradients) {
    let (mut saved, mut gradients) = (Workspace::default(), Gradients::zeros(decoder));
    let logp = decoder.logprobs(&micro.batch, &micro.targets, &PassOptions::default(), &mut saved).unwrap();
    let loss = objective.loss(micro, &logp);
    decoder.backward(&loss.d_logp, &micro.batch, &mut saved, &mut gradients).unwrap();
    (loss, gradients)
}

/// Rows of each example's targets, in order.
fn target_rows<S>(micro: &MicroBatch<S>) -> Vec<Vec<usize>> {
    let targets = |rows: &std::ops::Range<usize>| {
        rows.clone().filter(|&row| micro.targets.weights[row] != 0.0).collect()
    };
    micro.rows.iter().map(targets).collect()
}

#[test]
fn losses_of_pairs_are_those_of_trl() {
    let fixture = read();
    let (policy, reference) = (load(&fixture.policy), load(&fixture.reference_model));
    let pairs = fixture.pairs.len();
    for case in &fixture.cases {
        let (objective, examples) = (case.objective(), case.examples(&fixture.pairs));
        let name = format!("{} {}", case.loss, case.beta);
        let refs: Vec<&CompletionPair> = examples.iter().collect();
        check_model(&name, &objective, &policy, &refs, &case.expected);
        let micro = objective.collate(&refs, &refs);
        let rows = target_rows(&micro);
        if let Some(d_logps) = &case.expected.d_logps {
            // TRL's own log-probabilities in, its own derivatives out.
            let mut logp = vec![0.0; micro.batch.len()];
            let own = |of: &[Vec<f32>], index: usize| [&of[index][..], &of[pairs + index]].concat();
            for (index, rows) in rows.iter().enumerate() {
                for (&row, value) in rows.iter().zip(own(&case.expected.logps, index)) {
                    logp[row] = value;
                }
            }
            let loss = objective.loss(&micro, &logp);
            check_numbers(&name, &objective, &loss, &case.expected);
            for (index, rows) in rows.iter().enumerate() {
                let wanted = own(d_logps, index);
                assert_eq!(rows.len(), wanted.len());
                for (&row, wanted) in rows.iter().zip(wanted) {
                    let found = f64::from(loss.d_logp[row]) / loss.weight;
                    assert!(close(found, f64::from(wanted), ROUNDING), "{name}: {found}, expected {wanted}");
                }
            }
            let rows: Vec<usize> = rows.concat();
            let others = (0..micro.batch.len()).filter(|row| !rows.contains(row));
            assert!(others.into_iter().all(|row| loss.d_logp[row] == 0.0));
        }
        if case.expected.reference.is_some() {
            // The reference's log-probabilities as this decoder computes them.
            let logp =
                reference.decoder.evaluate(&micro.batch, &micro.targets, &mut Workspace::default()).unwrap();
            for (example, rows) in examples.iter().zip(&rows) {
                for (&row, &wanted) in rows.iter().zip(&example.reference) {
                    assert!(close(f64::from(logp[row]), f64::from(wanted), ROUNDING));
                }
            }
        }
    }
}

#[test]
fn losses_of_unpaired_completions_are_those_of_trl() {
    for (index, case) in read().unpaired.iter().enumerate() {
        let weights = KtoWeights {
            beta: case.beta,
            desirable: case.desirable_weight,
            undesirable: case.undesirable_weight,
        };
        let reference = case.expected.reference.as_ref().unwrap();
        let examples: Vec<LabeledCompletion> = case
            .examples
            .iter()
            .enumerate()
            .map(|(at, (prompt, completion, mismatched, desirable))| LabeledCompletion {
                pair: completion_pair(
                    prompt,
                    [completion, mismatched],
                    [&reference[at][..], &case.mismatched_reference[at]].concat(),
                ),
                desirable: *desirable,
            })
            .collect();
        let (objective, refs) = (UnpairedPreference(weights), examples.iter().collect::<Vec<_>>());
        let name = format!("kto {index}");
        check_model(&name, &objective, &load(&case.policy), &refs, &case.expected);
        let micro = objective.collate(&refs, &refs);
        let mut logp = vec![0.0; micro.batch.len()];
        for (at, rows) in target_rows(&micro).iter().enumerate() {
            let own = [&case.expected.logps[at][..], &case.mismatched_logps[at]].concat();
            rows.iter().zip(own).for_each(|(&row, value)| logp[row] = value);
        }
        let loss = objective.loss(&micro, &logp);
        check_numbers(&name, &objective, &loss, &case.expected);
        for (at, rows) in target_rows(&micro).iter().enumerate() {
            let wanted = &case.expected.d_logps.as_ref().unwrap()[at];
            let (own, others) = rows.split_at(wanted.len());
            for (&row, &wanted) in own.iter().zip(wanted) {
                let found = f64::from(loss.d_logp[row]) / loss.weight;
                assert!(close(found, f64::from(wanted), ROUNDING), "{name}: {found}, expected {wanted}");
            }
            // The divergence takes no part in the derivative.
            assert!(others.iter().all(|&row| loss.d_logp[row] == 0.0));
        }
    }
}

/// Loss and gradients with every sequence laid out whole.
fn twice(
    decoder: &Decoder,
    pairs: &[CompletionPair],
    loss: impl Fn(&Pair<'_>) -> parlor_train::objectives::PairLoss,
) -> (f64, Gradients) {
    let whole: Vec<Vec<u32>> = pairs
        .iter()
        .flat_map(|pair| pair.completions.iter().map(|completion| [&pair.prompt[..], completion].concat()))
        .collect();
    let batch = Batch::of_sequences(whole.iter().map(Vec::as_slice));
    let targets = Targets::next_token(&batch, &vec![1.0; batch.len()]);
    let (mut saved, mut gradients) = (Workspace::default(), Gradients::zeros(decoder));
    let logp = decoder.logprobs(&batch, &targets, &PassOptions::default(), &mut saved).unwrap();
    let (mut value, mut d_logp) = (0.0, vec![0.0; batch.len()]);
    for (pair, segments) in pairs.iter().zip(batch.segments.chunks(2)) {
        let seam = pair.prompt.len() - 1;
        let rows = |which: usize| segments[which].rows.start + seam..segments[which].rows.end - 1;
        let prompt = segments[0].rows.start..segments[0].rows.start + seam;
        let split = pair.completions[0].len().min(pair.reference.len());
        let found = loss(&Pair {
            prompt: &logp[prompt.clone()],
            chosen: CompletionLogps { logp: &logp[rows(0)], reference: &pair.reference[..split] },
            rejected: CompletionLogps { logp: &logp[rows(1)], reference: &pair.reference[split..] },
        });
        value += found.value;
        d_logp[prompt].fill(found.d_prompt as f32);
        d_logp[rows(0)].fill(found.d_chosen as f32);
        d_logp[rows(1)].fill(found.d_rejected as f32);
    }
    decoder.backward(&d_logp, &batch, &mut saved, &mut gradients).unwrap();
    (value, gradients)
}

#[test]
fn a_prompt_computed_once_is_a_prompt_computed_twice() {
    let ids = |seed: u32, count: u32| {
        (0..count).map(|at| 3 + (seed * 31 + at * at * 7 + at) % 90).collect::<Vec<u32>>()
    };
    let reference = |count: usize| (0..count).map(|at| -1.0 - at as f32 / 8.0).collect::<Vec<f32>>();
    let lengths = [(1, 1, 1), (2, 3, 1), (7, 2, 5), (20, 6, 4), (3, 1, 9)];
    for name in ["qwen3", "mistral", "llama3", "gpt2"] {
        let decoder = load(name).decoder;
        let pairs: Vec<CompletionPair> = lengths
            .iter()
            .enumerate()
            .map(|(at, &(prompt, chosen, rejected))| {
                let at = at as u32;
                let (a, b) = (ids(at + 10, chosen), ids(at + 20, rejected));
                completion_pair(&ids(at, prompt), [&a, &b], reference(a.len() + b.len()))
            })
            .collect();
        let free: Vec<CompletionPair> =
            pairs.iter().map(|pair| CompletionPair { reference: Vec::new(), ..pair.clone() }).collect();
        let tokens: usize = pairs.iter().map(|pair| pair.prompt.len() + pair.completions[0].len() - 1).sum();
        let token_weight = pairs.len() as f64 / tokens as f64;
        let sigmoid = PreferenceLoss::Sigmoid { label_smoothing: 0.0 };
        let runs = [
            (sigmoid, &pairs, twice(&decoder, &pairs, |pair| sigmoid_loss(pair, 0.3, 0.0))),
            (
                PreferenceLoss::Orpo,
                &free,
                twice(&decoder, &free, |pair| orpo_loss(pair, 0.3, token_weight).loss),
            ),
        ];
        for (loss, pairs, (value, wanted)) in runs {
            let objective = Preference { loss, beta: 0.3 };
            let refs: Vec<&CompletionPair> = pairs.iter().collect();
            let micro = objective.collate(&refs, &refs);
            let (found, gradients) = pass(&objective, &decoder, &micro);
            assert!((found.sum - value).abs() < ROUNDING * value, "{name}: {} and {value}", found.sum);
            let largest_of = |values: &[f32]| values.iter().fold(0f32, |max, g| max.max(g.abs()));
            // A gradient that is zero but for rounding (a key's bias moves no attention) is compared with the
            // others: `GRADIENTS` of a hundredth of the largest is three times the rounding of one f32 term
            // of that size.
            let floor = 1e-2 * wanted.iter().map(|(_, values)| largest_of(&values)).fold(0f32, f32::max);
            for id in 0..decoder.parameters().len() {
                let (found, wanted) = (gradients.get(id).unwrap(), wanted.get(id).unwrap());
                let largest = largest_of(&wanted).max(floor);
                let apart = found.iter().zip(&*wanted).fold(0f32, |max, (a, b)| max.max((a - b).abs()));
                let role = &decoder.parameters()[id].spec.role;
                assert!(
                    f64::from(apart) <= GRADIENTS * f64::from(largest),
                    "{name} {role}: {apart} of {largest}"
                );
            }
        }
    }
}

#[test]
fn a_step_is_the_same_however_it_is_divided() {
    let fixture = read();
    let decoder = load(&fixture.policy).decoder;
    let case = fixture.cases.iter().find(|case| case.loss == "orpo").unwrap();
    let (objective, examples) = (case.objective(), case.examples(&fixture.pairs));
    let step: Vec<&CompletionPair> = examples.iter().collect();
    let whole = pass(&objective, &decoder, &objective.collate(&step, &step)).0;
    let parts: f64 =
        step.iter().map(|one| pass(&objective, &decoder, &objective.collate(&[one], &step)).0.sum).sum();
    assert!((whole.sum - parts).abs() < ROUNDING * parts, "{} and {parts}", whole.sum);
}
