//! Block formats: the error of quantizing, bytes and values against ggml and bitsandbytes, products against f64.

use std::path::Path;
use std::sync::Arc;

use parlor_kernels::linear::{self, Shape};
use parlor_kernels::{Arithmetic, BlockFormat, Blocks, DType, MappedFile, Tensor, TensorError, View, Write};

use crate::prepacked::FORMATS;
use crate::{Numbers, wide};

fn widened(blocks: &Blocks) -> Vec<f32> {
    let mut out = vec![f32::NAN; blocks.len()];
    blocks.view().widen_into(&mut out);
    out
}

/// The largest quantization error, in units of the block's largest magnitude.
fn largest_error(format: BlockFormat) -> f64 {
    match format {
        BlockFormat::Q8_0 => 0.5 / 127.0,
        // Quants -8 to 7 of an eighth: beyond 7 a whole step is lost.
        BlockFormat::Q4_0 => 1.0 / 8.0,
        // Half of the widest gap in the codebook.
        _ => (1.0 - 0.696_192_8) / 2.0,
    }
}

#[test]
fn quantization_errors_are_within_half_a_step() {
    for format in BlockFormat::QUANTIZABLE {
        for len in [0, 1, 31, 64, 65, 700, 64 * 1024 + 33, 64 * 2000] {
            let mut numbers = Numbers::new(len as u64 + 5);
            let values: Vec<f32> =
                numbers.vec(len).iter().enumerate().map(|(i, x)| x * (1.0 + (i / 640) as f32)).collect();
            let blocks = Blocks::quantize(&values, format);
            assert_eq!(blocks.len(), len);
            // f16 scales have a relative error of 2^-11. Doubly quantized scales are off by half of the widest step of the
            // dynamic map, 0.6% of the largest deviation from their mean.
            let spread = values.iter().fold(0.0f32, |max, x| max.max(x.abs()));
            let nested = if format == BlockFormat::Nf4Double { 0.006 * f64::from(spread) } else { 0.0 };
            for (values, got) in
                values.chunks(format.elements()).zip(widened(&blocks).chunks(format.elements()))
            {
                let max = f64::from(values.iter().fold(0.0f32, |max, x| max.max(x.abs())));
                let bound = max * (largest_error(format) + 1.0 / 2048.0 + 1e-6) + nested;
                for (x, got) in values.iter().zip(got) {
                    let error = f64::from(x - got).abs();
                    assert!(error <= bound, "{format:?} {len}: {x} became {got}, bound {bound}");
                }
            }
        }
    }
}

#[test]
fn ranges_may_begin_and_end_within_blocks() {
    let values = Numbers::new(4).vec(500);
    for format in BlockFormat::QUANTIZABLE {
        let blocks = Blocks::quantize(&values, format);
        let whole = widened(&blocks);
        for range in [0..500, 3..3, 1..2, 31..33, 5..70, 63..65, 100..499, 64..128] {
            let mut out = vec![f32::NAN; range.len()];
            blocks.view().slice(range.clone()).widen_into(&mut out);
            assert_eq!(out, whole[range.clone()], "{format:?} {range:?}");
            let mut nested = vec![f32::NAN; range.len()];
            blocks.view().slice(range.start..500).slice(0..range.len()).widen_into(&mut nested);
            assert_eq!(nested, out);
        }
    }
}

#[test]
fn sizes_follow_from_the_formats() {
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
fn quantized_bytes_are_those_of_ggml() {
    // A largest magnitude of 127 gives a Q8_0 scale of 1 (0x3c00), and one of -8 a Q4_0 scale of 1.
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
    let quants = file.tensor("codes").unwrap().data().to_vec();
    for (format, name) in [(BlockFormat::Nf4, "plain"), (BlockFormat::Nf4Double, "nested")] {
        let blocks = Blocks::quantize(&values, format);
        assert!(blocks.data()[..len / 2] == quants[..len / 2], "{name}: quants");
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
                // Products, and the sums of their magnitudes, which the errors are in proportion to.
                let mut want = vec![(0.0, 0.0); rows * outputs];
                let mut want_dx = vec![(0.0, 0.0); rows * inputs];
                let add =
                    |sum: &mut (f64, f64), product: f64| *sum = (sum.0 + product, sum.1 + product.abs());
                for r in 0..rows {
                    for o in 0..outputs {
                        for i in 0..inputs {
                            let weight = exact[o * inputs + i];
                            add(&mut want[r * outputs + o], f64::from(x[r * inputs + i]) * weight);
                            add(&mut want_dx[r * inputs + i], f64::from(dy[r * outputs + o]) * weight);
                        }
                    }
                }
                let name = format!("{format:?} {shape:?}");
                // Each term and each addition is rounded, by 2^-24; for bf16 also both operands, by 2^-9 each.
                let operands =
                    if arithmetic == Arithmetic::F32 { 0.0 } else { 2.0 * 2f64.powi(-9) + 2f64.powi(-18) };
                let check = |got: &[f32], want: &[(f64, f64)], terms: usize| {
                    let relative = operands + (terms + 1) as f64 * 2f64.powi(-24);
                    for (got, (want, magnitude)) in got.iter().zip(want) {
                        let error = (f64::from(*got) - want).abs();
                        assert!(
                            error <= relative * magnitude,
                            "{name}: {got}, want {want}, sum of {magnitude}"
                        );
                    }
                };
                let (mut y, mut dx) = (vec![f32::NAN; want.len()], vec![f32::NAN; want_dx.len()]);
                linear::forward(&x, View::Block(blocks.view()), None, &mut y, Write::Replace, shape);
                check(&y, &want, inputs);
                linear::backward_input(&dy, View::Block(blocks.view()), &mut dx, Write::Replace, shape);
                check(&dx, &want_dx, outputs);
            }
        }
    }
}

#[test]
fn mapped_blocks_widen_as_in_gguf() {
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
        // Bit for bit: the reference rounds at the same steps.
        assert_eq!(bits(&tensor), want, "{name}");
        let mut part = vec![f32::NAN; want.len() - 5];
        tensor.view().slice(3..want.len() - 2).widen_into(&mut part);
        assert_eq!(part.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), want[3..want.len() - 2], "{name}");
        // Prepacked, the numbers are the same.
        assert!(tensor.to_f32_vec() == tensor.packed().unwrap().to_f32_vec(), "{name}");
        // Rows are moved bit for bit, and contiguous ones stay in the file.
        let row = |index: usize| want[index * shape[1]..(index + 1) * shape[1]].to_vec();
        let last = tensor.rows(1..3).unwrap();
        assert_eq!((last.owned_bytes(), bits(&last)), (0, [row(1), row(2)].concat()), "{name}");
        let reordered = tensor.gather_rows([2, 0]).unwrap();
        assert_eq!(
            (reordered.shape(), bits(&reordered)),
            (&[2, shape[1]][..], [row(2), row(0)].concat()),
            "{name}"
        );
        assert_eq!(reordered.rows(1..2).unwrap().to_f32_vec(), tensor.rows(0..1).unwrap().to_f32_vec());
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
fn mapped_blocks_are_prepacked_like_owned_ones() {
    let mut numbers = Numbers::new(12);
    for format in [BlockFormat::Q8_0, BlockFormat::Q4_0] {
        let owned = Tensor::from_f32(&[40, 64], numbers.vec(40 * 64)).unwrap().to_dtype(DType::Block(format));
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), owned.bytes()).unwrap();
        let file = Arc::new(MappedFile::open(path.path()).unwrap());
        let mapped = Tensor::mapped(&file, 0..owned.bytes().len(), &[40, 64], DType::Block(format)).unwrap();
        let (from_file, from_memory) = (mapped.packed().unwrap(), owned.packed().unwrap());
        assert_eq!(from_file.bytes(), from_memory.bytes());
        assert_eq!(from_file.to_f32_vec(), mapped.to_f32_vec());
    }
}
