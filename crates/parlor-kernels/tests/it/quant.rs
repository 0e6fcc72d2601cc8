//! Weights in blocks: what quantizing loses, NF4 against bitsandbytes, and products over blocks against f64.

use std::path::Path;
use std::sync::Arc;

use parlor_kernels::linear::{self, Shape};
use parlor_kernels::{Arithmetic, BlockFormat, Blocks, DType, MappedFile, Tensor, TensorError, View, Write};

use crate::prepacked::FORMATS;
use crate::{Numbers, close_within, wide};

fn widened(blocks: &Blocks) -> Vec<f32> {
    let mut out = vec![f32::NAN; blocks.len()];
    blocks.view().widen_into(&mut out);
    out
}

/// Half of the widest distance between two levels, in units of the block's largest magnitude.
fn half_a_step(format: BlockFormat) -> f64 {
    match format {
        BlockFormat::Q8_0 => 0.5 / 127.0,
        // Levels -8 to 7 of an eighth: what is beyond the last one loses a whole step.
        BlockFormat::Q4_0 => 1.0 / 8.0,
        _ => (1.0 - 0.696_192_8) / 2.0,
    }
}

#[test]
fn every_number_is_near_its_level() {
    for format in BlockFormat::QUANTIZABLE {
        for len in [0, 1, 31, 64, 65, 700, 64 * 1024 + 33, 64 * 2000] {
            let mut numbers = Numbers::new(len as u64 + 5);
            let values: Vec<f32> =
                numbers.vec(len).iter().enumerate().map(|(i, x)| x * (1.0 + (i / 640) as f32)).collect();
            let blocks = Blocks::quantize(&values, format);
            assert_eq!(blocks.len(), len);
            // f16 scales are off by 2^-11 of themselves; nested ones by half of the widest step of their map, 0.6% of the
            // largest deviation from their mean.
            let spread = values.iter().fold(0.0f32, |max, x| max.max(x.abs()));
            let nested = if format == BlockFormat::Nf4Double { 0.006 * f64::from(spread) } else { 0.0 };
            for (values, got) in
                values.chunks(format.elements()).zip(widened(&blocks).chunks(format.elements()))
            {
                let max = f64::from(values.iter().fold(0.0f32, |max, x| max.max(x.abs())));
                let bound = max * (half_a_step(format) + 1.0 / 2048.0 + 1e-6) + nested;
                for (x, got) in values.iter().zip(got) {
                    let error = f64::from(x - got).abs();
                    assert!(error <= bound, "{format:?} {len}: {x} became {got}, bound {bound}");
                }
            }
        }
    }
}

#[test]
fn ranges_begin_and_end_within_blocks() {
    let values = Numbers::new(4).vec(500);
    for format in BlockFormat::QUANTIZABLE {
        let blocks = Blocks::quantize(&values, format);
        let whole = widened(&blocks);
        for range in [0..500, 3..3, 1..2, 31..33, 5..70, 63..65, 100..499, 64..128] {
            let mut out = vec![f32::NAN; range.len()];
            blocks.view().slice(range.clone()).widen_into(&mut out);
            assert_eq!(out, whole[range.clone()], "{format:?} {range:?}");
            let mut again = vec![f32::NAN; range.len()];
            blocks.view().slice(range.start..500).slice(0..range.len()).widen_into(&mut again);
            assert_eq!(again, out);
        }
    }
}

#[test]
fn bytes_are_those_of_the_formats() {
    let tensor = Tensor::from_f32(&[64, 256], Numbers::new(1).vec(64 * 256)).unwrap();
    for (format, bytes) in [
        (BlockFormat::Q8_0, 64 * 256 / 32 * 34),
        (BlockFormat::Q4_0, 64 * 256 / 32 * 18),
        (BlockFormat::Nf4, 64 * 256 / 2 + 256 * 4),
        (BlockFormat::Nf4Double, 64 * 256 / 2 + 256 + 4 + 4),
    ] {
        let packed = tensor.to_dtype(DType::Block(format));
        assert_eq!(
            (packed.owned_bytes(), packed.shape(), packed.len()),
            (bytes, tensor.shape(), tensor.len())
        );
    }
}

#[test]
fn blocks_are_those_of_gguf() {
    // By hand: a largest magnitude of 127 makes a scale of 1 (0x3c00), and of -8 one of 1.
    let values: Vec<f32> = (0..32).map(|i| if i == 5 { 127.0 } else { i as f32 - 16.4 }).collect();
    let q8 = Blocks::quantize(&values, BlockFormat::Q8_0);
    assert_eq!(q8.data()[..2], [0x00, 0x3c]);
    let rounded: Vec<u8> = values.iter().map(|x| (x.round() as i8) as u8).collect();
    assert_eq!(q8.data()[2..], rounded);
    let values: Vec<f32> = (0..32).map(|i| (i % 16) as f32 - 8.0).collect();
    let q4 = Blocks::quantize(&values, BlockFormat::Q4_0);
    assert_eq!(q4.data()[..2], [0x00, 0x3c]);
    let pairs: Vec<u8> = (0..16).map(|i| i | i << 4).collect();
    assert_eq!(q4.data()[2..], pairs);
    assert_eq!(widened(&q4), values);
    assert_eq!(widened(&Blocks::quantize(&[0.0; 40], BlockFormat::Q8_0)), [0.0; 40]);
}

#[test]
fn nf4_is_that_of_bitsandbytes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/nf4.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let len = 64 * 260 + 12;
    let values: Vec<f32> = (0..len)
        .map(|i| ((i * 7919 % 1000) as f64 - 500.0) / 512.0 * (1.0 + (i / 64 % 7) as f64 / 4.0))
        .map(|x| x as f32)
        .collect();
    let codes = file.tensor("codes").unwrap().data().to_vec();
    for (format, name) in [(BlockFormat::Nf4, "plain"), (BlockFormat::Nf4Double, "nested")] {
        let blocks = Blocks::quantize(&values, format);
        assert!(blocks.data()[..len / 2] == codes[..len / 2], "{name}: codes");
        let wanted = file.tensor(&format!("{name}.dequantized")).unwrap();
        let wanted = wanted.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        for (index, (wanted, got)) in wanted.zip(widened(&blocks).iter().step_by(7)).enumerate() {
            // The mean of the scales is summed in f64 here and in f32 there.
            assert!((wanted - got).abs() <= 1e-6, "{name} {index}: {got}, bitsandbytes {wanted}");
        }
    }
}

#[test]
fn products_over_blocks_match_the_f64_reference() {
    let sizes = [(3, 96, 40), (9, 100, 33), (130, 448, 70), (17, 31, 65), (5, 1200, 20)];
    for (rows, inputs, outputs) in sizes {
        let mut numbers = Numbers::new(rows as u64);
        let (x, dy) = (numbers.vec(rows * inputs), numbers.vec(rows * outputs));
        let w = numbers.vec(outputs * inputs);
        for format in BlockFormat::QUANTIZABLE {
            let blocks = Blocks::quantize(&w, format);
            let exact = wide(&widened(&blocks));
            for arithmetic in [Arithmetic::F32, Arithmetic::Bf16] {
                let shape = Shape { rows, inputs, outputs, arithmetic };
                // Rounding of both operands to bf16, 2^-9 each, is at most 2^-8 of the sum of magnitudes, which for
                // numbers of random signs is far above the largest sum; at these sizes up to 10 times.
                let tolerance = if arithmetic == Arithmetic::F32 { 2e-5 } else { 10.0 / 256.0 };
                let mut want = vec![0.0; rows * outputs];
                let mut want_dx = vec![0.0; rows * inputs];
                for r in 0..rows {
                    for o in 0..outputs {
                        for i in 0..inputs {
                            want[r * outputs + o] += f64::from(x[r * inputs + i]) * exact[o * inputs + i];
                            want_dx[r * inputs + i] += f64::from(dy[r * outputs + o]) * exact[o * inputs + i];
                        }
                    }
                }
                let name = format!("{format:?} {shape:?}");
                let (mut y, mut dx) = (vec![f32::NAN; want.len()], vec![f32::NAN; want_dx.len()]);
                linear::forward(&x, View::Block(blocks.view()), None, &mut y, Write::Replace, shape);
                close_within(&name, &y, &want, tolerance);
                linear::backward_input(&dy, View::Block(blocks.view()), &mut dx, Write::Replace, shape);
                close_within(&name, &dx, &want_dx, tolerance);
            }
        }
    }
}

#[test]
fn blocks_in_a_file_hold_what_gguf_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/gguf/blocks.safetensors");
    let file = Arc::new(MappedFile::open(&path).unwrap());
    let tensors = safetensors::SafeTensors::deserialize(file.bytes()).unwrap();
    for format in FORMATS.into_iter().filter(|format| format.has_inline_scales()) {
        let name = format.name();
        let want: Vec<u32> = tensors
            .tensor(&format!("{name}.values"))
            .unwrap()
            .data()
            .chunks_exact(4)
            .map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            .collect();
        let blocks = tensors.tensor(&format!("{name}.blocks")).unwrap().data();
        let start = blocks.as_ptr() as usize - file.bytes().as_ptr() as usize;
        let bytes = start..start + blocks.len();
        let shape = [3, format.elements()];
        let tensor = Tensor::mapped(&file, bytes.clone(), &shape, DType::Block(format)).unwrap();
        assert_eq!((tensor.owned_bytes(), tensor.len()), (0, want.len()), "{name}");
        let bits =
            |tensor: &Tensor| -> Vec<u32> { tensor.to_f32_vec().iter().map(|x| x.to_bits()).collect() };
        // Bit for bit: the reference rounds where these formats' definition says.
        assert_eq!(bits(&tensor), want, "{name}");
        let mut part = vec![f32::NAN; want.len() - 5];
        tensor.view().slice(3..want.len() - 2).widen_into(&mut part);
        assert_eq!(part.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), want[3..want.len() - 2], "{name}");
        // Packed, they are the same numbers.
        assert!(tensor.to_f32_vec() == tensor.packed().unwrap().to_f32_vec(), "{name}");
        // Rows are moved as they are, and stay in the file where they are together.
        let row = |index: usize| want[index * shape[1]..(index + 1) * shape[1]].to_vec();
        let last = tensor.rows(1..3).unwrap();
        assert_eq!((last.owned_bytes(), bits(&last)), (0, [row(1), row(2)].concat()), "{name}");
        let turned = tensor.gather_rows([2, 0]).unwrap();
        assert_eq!(
            (turned.shape(), bits(&turned)),
            (&[2, shape[1]][..], [row(2), row(0)].concat()),
            "{name}"
        );
        assert_eq!(turned.rows(1..2).unwrap().to_f32_vec(), tensor.rows(0..1).unwrap().to_f32_vec());
        assert!(tensor.rows(2..4).is_err() && tensor.gather_rows([3]).is_err(), "{name}");
        let owned = tensor.to_dtype(DType::Block(format));
        assert!(owned.owned_bytes() == blocks.len() && owned.bytes() == blocks, "{name}");
        let halves = [6, format.elements() / 2];
        let halves = Tensor::mapped(&file, bytes.clone(), &halves, DType::Block(format)).unwrap();
        assert!(matches!(halves.rows(0..1), Err(TensorError::Rows { .. })), "{name}");
        let long = Tensor::mapped(&file, bytes, &[4, format.elements()], DType::Block(format));
        assert!(matches!(long, Err(TensorError::Length { found, .. }) if found == want.len()), "{name}");
    }
    let nf4 = Tensor::mapped(&file, 0..36, &[64], DType::Block(BlockFormat::Nf4));
    assert_eq!(nf4.unwrap_err(), TensorError::Blocks("nf4"));
}

#[test]
fn blocks_in_a_file_are_packed_like_those_in_memory() {
    let mut numbers = Numbers::new(12);
    for format in [BlockFormat::Q8_0, BlockFormat::Q4_0] {
        let made = Tensor::from_f32(&[40, 64], numbers.vec(40 * 64)).unwrap().to_dtype(DType::Block(format));
        let place = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(place.path(), made.bytes()).unwrap();
        let file = Arc::new(MappedFile::open(place.path()).unwrap());
        let lies = Tensor::mapped(&file, 0..made.bytes().len(), &[40, 64], DType::Block(format)).unwrap();
        let (from_file, from_memory) = (lies.packed().unwrap(), made.packed().unwrap());
        assert_eq!(from_file.bytes(), from_memory.bytes());
        assert_eq!(from_file.to_f32_vec(), lies.to_f32_vec());
    }
}
