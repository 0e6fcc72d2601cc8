//! Products with prepacked weights with the kernels of every instruction set, against f64 over the same rounded operands.
//!
//! Bounds: sums over a block are exact integers. What rounds is their conversion (24 bits hold any of them at 4 bits, at 8
//! it may round), the product of the two scales, and one fused addition per block, each by 2^-24 of what it makes: below
//! `(blocks + 3) 2^-24` of the sum of magnitudes.

use half::{bf16, f16};
use parlor_kernels::linear::{self, Shape};
use parlor_kernels::matmul::KernelSet;
use parlor_kernels::matmul::prepacked::int8::{self, Int8Kernel, QuantizedActivations};
use parlor_kernels::matmul::prepacked::{PrepackedOutput, bf16 as packed_bf16};
use parlor_kernels::memory::PrepackedWeight;
use parlor_kernels::{Arithmetic, BlockFormat, Blocks, DType, MappedFile, Tensor, View, Write};
use proptest::prelude::*;

use crate::Numbers;

fn forward(
    kernel: Int8Kernel,
    x: &QuantizedActivations,
    weight: &PrepackedWeight,
    y: &mut [f32],
    write: Write,
) {
    int8::forward(kernel, x, &mut [PrepackedOutput { weight, y, write, bias: None }]);
}

/// The different int8 kernels of all sets.
fn int8_kernels() -> Vec<Int8Kernel> {
    let mut kernels: Vec<_> = KernelSet::all().iter().map(KernelSet::int8).collect();
    kernels.dedup_by_key(|kernel| kernel.name());
    kernels
}

/// The different bf16 kernels of all sets.
fn bf16_kernels() -> Vec<packed_bf16::Bf16Kernel> {
    let mut kernels: Vec<_> = KernelSet::all().iter().map(KernelSet::bf16).collect();
    kernels.dedup_by_key(|kernel| kernel.name());
    kernels
}

/// All formats.
pub(crate) const FORMATS: [BlockFormat; 10] = [
    BlockFormat::Q8_0,
    BlockFormat::Q4_0,
    BlockFormat::Q4_1,
    BlockFormat::Q5_0,
    BlockFormat::Q5_1,
    BlockFormat::Q4K,
    BlockFormat::Q5K,
    BlockFormat::Q6K,
    BlockFormat::Nf4,
    BlockFormat::Nf4Double,
];

/// Random numbers in a format; blocks of formats that this crate only reads are random bits, with factors of some thousandths.
fn weight(format: BlockFormat, numbers: &mut Numbers, outputs: usize, columns: usize) -> Tensor {
    if BlockFormat::QUANTIZABLE.contains(&format) {
        let values = numbers.vec(outputs * columns);
        return Tensor::from_f32(&[outputs, columns], values).unwrap().to_dtype(DType::Block(format));
    }
    let (size, factors) = (format.bytes(format.elements()), factors(format));
    let mut bytes = Vec::new();
    for _ in 0..outputs * columns / format.elements() {
        let start = bytes.len();
        bytes.extend(numbers.vec(size).iter().map(|x| (x.abs() * 256.0) as u8));
        for (&at, factor) in factors.iter().zip(numbers.vec(2)) {
            let factor = f16::from_f32(LARGEST_FACTOR * if offsets(format) { factor.abs() } else { factor });
            bytes[start + at..][..2].copy_from_slice(&factor.to_le_bytes());
        }
    }
    mapped(&bytes, format, outputs, columns)
}

const LARGEST_FACTOR: f32 = 0.01;

/// Where a block has its factors of f16.
fn factors(format: BlockFormat) -> &'static [usize] {
    match format {
        BlockFormat::Q6K => &[208],
        _ if offsets(format) => &[0, 2],
        _ => &[0],
    }
}

/// Whether levels have no sign, and something is added to them or taken away.
fn offsets(format: BlockFormat) -> bool {
    matches!(format, BlockFormat::Q4_1 | BlockFormat::Q5_1 | BlockFormat::Q4K | BlockFormat::Q5K)
}

/// The most that a scaled level and an offset of [`weight`] come to where they are summed apart.
fn apart(format: BlockFormat) -> f64 {
    let (levels, scales) = match format {
        BlockFormat::Q4_1 => (16, 1),
        BlockFormat::Q5_1 => (32, 1),
        BlockFormat::Q4K => (16, 63),
        _ => (32, 63),
    };
    f64::from(LARGEST_FACTOR * (levels * scales) as f32)
}

/// `bytes` as a weight in a file.
fn mapped(bytes: &[u8], format: BlockFormat, outputs: usize, columns: usize) -> Tensor {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let file = std::sync::Arc::new(MappedFile::open(file.path()).unwrap());
    Tensor::mapped(&file, 0..bytes.len(), &[outputs, columns], DType::Block(format)).unwrap()
}

fn check(format: BlockFormat, seed: u64, rows: usize, outputs: usize, blocks: usize, write: Write) {
    let columns = 32 * blocks;
    let mut numbers = Numbers::new(seed);
    let weight = weight(format, &mut numbers, outputs, columns);
    let packed = weight.view().prepack(columns).unwrap();
    let mut wide = vec![0.0; outputs * columns];
    packed.view().widen_into(&mut wide);
    for row in 0..outputs {
        let mut own = vec![0.0; columns - 3];
        packed.widen(row, 3, &mut own);
        assert_eq!(own, wide[row * columns + 3..(row + 1) * columns], "row {row} widened");
    }
    for (own, stored) in wide.chunks(64).zip(weight.to_f32_vec().chunks(64)) {
        // Numbers are those of the format, but that the levels of NF4 are whole 112ths.
        let max = stored.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        let nf4 = matches!(format, BlockFormat::Nf4 | BlockFormat::Nf4Double);
        let bound = if nf4 { 0.5001 / 112.0 * max } else { 0.0 };
        for (own, stored) in own.iter().zip(stored) {
            assert!((own - stored).abs() <= bound, "{own} for {stored} in {}", format.name());
        }
    }
    let x = numbers.vec(rows * columns);
    let inputs = QuantizedActivations::quantize(KernelSet::best().int8(), &x, columns);
    for (at, &x) in x.iter().enumerate() {
        let (row, block) = (at / columns, at % columns / 32);
        let own = &x_block(&inputs, row, block);
        let max = own.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        let error = (inputs.value(row, at % columns) - x).abs();
        // Half a step of 1/127 of the largest, and the rounding of the scale itself.
        assert!(error <= max * (0.5001 / 127.0), "input {x} became {}", inputs.value(row, at % columns));
    }
    let before = numbers.vec(rows * outputs);
    let mut wants = Vec::new();
    for (row, output) in (0..rows).flat_map(|row| (0..outputs).map(move |output| (row, output))) {
        let start = if write == Write::Accumulate { f64::from(before[row * outputs + output]) } else { 0.0 };
        let (mut want, mut magnitudes) = (start, start.abs());
        for column in 0..columns {
            let x = f64::from(inputs.value(row, column));
            let term = x * f64::from(wide[output * columns + column]);
            want += term;
            magnitudes += if offsets(format) { apart(format) * x.abs() } else { term.abs() };
        }
        // Halves of a block of `Q6_K` are added one after the other, as are scaled levels and offsets.
        let twice = format == BlockFormat::Q6K || offsets(format);
        let additions = if twice { 2 * blocks } else { blocks };
        wants.push((want, (additions + 4) as f64 * 2f64.powi(-24) * magnitudes));
    }
    let mut results = Vec::new();
    for kernel in int8_kernels() {
        let mut y = before.clone();
        let own = QuantizedActivations::quantize(kernel, &x, columns);
        forward(kernel, &own, &packed, &mut y, write);
        for (at, (&got, &(want, bound))) in y.iter().zip(&wants).enumerate() {
            let (name, got) = (kernel.name(), f64::from(got));
            assert!(
                (got - want).abs() <= bound,
                "{name}: {got} and {want}, {} {}",
                at / outputs,
                at % outputs
            );
        }
        results.push(y);
    }
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "the same with every kernel");
    // A row is the same whichever rows it is computed with.
    if let Some(last) = rows.checked_sub(1) {
        let alone = QuantizedActivations::quantize(KernelSet::best().int8(), &x[last * columns..], columns);
        let mut y = before[last * outputs..].to_vec();
        forward(KernelSet::best().int8(), &alone, &packed, &mut y, write);
        assert!(y == results[0][last * outputs..], "one row and {rows}");
    }
}

fn x_block(inputs: &QuantizedActivations, row: usize, block: usize) -> Vec<f32> {
    (0..32).map(|column| inputs.value(row, block * 32 + column)).collect()
}

/// bf16 on every path. Operands are exact; what rounds is every addition in f32 (a path may add a pair at once, or its products one
/// by one): at most `columns + 4` of them, by 2^-24 of the sum of magnitudes each. Subnormals may count as zero.
fn check_bf16(seed: u64, rows: usize, outputs: usize, columns: usize, write: Write, with_bias: bool) {
    let mut numbers = Numbers::new(seed);
    let narrow = |x: &f32| bf16::from_f32(*x);
    let weight: Vec<bf16> = numbers.vec(outputs * columns).iter().map(narrow).collect();
    let packed = View::Bf16(&weight).prepack(columns).unwrap();
    for row in 0..outputs {
        let mut own = vec![0.0; columns - 1];
        packed.widen(row, 1, &mut own);
        let want = weight[row * columns + 1..(row + 1) * columns].iter().map(|w| w.to_f32());
        assert!(own.into_iter().eq(want), "row {row} widened");
    }
    let x = numbers.vec(rows * columns);
    let (bias, before) = (numbers.vec(outputs), numbers.vec(rows * outputs));
    let bias = with_bias.then_some(&bias[..]);
    let mut results = Vec::new();
    for kernel in bf16_kernels() {
        let mut y = before.clone();
        packed_bf16::forward(kernel, &x, &mut [PrepackedOutput { weight: &packed, y: &mut y, write, bias }]);
        results.push((kernel.name(), y));
    }
    // What a model calls, which may widen the weight.
    let mut y = before.clone();
    let shape = Shape { rows, inputs: columns, outputs, arithmetic: Arithmetic::F32 };
    linear::forward(&x, View::Packed(packed.view()), bias, &mut y, write, shape);
    results.push(("linear", y));
    for (name, y) in results {
        for row in 0..rows {
            for output in 0..outputs {
                let mut want = bias.map_or(0.0, |bias| f64::from(bias[output]));
                if write == Write::Accumulate {
                    want += f64::from(before[row * outputs + output]);
                }
                let mut magnitudes = want.abs();
                for column in 0..columns {
                    let term = narrow(&x[row * columns + column]).to_f64()
                        * weight[output * columns + column].to_f64();
                    want += term;
                    magnitudes += term.abs();
                }
                let got = f64::from(y[row * outputs + output]);
                let bound = (columns + 4) as f64 * 2f64.powi(-24) * magnitudes;
                assert!((got - want).abs() <= bound, "{name}: {got} and {want}, {row} {output}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn prepacked_bf16_products_match_the_f64_reference(
        seed: u64, rows in 0..70usize, outputs in 1..100usize, columns in 1..200usize, more: bool, bias: bool,
    ) {
        check_bf16(seed, rows, outputs, columns, if more { Write::Accumulate } else { Write::Replace }, bias);
    }
}

#[test]
fn blocks_of_k_and_groups_of_panels_join() {
    // As pairs, and as f32 panels where a model widens them.
    check_bf16(1, 31, 300, 1801, Write::Replace, true);
    check_bf16(3, 45, 300, 1801, Write::Replace, true);
    check_bf16(2, 5, 700, 1801, Write::Accumulate, true);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn prepacked_int8_products_match_the_f64_reference(
        seed: u64, rows in 0..20usize, outputs in 1..100usize, blocks in 1..5usize, kind in 0..FORMATS.len(),
        more: bool,
    ) {
        let format = FORMATS[kind];
        check(format, seed, rows, outputs, blocks * format.elements() / 32, if more { Write::Accumulate } else { Write::Replace });
    }
}

#[test]
fn many_rows_and_many_panels() {
    for format in FORMATS {
        let whole = format.elements() / 32;
        check(format, 7, 259, 33, 2 * whole, Write::Replace);
        check(format, 8, 3, 2000, 9 * whole, Write::Replace);
    }
    // Groups of three panels in tasks of four, and other such.
    for format in [BlockFormat::Q8_0, BlockFormat::Q4_0, BlockFormat::Q4K, BlockFormat::Q6K] {
        check(format, 9, 17, 2300, 64, Write::Replace);
    }
}

#[test]
fn non_finite_activations_reach_every_output() {
    let weight = Blocks::quantize(&Numbers::new(3).vec(20 * 64), BlockFormat::Q8_0);
    let packed = View::Block(weight.view()).prepack(64).unwrap();
    let narrow: Vec<bf16> = Numbers::new(3).vec(20 * 64).iter().map(|&w| bf16::from_f32(w)).collect();
    let pairs = View::Bf16(&narrow).prepack(64).unwrap();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = vec![0.5; 2 * 64];
        x[70] = bad;
        for kernel in bf16_kernels() {
            let mut y = vec![0.0; 40];
            let output = PrepackedOutput { weight: &pairs, y: &mut y, write: Write::Replace, bias: None };
            packed_bf16::forward(kernel, &x, &mut [output]);
            assert!(y[..20].iter().all(|y| y.is_finite()), "{}", kernel.name());
            assert!(y[20..].iter().all(|y| !y.is_finite()), "{}: {:?}", kernel.name(), &y[20..]);
        }
        for kernel in int8_kernels() {
            let mut y = vec![0.0; 40];
            forward(
                kernel,
                &QuantizedActivations::quantize(KernelSet::best().int8(), &x, 64),
                &packed,
                &mut y,
                Write::Replace,
            );
            assert!(y[..20].iter().all(|y| y.is_finite()), "{}", kernel.name());
            assert!(y[20..].iter().all(|y| !y.is_finite()), "{}: {:?}", kernel.name(), &y[20..]);
        }
    }
}

#[test]
fn partial_blocks_are_not_prepacked() {
    let values = Numbers::new(4).vec(64 * 3);
    assert!(View::Block(Blocks::quantize(&values, BlockFormat::Nf4).view()).prepack(32).is_none());
    assert!(weight(BlockFormat::Q6K, &mut Numbers::new(5), 6, 128).view().prepack(128).is_none());
    assert!(View::Block(Blocks::quantize(&values, BlockFormat::Q8_0).view()).prepack(48).is_none());
}

/// A weight in a file waits for its second product, and nothing shows when it was packed: products, and rows that are looked
/// up, are the same to the bit. 77 rows are no whole panel.
#[test]
fn a_mapped_weight_is_packed_lazily() {
    let (outputs, columns) = (77, 128);
    let directory = tempfile::tempdir().unwrap();
    for (dtype, rows) in [
        (DType::Bf16, 1),
        (DType::Bf16, 5),
        (DType::Bf16, 40),
        (DType::Block(BlockFormat::Q8_0), 1),
        (DType::Block(BlockFormat::Q8_0), 40),
        (DType::Block(BlockFormat::Q4_0), 7),
        (DType::Block(BlockFormat::Q4_0), 40),
    ] {
        let mut numbers = Numbers::new(21);
        let made = Tensor::from_f32(&[outputs, columns], numbers.vec(outputs * columns)).unwrap();
        let made = made.to_dtype(dtype);
        let path = directory.path().join(format!("{}-{rows}", dtype.name()));
        std::fs::write(&path, made.bytes()).unwrap();
        let file = std::sync::Arc::new(MappedFile::open(&path).unwrap());
        let lies = || Tensor::mapped(&file, 0..made.bytes().len(), &[outputs, columns], dtype).unwrap();
        let (x, bias) = (numbers.vec(rows * columns), numbers.vec(outputs));
        let forward = |weight: &Tensor| {
            let mut y = vec![0.0; rows * outputs];
            let shape = Shape { rows, inputs: columns, outputs, arithmetic: Arithmetic::F32 };
            linear::forward(&x[..], weight.view(), Some(&bias), &mut y, Write::Replace, shape);
            y
        };
        let at_once = made.packed().unwrap();
        let want = forward(&at_once);
        let waits = lies().packed().unwrap();
        for time in ["first", "second", "third"] {
            assert_eq!(waits.to_f32_vec(), at_once.to_f32_vec(), "{dtype:?}: before the {time}");
            assert!(forward(&waits) == want, "{dtype:?}, {rows} rows: the {time} product");
        }
        assert_eq!(waits.bytes(), at_once.bytes(), "{dtype:?}");
        // Several at once, of which one is the first and one packs.
        let waits = lies().packed().unwrap();
        std::thread::scope(|scope| {
            let products: Vec<_> = (0..4).map(|_| scope.spawn(|| forward(&waits))).collect();
            products.into_iter().for_each(|product| assert!(product.join().unwrap() == want, "{dtype:?}"));
        });
    }
}

/// Quants at the ends of their range, which a file may hold though no quantizer makes them, with activations at the ends of theirs:
/// the sums of a kernel that adds in 16 bits are at their largest.
#[test]
fn extreme_quants_do_not_overflow() {
    let (outputs, columns) = (40, 512);
    let mut numbers = Numbers::new(11);
    for format in FORMATS.into_iter().filter(|format| format.has_inline_scales()) {
        let ends: [u8; 4] =
            if format == BlockFormat::Q8_0 { [0x80, 0x81, 0x7F, 0x80] } else { [0, 0xFF, 0xF0, 0] };
        let mut bytes = Vec::new();
        for _ in 0..outputs * columns / format.elements() {
            let (start, same) = (bytes.len(), numbers.below(4));
            let size = format.bytes(format.elements());
            bytes.extend((0..size).map(|_| ends[if same < 2 { same } else { numbers.below(4) }]));
            for &at in factors(format) {
                bytes[start + at..][..2].copy_from_slice(&f16::ONE.to_le_bytes());
            }
        }
        let weight = mapped(&bytes, format, outputs, columns);
        let wide = weight.to_f32_vec();
        let packed = weight.view().prepack(columns).unwrap();
        let x: Vec<f32> = (0..5 * columns)
            .map(|at| if at < columns { 1.0 } else { [1.0, -1.0][numbers.below(2)] })
            .collect();
        let inputs = QuantizedActivations::quantize(KernelSet::best().int8(), &x, columns);
        for kernel in int8_kernels() {
            let mut y = vec![0.0; 5 * outputs];
            forward(kernel, &inputs, &packed, &mut y, Write::Replace);
            for (at, y) in y.iter().enumerate() {
                let (row, output) = (at / outputs, at % outputs);
                let own = &wide[output * columns..(output + 1) * columns];
                let terms = x[row * columns..].iter().zip(own).map(|(x, w)| f64::from(*x) * f64::from(*w));
                let want: f64 = terms.sum();
                // The inputs' scale, 1 / 127, is not exact; and each block rounds, twice where its parts are added apart.
                let largest = own.iter().fold(0.0f32, |most, weight| most.max(weight.abs()));
                let apart = if offsets(format) { apart(format) / f64::from(LARGEST_FACTOR) } else { 0.0 };
                let additions = (columns / 16 + 8) as f64;
                let bound = additions * 2f64.powi(-24) * columns as f64 * f64::from(largest).max(apart);
                let y = f64::from(*y);
                assert!((y - want).abs() <= bound, "{} {}: {y} and {want}", format.name(), kernel.name());
            }
        }
    }
}
