//! Equalities: packed = alone, cached = whole, shared prompt = repeated prompt, kept = recomputed activations.

use std::num::NonZeroUsize;

use parlor_kernels::Arithmetic;
use parlor_model::{
    Batch, Checkpointing, Context, Gradients, KvCache, LoadOptions, PassOptions, Targets, Workspace,
    load_directory,
};

use crate::directories::fixture;
use crate::fixture::{Expected, F32_MODELS, load, relative};

/// Equal except for the order of sums.
const ROUNDING: f64 = 2e-6;

#[test]
fn packed_equals_one_by_one() {
    for name in F32_MODELS {
        let (decoder, expected) = (load(name).decoder, Expected::read(name));
        let mut workspace = Workspace::default();
        let packed = decoder.evaluate(&expected.batch, &expected.targets, &mut workspace).unwrap();
        for segment in &expected.batch.segments {
            let rows = segment.rows.clone();
            let alone = Batch::of_sequences([&expected.batch.ids[rows.clone()]]);
            let targets = Targets {
                ids: expected.targets.ids[rows.clone()].to_vec(),
                weights: expected.targets.weights[rows.clone()].to_vec(),
            };
            let logp = decoder.evaluate(&alone, &targets, &mut workspace).unwrap();
            let difference = relative(&logp, &packed[rows]);
            assert!(difference < ROUNDING, "{name}: {difference:e}");
        }
    }
}

#[test]
fn evaluation_equals_training_forward() {
    let (decoder, expected) = (load("qwen3").decoder, Expected::read("qwen3"));
    let mut workspace = Workspace::default();
    let kept = decoder
        .logprobs(&expected.batch, &expected.targets, &PassOptions::default(), &mut workspace)
        .unwrap();
    let not_kept = decoder.evaluate(&expected.batch, &expected.targets, &mut workspace).unwrap();
    assert_eq!(kept, not_kept);
    // ... after which no backward is possible, and that is said.
    let mut gradients = Gradients::zeros(&decoder);
    let error = decoder.backward(&kept, &expected.batch, &mut workspace, &mut gradients);
    assert_eq!(
        error.unwrap_err().to_string(),
        "a backward pass needs the forward pass of the same batch just before it"
    );
}

/// NEFTune's noise is there in training only, within its bound, and the gradient is that of the noisy pass.
#[test]
fn noise_on_embeddings_is_within_its_bound_and_differentiable() {
    for name in ["llama", "gpt2"] {
        let mut decoder = load_directory(&fixture(name), &LoadOptions::for_training()).unwrap().decoder;
        let expected = Expected::read(name);
        let (batch, targets) = (&expected.batch, &expected.targets);
        let mut workspace = Workspace::default();
        let quiet = decoder.logprobs(batch, targets, &PassOptions::default(), &mut workspace).unwrap();
        let mut options = PassOptions { neftune_noise_alpha: 5.0, ..PassOptions::default() };
        assert_eq!(
            decoder.logprobs(batch, targets, &options, &mut workspace).unwrap(),
            quiet,
            "no seed, no noise"
        );
        options.seed = Some(3);
        let noisy = decoder.logprobs(batch, targets, &options, &mut workspace).unwrap();
        assert_eq!(
            decoder.logprobs(batch, targets, &options, &mut workspace).unwrap(),
            noisy,
            "the same seed, the same noise"
        );
        assert_ne!(noisy, quiet);
        assert_eq!(decoder.evaluate(batch, targets, &mut workspace).unwrap(), quiet, "none in evaluation");
        let mut gradients = Gradients::zeros(&decoder);
        let ones: Vec<f32> = targets.weights.iter().map(|&weight| f32::from(weight != 0.0)).collect();
        decoder.logprobs(batch, targets, &options, &mut workspace).unwrap();
        decoder.backward(&ones, batch, &mut workspace, &mut gradients).unwrap();
        let id = 0;
        let gradient = gradients.get(id).unwrap().to_vec();
        let largest = gradient.iter().fold(0.0f32, |max, g| max.max(g.abs()));
        let at = gradient.iter().position(|g| g.abs() == largest).unwrap();
        let step = 1e-3;
        let mut sum = |by: f32| -> f64 {
            decoder.values_mut(id).unwrap()[at] += by;
            decoder
                .logprobs(batch, targets, &options, &mut workspace)
                .unwrap()
                .iter()
                .map(|&logp| f64::from(logp))
                .sum()
        };
        let (above, below) = (sum(step), sum(-2.0 * step));
        let difference = (above - below) / f64::from(2.0 * step);
        // The sum, about 100, carries an error near 1e-5, of which the step leaves 5e-3; curvature adds the
        // like.
        let error = (difference - f64::from(largest.copysign(gradient[at]))).abs();
        assert!(error < 1e-2 * f64::from(largest), "{name}: {difference} and {}", gradient[at]);
    }
}

#[test]
fn cached_chunks_equal_the_whole() {
    for name in F32_MODELS {
        let (decoder, expected) = (load(name).decoder, Expected::read(name));
        let ids = &expected.batch.ids[13..30];
        let whole = Batch::of_sequences([ids]);
        let mut workspace = Workspace::default();
        let rows: Vec<usize> = (0..ids.len()).collect();
        let want = decoder.logits(&whole, &rows, None, &mut workspace).unwrap();
        let mut cache = KvCache::new(decoder.config(), 2);
        let mut got = Vec::new();
        // Another sequence is prefilled and decoded in the same calls, with lengths of its own.
        for range in [0..5, 5..6, 6..11, 11..12, 12..17] {
            let mut batch = Batch::default();
            batch.push(&expected.batch.ids[..2], cache.len(1), Context::Cache(1));
            batch.push(&ids[range.clone()], range.start, Context::Cache(0));
            let rows: Vec<usize> = (2..2 + range.len()).collect();
            got.extend(decoder.logits(&batch, &rows, Some(&mut cache), &mut workspace).unwrap());
        }
        let difference = relative(&got, &want);
        assert!(difference < ROUNDING, "{name}: {difference:e}");
        // A truncated cache goes on from there.
        cache.truncate(0, 9);
        let mut batch = Batch::default();
        batch.push(&ids[9..], 9, Context::Cache(0));
        let rows: Vec<usize> = (0..8).collect();
        let again = decoder.logits(&batch, &rows, Some(&mut cache), &mut workspace).unwrap();
        let difference = relative(&again, &want[9 * decoder.config().vocab_size..]);
        assert!(difference < ROUNDING, "{name}: {difference:e}");
    }
}

#[test]
fn a_shared_prompt_equals_a_repeated_one() {
    for name in F32_MODELS {
        let (decoder, expected) = (load(name).decoder, Expected::read(name));
        let (prompt, first, second) =
            (&expected.batch.ids[..7], &expected.batch.ids[13..18], &expected.batch.ids[20..29]);
        let mut shared = Batch::default();
        shared.push(prompt, 0, Context::None);
        shared.push(first, 7, Context::Parent(0));
        shared.push(second, 7, Context::Parent(0));
        let repeated = [[prompt, first].concat(), [prompt, second].concat()];
        let repeated = Batch::of_sequences(repeated.iter().map(Vec::as_slice));
        // Predictions within the answers only: the prompt's own count twice when it is repeated.
        let targets = |batch: &Batch, answers: &[std::ops::Range<usize>]| {
            let mut targets = Targets { ids: vec![0; batch.len()], weights: vec![0.0; batch.len()] };
            for rows in answers {
                for row in rows.clone() {
                    targets.ids[row - 1] = batch.ids[row];
                    targets.weights[row - 1] = 1.0;
                }
            }
            targets
        };
        let (a, b) = (targets(&shared, &[8..12, 13..21]), targets(&repeated, &[8..12, 20..28]));
        let mut workspace = Workspace::default();
        let run = |batch: &Batch, targets: &Targets, workspace: &mut Workspace| {
            let mut gradients = Gradients::zeros(&decoder);
            let logp = decoder.logprobs(batch, targets, &PassOptions::default(), workspace).unwrap();
            let d: Vec<f32> = targets.weights.iter().map(|&weight| -weight / 12.0).collect();
            decoder.backward(&d, batch, workspace, &mut gradients).unwrap();
            let chosen: Vec<f32> =
                logp.iter().zip(&targets.weights).filter(|(_, w)| **w > 0.0).map(|(l, _)| *l).collect();
            (chosen, gradients)
        };
        let (logp_shared, shared) = run(&shared, &a, &mut workspace);
        let (logp_repeated, repeated) = run(&repeated, &b, &mut workspace);
        assert!(relative(&logp_shared, &logp_repeated) < ROUNDING, "{name}");
        let largest = repeated
            .iter()
            .flat_map(|(_, values)| values.into_owned())
            .fold(0.0f32, |max, x| max.max(x.abs()));
        for (id, parameter) in decoder.parameters().iter().enumerate() {
            // In addition to rounding of its own size, a gradient may carry noise of all gradients' size: a key bias
            // without rotation has none in theory.
            let own = repeated.get(id).unwrap().iter().fold(0.0f32, |max, x| max.max(x.abs()));
            let allowed = 10.0 * ROUNDING * f64::from(own) + ROUNDING * f64::from(largest);
            let difference = relative(&shared.get(id).unwrap(), &repeated.get(id).unwrap()) * f64::from(own);
            assert!(difference < allowed, "{name} {}: {difference:e}", parameter.spec.role);
        }
    }
}

#[test]
fn a_batch_that_does_not_fit_is_refused() {
    let decoder = load("gpt2").decoder;
    let mut workspace = Workspace::default();
    let mut message = |batch: &Batch, cache: Option<&mut KvCache>| {
        decoder.logits(batch, &[0], cache, &mut workspace).unwrap_err().to_string()
    };
    insta::assert_snapshot!(message(&Batch::of_sequences([&[1, 97][..]]), None),
        @"token id 97 at row 1 is outside the model's vocabulary of 97");
    insta::assert_snapshot!(message(&Batch::of_sequences([&[1; 65][..]]), None),
        @"a sequence of 65 tokens exceeds the model's 64 learned positions; use at most that many");
    let mut batch = Batch::default();
    batch.push(&[1, 2], 3, Context::Cache(0));
    insta::assert_snapshot!(message(&batch, Some(&mut KvCache::new(decoder.config(), 1))),
        @"segment 0 starts at position 3, but Some(0) tokens precede it");
    insta::assert_snapshot!(message(&batch, None),
        @"segment 0 starts at position 3, but None tokens precede it");
    insta::assert_snapshot!(message(&Batch::default(), None),
        @"logits of row 0 are asked for, but the batch has 0 tokens");
}

#[test]
fn recomputed_equals_kept() {
    for name in F32_MODELS {
        let (mut decoder, expected) = (load(name).decoder, Expected::read(name));
        for everything in [true, false] {
            if !everything {
                decoder.train_only(|spec| spec.role.to_string().starts_with("layers.1.o_proj"));
            }
            let gradients = |checkpointing: Checkpointing| {
                let (mut workspace, mut gradients) = (Workspace::default(), Gradients::zeros(&decoder));
                let options = PassOptions { checkpointing, ..PassOptions::default() };
                let logp =
                    decoder.logprobs(&expected.batch, &expected.targets, &options, &mut workspace).unwrap();
                decoder.backward(&logp, &expected.batch, &mut workspace, &mut gradients).unwrap();
                gradients
            };
            let kept = gradients(Checkpointing::None);
            for group in 1..=3 {
                let again = gradients(Checkpointing::Every(std::num::NonZeroUsize::new(group).unwrap()));
                assert!(kept.iter().eq(again.iter()), "{name}: groups of {group} blocks");
            }
        }
    }
}

/// In bf16 the inputs of trained layers are kept, and recomputed with checkpointing: the same bits. A
/// gradient that is zeroed lazily forgets its contents, and two passes add up. The result is close to the f32
/// gradient.
#[test]
fn gradients_in_bf16_are_the_same_kept_or_recomputed_and_close_to_those_in_f32() {
    for name in ["llama", "gpt2", "qwen3"] {
        let decoder = load_directory(&fixture(name), &LoadOptions::for_training()).unwrap().decoder;
        let expected = Expected::read(name);
        let (batch, targets) = (&expected.batch, &expected.targets);
        let pass = |arithmetic, checkpointing, gradients: &mut Gradients| {
            let mut workspace = Workspace::default();
            workspace.arithmetic = arithmetic;
            let options = PassOptions { checkpointing, ..PassOptions::default() };
            decoder.logprobs(batch, targets, &options, &mut workspace).unwrap();
            decoder.backward(&targets.weights, batch, &mut workspace, gradients).unwrap();
        };
        let all = |gradients: &Gradients| -> Vec<f32> {
            gradients.iter().flat_map(|(_, values)| values.to_vec()).collect()
        };
        let mut kept = Gradients::zeros(&decoder);
        pass(Arithmetic::Bf16, Checkpointing::None, &mut kept);
        let once = all(&kept);
        let mut again = Gradients::zeros(&decoder);
        pass(Arithmetic::Bf16, Checkpointing::Every(NonZeroUsize::MIN), &mut again);
        assert!(once == all(&again), "{name}: kept and computed again differ");
        kept.zero_lazily();
        pass(Arithmetic::Bf16, Checkpointing::None, &mut kept);
        assert!(once == all(&kept), "{name}: a restarted gradient keeps what it held");
        pass(Arithmetic::Bf16, Checkpointing::None, &mut kept);
        let twice: Vec<f32> = once.iter().map(|g| 2.0 * g).collect();
        let difference = relative(&all(&kept), &twice);
        assert!(difference < ROUNDING, "{name}: two passes are {difference:e} from twice one");
        let mut wide = Gradients::zeros(&decoder);
        pass(Arithmetic::F32, Checkpointing::None, &mut wide);
        // Some 20 products lie on the way through these blocks and back, each with two operands that are off
        // by up to 2^-9: independent errors add up to about six of these, and the worst of all elements to
        // some more.
        let difference = relative(&once, &all(&wide));
        assert!(difference < 16.0 * 2f64.powi(-9), "{name}: {difference:e} from f32");
    }
}
