//! Prepacked bf16 and quantized weights: close to the stored ones, the same however a sequence is cut into
//! passes, and without effect on what is trained.

use parlor_kernels::{BlockFormat, DType, View};
use parlor_model::{ArchitectureBlock, Batch, Context, Decoder, Kind, KvCache, ModelPreset, Workspace};

use crate::fixture::{relative, use_asked_isa};

fn decoder(dtype: DType) -> Decoder {
    use_asked_isa();
    let block = ArchitectureBlock {
        hidden_size: Some(64),
        intermediate_size: Some(128),
        num_hidden_layers: Some(2),
        num_attention_heads: Some(4),
        num_key_value_heads: Some(2),
        ..ArchitectureBlock::default()
    };
    let (_, config) = block.resolve(ModelPreset::Nano, 100).unwrap();
    Decoder::initialise(config, 5).unwrap().to_dtype(dtype)
}

fn logits(decoder: &Decoder, ids: &[u32]) -> Vec<f32> {
    let rows: Vec<usize> = (0..ids.len()).collect();
    decoder.logits(&Batch::of_sequences([ids]), &rows, None, &mut Workspace::default()).unwrap()
}

fn check(dtype: DType) {
    let stored = decoder(dtype);
    let mut optimized = stored.clone();
    optimized.optimize_for_inference();
    for parameter in optimized.parameters() {
        let packed = matches!(parameter.tensor.view(), View::Packed(_));
        assert_eq!(packed, parameter.spec.kind == Kind::Matrix, "{}", parameter.spec.role);
        let before = stored.parameters().iter().find(|p| p.spec.role == parameter.spec.role).unwrap();
        let (now, before) = (parameter.tensor.to_f32_vec(), before.tensor.to_f32_vec());
        // Levels of NF4 are rounded to whole 112ths of the scale, which is no more than the largest of all;
        // the others stay as they are.
        let largest = before.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let bound = if dtype == DType::Block(BlockFormat::Nf4) { 0.5001 / 112.0 * largest } else { 0.0 };
        assert!(now.iter().zip(before).all(|(now, before)| (now - before).abs() <= bound), "{dtype:?}");
    }
    let ids: Vec<u32> = (0..40).map(|n| n * 37 % 100).collect();
    let (exact, rounded) = (logits(&stored, &ids), logits(&optimized, &ids));
    // An input is off by at most 1/254 of the largest of its block, or by 1/512 of itself in bf16; what is
    // off adds up over the layers as noise does.
    let difference = relative(&rounded, &exact);
    assert!(difference > 0.0 && difference < 0.02, "{dtype:?}: {difference:e}");

    // Token by token; attention sums in another order, and an input at the edge of a step then falls on its
    // other side.
    let mut cache = KvCache::new(optimized.config(), 1);
    let mut workspace = Workspace::default();
    let mut decoded = Vec::new();
    for (at, id) in ids.iter().enumerate() {
        let mut batch = Batch::default();
        batch.push(&[*id], at, Context::Cache(0));
        decoded.extend(optimized.logits(&batch, &[0], Some(&mut cache), &mut workspace).unwrap());
    }
    let difference = relative(&decoded, &rounded);
    assert!(difference < 0.005, "{dtype:?}, token by token: {difference:e}");
}

#[test]
fn optimized_answers_are_close_and_do_not_depend_on_how_they_are_asked_for() {
    check(DType::Bf16);
    check(DType::Block(BlockFormat::Q8_0));
    check(DType::Block(BlockFormat::Q4_0));
    check(DType::Block(BlockFormat::Nf4));
}

#[test]
fn what_has_no_such_order_stays_as_it_is() {
    for dtype in [DType::F32, DType::F16] {
        let mut optimized = decoder(DType::F32).to_dtype(dtype);
        let before = logits(&optimized, &[1, 2, 3]);
        optimized.optimize_for_inference();
        assert!(optimized.parameters().iter().all(|p| !matches!(p.tensor.view(), View::Packed(_))));
        assert_eq!(logits(&optimized, &[1, 2, 3]), before);
    }
}
