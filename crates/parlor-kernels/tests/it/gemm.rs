//! gemm with the kernels of every instruction set of the machine, in both precisions, over odd sizes.
//!
//! Bounds: the reference multiplies the very operands of the product (rounded to bf16 where the arithmetic is) in f64,
//! so what is left is the error of f32 sums. Each of `n` additions rounds a partial sum that is at most the sum of
//! magnitudes `m`, so the error is below `n 2^-24 m`, and one more rounding adds what was there. Products of bf16
//! are exact in f32.

use half::{bf16, f16};
use parlor_kernels::matmul::KernelSet;
use parlor_kernels::matmul::gemm::{
    BatchedOperand, GemmKernel, GemmOutput, GemmSize, LowRankEpilogue, Operand, StorageOrder, gemm,
    gemm_batched,
};
use parlor_kernels::{Arithmetic, ValuesMut, View, Write};
use proptest::prelude::*;

use crate::Numbers;

/// A stored matrix with room to the right of its columns, in one dtype, and its values.
struct Stored {
    f32: Vec<f32>,
    bf16: Vec<bf16>,
    f16: Vec<f16>,
    dtype: usize,
    width: usize,
    order: StorageOrder,
}

impl Stored {
    fn new(numbers: &mut Numbers, lanes: usize, depth: usize) -> Self {
        let order = [StorageOrder::KContiguous, StorageOrder::MnContiguous][numbers.below(2)];
        let (rows, columns) =
            if order == StorageOrder::KContiguous { (lanes, depth) } else { (depth, lanes) };
        let width = columns + numbers.below(4);
        let f32 = numbers.vec(rows * width);
        let bf16 = f32.iter().map(|&x| bf16::from_f32(x)).collect();
        let f16 = f32.iter().map(|&x| f16::from_f32(x)).collect();
        Self { f32, bf16, f16, dtype: numbers.below(3), width, order }
    }

    fn operand(&self) -> Operand<'_> {
        let view = match self.dtype {
            0 => View::F32(&self.f32),
            1 => View::Bf16(&self.bf16),
            _ => View::F16(&self.f16),
        };
        Operand { view, width: self.width, order: self.order }
    }

    /// The value at a lane and a K index, as the product has it.
    fn at(&self, arithmetic: Arithmetic, lane: usize, depth: usize) -> f64 {
        let (row, column) =
            if self.order == StorageOrder::KContiguous { (lane, depth) } else { (depth, lane) };
        let index = row * self.width + column;
        let value = match self.dtype {
            0 => self.f32[index],
            1 => self.bf16[index].to_f32(),
            _ => self.f16[index].to_f32(),
        };
        match arithmetic {
            Arithmetic::F32 => f64::from(value),
            Arithmetic::Bf16 => bf16::from_f32(value).to_f64(),
        }
    }
}

fn check(kernel: GemmKernel, arithmetic: Arithmetic, seed: u64, size: GemmSize, write: Write) {
    let GemmSize { rows, columns, depth } = size;
    let mut numbers = Numbers::new(seed);
    let left = Stored::new(&mut numbers, rows, depth);
    let right = Stored::new(&mut numbers, columns, depth);
    let before = numbers.vec(rows * columns);
    let mut dst = before.clone();
    gemm(kernel, &mut dst, (left.operand(), right.operand()), size, write);
    for (index, (&got, &before)) in dst.iter().zip(&before).enumerate() {
        let (row, column) = (index / columns, index % columns);
        let start = if write == Write::Accumulate { f64::from(before) } else { 0.0 };
        let (mut want, mut magnitudes) = (start, start.abs());
        for k in 0..depth {
            let term = left.at(arithmetic, row, k) * right.at(arithmetic, column, k);
            want += term;
            magnitudes += term.abs();
        }
        let bound = (depth + 1) as f64 * 2f64.powi(-24) * magnitudes;
        let error = (f64::from(got) - want).abs();
        assert!(
            error <= bound,
            "{} {arithmetic:?} {size:?} {:?} {:?} [{row}, {column}]: got {got}, want {want}, bound {bound:e}",
            kernel.name(),
            left.order,
            right.order
        );
    }
}

/// The different kernels of all sets.
fn kernels(arithmetic: Arithmetic) -> Vec<GemmKernel> {
    let mut kernels: Vec<_> = KernelSet::all().iter().map(|set| set.gemm(arithmetic)).collect();
    kernels.dedup_by_key(|kernel| kernel.name());
    kernels
}

fn on_every_kernel(seed: u64, size: GemmSize, write: Write) {
    for arithmetic in [Arithmetic::F32, Arithmetic::Bf16] {
        for kernel in kernels(arithmetic) {
            for seed in seed..seed + 4 {
                check(kernel, arithmetic, seed, size, write);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_sizes_match_the_f64_reference(
        seed in any::<u32>(),
        rows in 0usize..70,
        columns in 0usize..70,
        depth in 0usize..130,
        accumulate: bool,
    ) {
        let write = if accumulate { Write::Accumulate } else { Write::Replace };
        on_every_kernel(u64::from(seed), GemmSize { rows, columns, depth }, write);
    }
}

#[test]
fn blocks_of_k_and_chunks_of_columns_join() {
    for size in [
        GemmSize { rows: 5, columns: 33, depth: 1601 },
        GemmSize { rows: 451, columns: 40, depth: 769 },
        GemmSize { rows: 3, columns: 2800, depth: 770 },
    ] {
        on_every_kernel(7, size, Write::Accumulate);
    }
}

#[test]
fn results_do_not_depend_on_where_a_row_lies_or_on_threads() {
    // A batch and its rows one by one: the sums of an element are in the same order.
    let (rows, size) = (37, GemmSize { rows: 37, columns: 50, depth: 900 });
    let mut numbers = Numbers::new(3);
    let (x, w) = (numbers.vec(rows * size.depth), numbers.vec(size.columns * size.depth));
    let stored =
        |values| Operand { view: View::F32(values), width: size.depth, order: StorageOrder::KContiguous };
    for arithmetic in [Arithmetic::F32, Arithmetic::Bf16] {
        for kernel in kernels(arithmetic) {
            let mut all = vec![0.0; rows * size.columns];
            gemm(kernel, &mut all, (stored(&x), stored(&w)), size, Write::Replace);
            for row in 0..rows {
                let mut one = vec![0.0; size.columns];
                let x = &x[row * size.depth..(row + 1) * size.depth];
                gemm(kernel, &mut one, (stored(x), stored(&w)), GemmSize { rows: 1, ..size }, Write::Replace);
                assert_eq!(one, all[row * size.columns..][..size.columns], "{} row {row}", kernel.name());
            }
        }
    }
}

/// A bf16 result is the f32 result rounded once, however K is blocked; accumulation is in f32.
#[test]
fn bf16_results_are_rounded_once() {
    for (rows, columns, depth) in [(1, 1, 1), (37, 300, 63), (451, 40, 1601), (3, 2800, 770), (5, 7, 0)] {
        let mut numbers = Numbers::new(5);
        let (x, w) = (numbers.vec(rows * depth), numbers.vec(columns * depth));
        let stored =
            |values| Operand { view: View::F32(values), width: depth, order: StorageOrder::KContiguous };
        let before: Vec<bf16> = numbers.vec(rows * columns).into_iter().map(bf16::from_f32).collect();
        for arithmetic in [Arithmetic::F32, Arithmetic::Bf16] {
            for kernel in kernels(arithmetic) {
                let mut wide = vec![0.0; rows * columns];
                let size = GemmSize { rows, columns, depth };
                gemm(kernel, &mut wide, (stored(&x), stored(&w)), size, Write::Replace);
                for write in [Write::Replace, Write::Accumulate] {
                    let mut narrow = before.clone();
                    let (left, right) = (stored(&x), stored(&w));
                    let left = BatchedOperand { operand: left, lanes: rows };
                    let right = BatchedOperand { operand: right, lanes: columns };
                    let to = ValuesMut::Bf16(&mut narrow);
                    gemm_batched(
                        kernel,
                        (&[left], &[right]),
                        depth,
                        &mut [GemmOutput { to, write, addend: None, epilogue: None }],
                    );
                    let want = wide.iter().zip(&before).map(|(&sum, before)| match write {
                        Write::Replace => bf16::from_f32(sum),
                        Write::Accumulate => bf16::from_f32(before.to_f32() + sum),
                    });
                    assert!(want.eq(narrow), "{} {rows} {columns} {depth}", kernel.name());
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Batched operands equal, to the bit, single products: odd sizes, empty ones among them.
    #[test]
    fn batched_operands_equal_single_products(
        seed in any::<u32>(),
        rows in prop::collection::vec(0usize..40, 1..4),
        columns in prop::collection::vec(0usize..70, 1..4),
        depth in 0usize..130,
    ) {
        let mut numbers = Numbers::new(u64::from(seed));
        let left: Vec<_> = rows.iter().map(|&lanes| Stored::new(&mut numbers, lanes, depth)).collect();
        let right: Vec<_> = columns.iter().map(|&lanes| Stored::new(&mut numbers, lanes, depth)).collect();
        let operands = left.iter().map(Stored::operand).zip(rows.iter().copied());
        let left: Vec<_> = operands.collect();
        let operands = right.iter().map(Stored::operand).zip(columns.iter().copied());
        let right: Vec<_> = operands.collect();
        let writes = [Write::Replace, Write::Accumulate];
        for arithmetic in [Arithmetic::F32, Arithmetic::Bf16] {
            for kernel in kernels(arithmetic) {
                let (mut alone, mut together, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
                for &(left, rows) in &left {
                    for &(right, columns) in &right {
                        let mut to = numbers.vec(rows * columns);
                        together.push(to.clone());
                        let write = writes[numbers.below(2)];
                        kinds.push(write);
                        gemm(kernel, &mut to, (left, right), GemmSize { rows, columns, depth }, write);
                        alone.push(to);
                    }
                }
                let results = together.iter_mut().zip(&kinds);
                let mut results: Vec<_> = results.map(|(to, &write)| GemmOutput { to: to.into(), write, addend: None, epilogue: None }).collect();
                let batched = |&(operand, lanes): &(_, _)| BatchedOperand { operand, lanes };
                let batches: [Vec<_>; 2] = [left.iter().map(batched).collect(), right.iter().map(batched).collect()];
                gemm_batched(kernel, (&batches[0], &batches[1]), depth, &mut results);
                prop_assert_eq!(&alone, &together, "{}", kernel.name());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// A low-rank epilogue equals, to the bit, a second product that is accumulated.
    #[test]
    fn low_rank_epilogues_equal_second_products(
        seed in any::<u32>(),
        rows in 0usize..60,
        columns in prop::collection::vec((0usize..300, prop::option::of(0usize..70)), 1..4),
        depth in 1usize..900,
    ) {
        let mut numbers = Numbers::new(u64::from(seed));
        let left = Stored::new(&mut numbers, rows, depth);
        let each = columns.iter().map(|&(columns, rank)| {
            let right = Stored::new(&mut numbers, columns, depth);
            let epilogue = rank.map(|rank| {
                (Stored::new(&mut numbers, rows, rank), Stored::new(&mut numbers, columns, rank), rank)
            });
            (columns, right, epilogue)
        });
        let each: Vec<_> = each.collect();
        for arithmetic in [Arithmetic::F32, Arithmetic::Bf16] {
            for kernel in kernels(arithmetic) {
                let mut apart = Vec::new();
                for (columns, right, epilogue) in &each {
                    let mut to = vec![f32::NAN; rows * columns];
                    let size = GemmSize { rows, columns: *columns, depth };
                    gemm(kernel, &mut to, (left.operand(), right.operand()), size, Write::Replace);
                    if let Some((left, right, depth)) = epilogue {
                        let size = GemmSize { depth: *depth, ..size };
                        gemm(kernel, &mut to, (left.operand(), right.operand()), size, Write::Accumulate);
                    }
                    apart.push(to);
                }
                let mut together: Vec<_> = apart.iter().map(|to| vec![f32::NAN; to.len()]).collect();
                let results = together.iter_mut().zip(&each).map(|(to, (.., epilogue))| GemmOutput {
                    to: to.into(),
                    write: Write::Replace,
                    addend: None,
                    epilogue: epilogue.as_ref().map(|(left, right, depth)| LowRankEpilogue {
                        a: left.operand(),
                        b: right.operand(),
                        depth: *depth,
                    }),
                });
                let mut results: Vec<_> = results.collect();
                let batches = each.iter().map(|(lanes, right, _)| BatchedOperand { operand: right.operand(), lanes: *lanes });
                let left = BatchedOperand { operand: left.operand(), lanes: rows };
                gemm_batched(kernel, (&[left], &batches.collect::<Vec<_>>()), depth, &mut results);
                prop_assert_eq!(&apart, &together, "{}", kernel.name());
            }
        }
    }
}
