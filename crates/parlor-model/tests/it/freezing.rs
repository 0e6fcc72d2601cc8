//! Frozen parameters have no gradient, and the gradients of the others equal those without freezing, to
//! rounding.

use parlor_model::{Gradients, Kind, ParameterSpec, PassOptions, Workspace};

use crate::fixture::{Expected, F32_MODELS, load};

fn check(name: &str, what: &str, trained: impl Fn(&ParameterSpec) -> bool) {
    let (mut decoder, expected) = (load(name).decoder, Expected::read(name));
    let gradients = |decoder: &parlor_model::Decoder| {
        let (mut workspace, mut gradients) = (Workspace::default(), Gradients::zeros(decoder));
        let logp = decoder
            .logprobs(&expected.batch, &expected.targets, &PassOptions::default(), &mut workspace)
            .unwrap();
        let d_logp: Vec<f32> = logp.iter().zip(&expected.targets.weights).map(|(l, w)| l * w).collect();
        decoder.backward(&d_logp, &expected.batch, &mut workspace, &mut gradients).unwrap();
        gradients
    };
    let all = gradients(&decoder);
    let largest = all
        .iter()
        .flat_map(|(_, values)| values.into_owned())
        .fold(0.0f32, |largest, x| largest.max(x.abs()));
    decoder.train_only(&trained);
    let some = gradients(&decoder);
    let mut elements = 0;
    for (id, parameter) in decoder.parameters().iter().enumerate() {
        assert_eq!(decoder.is_trained(id), trained(&parameter.spec));
        let want = trained(&parameter.spec).then(|| all.get(id).unwrap());
        assert_eq!(some.get(id).is_some(), want.is_some(), "{name}, {what}: {}", parameter.spec.role);
        if let (Some(got), Some(want)) = (some.get(id), &want) {
            // A frozen head adds the same terms in another order (see `cross_entropy`): what f32 sums of so
            // many may differ by. Some gradients are sums of which nothing is left (those of GPT-2's key
            // biases), so the largest of all is the measure.
            let off =
                got.iter().zip(want.iter()).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max) / largest;
            assert!(off < 5e-6, "{name}, {what}: {}, {off:e}", parameter.spec.role);
        }
        elements += want.map_or(0, |want| want.len());
    }
    assert_eq!(decoder.trained_count(), elements);
}

#[test]
fn only_trained_parameters_have_gradients() {
    for name in F32_MODELS {
        check(name, "biases", |spec| spec.kind == Kind::Bias);
        check(name, "norms", |spec| spec.kind == Kind::NormWeight);
        check(name, "one block", |spec| spec.role.to_string().starts_with("layers.1."));
        check(name, "nothing", |_| false);
    }
}
