//! Levels of few bits as bytes, for many rows, which would each take them apart anew: records of an order become those of its
//! [`Order::unpacked`].

use std::arch::x86_64::*;

use super::{high_bits, lower, upper};
use crate::matmul::prepacked::order::{Kind, Order, by_kind, kinds};
use crate::matmul::prepacked::{HALVES, LINE};
use crate::memory::scratch::CacheLine;

/// # Safety
/// [`here`](super::here).
pub(in super::super) unsafe fn unpack(order: Order, from: &[CacheLine], to: &mut [CacheLine]) {
    let records = from.len() / order.lines();
    assert!(records * order.unpacked().lines() <= to.len(), "room for {records} records");
    // SAFETY: the contract of the caller; there is room, as was just checked.
    by_kind!(order, K => unsafe { records_of::<K>(records, from.as_ptr(), to.as_mut_ptr()) });
}

/// # Safety
/// AVX-512 F and BW are there, and so many records and room for as many.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn records_of<K: Kind>(records: usize, from: *const CacheLine, to: *mut CacheLine) {
    let (order, wide) = const { (K::ORDER, K::ORDER.unpacked()) };
    // What makes levels that have a sign those of eight bits.
    let more = _mm512_set1_epi8((wide.zero() - order.zero()) as i8);
    // SAFETY: every address lies in a record, as the contract says.
    unsafe {
        let copy =
            |from: *const CacheLine, to: *mut CacheLine, lines: usize| from.copy_to_nonoverlapping(to, lines);
        for record in 0..records {
            let from = from.add(record * order.lines());
            let to = to.add(record * wide.lines());
            copy(from, to, order.head());
            for block in 0..order.blocks() {
                let from = from.add(order.head() + block * order.block_lines());
                let to = to.add(order.head() + block * wide.block_lines());
                copy(from, to, order.scale_lines());
                let high: *const u8 = from.add(order.scale_lines()).cast();
                let first = high.add(LINE * HALVES * order.high());
                let to: *mut u8 = to.add(order.scale_lines()).cast();
                for fold in 0..order.folds() {
                    let [mut down, mut up] = high_bits::<K>(high, fold);
                    for line in 0..K::LINES {
                        let at = first.add(LINE * HALVES * (fold * K::LINES + line));
                        let both = [0, LINE].map(|half| _mm512_load_si512(at.add(half).cast()));
                        let steps = [lower::<K>(both, &mut down), upper::<K>(both, &mut up)];
                        for (later, weights) in steps.into_iter().enumerate() {
                            let step = fold * K::STEPS + later * K::LINES + line;
                            let to = to.add(LINE * HALVES * step);
                            _mm512_store_si512(to.cast(), _mm512_add_epi8(weights[0], more));
                            _mm512_store_si512(to.add(LINE).cast(), _mm512_add_epi8(weights[1], more));
                        }
                    }
                }
            }
        }
    }
}
