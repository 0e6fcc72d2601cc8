//! The order of examples: a permutation, another one each epoch, and never another one in a later version.

use parlor_text::{ShuffleBuffer, epoch_order};
use proptest::prelude::*;

#[test]
fn every_epoch_is_a_permutation_of_its_own() {
    for n in [0, 1, 2, 100] {
        let mut order = epoch_order(n, 42, 3);
        order.sort_unstable();
        assert_eq!(order, (0..n).collect::<Vec<_>>());
    }
    assert_ne!(epoch_order(100, 42, 0), epoch_order(100, 42, 1));
    assert_ne!(epoch_order(100, 42, 0), epoch_order(100, 43, 0));
}

#[test]
fn the_order_is_pinned() {
    // A change here breaks the resumption of runs that an earlier version began.
    assert_eq!(epoch_order(8, 42, 0), [1, 2, 3, 7, 6, 5, 4, 0]);
}

fn buffered(examples: usize, size: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut buffer = ShuffleBuffer::new(size, seed, epoch);
    let mut out: Vec<usize> = (0..examples).filter_map(|example| buffer.push(example)).collect();
    out.extend(buffer.finish());
    out
}

proptest! {
    #[test]
    fn a_buffer_gives_out_each_once_and_none_before_it_is_near(examples in 0..200usize, size in 0..80usize, seed: u64) {
        let order = buffered(examples, size, seed, 0);
        prop_assert!(order.iter().enumerate().all(|(place, &example)| example <= place + size.max(1)));
        prop_assert_eq!(buffered(examples, size, seed, 0), order.clone());
        let mut sorted = order;
        sorted.sort_unstable();
        prop_assert_eq!(sorted, (0..examples).collect::<Vec<_>>());
    }
}

#[test]
fn a_buffer_mixes_as_far_as_it_reaches() {
    assert_eq!(buffered(9, 1, 5, 0), (0..9).collect::<Vec<_>>(), "one at a time is the order of the files");
    assert_ne!(buffered(100, 50, 5, 0), buffered(100, 50, 5, 1), "each epoch has its own");
    assert_ne!(buffered(100, 50, 5, 0), buffered(100, 50, 6, 0));
    // Without a buffer a place is 0 away from where it was; a full shuffle moves by a third of the length on average.
    let moved = |size| {
        let order = buffered(999, size, 5, 0);
        order.iter().enumerate().map(|(place, &example)| place.abs_diff(example)).sum::<usize>() / 999
    };
    assert!(moved(10) < moved(100) && moved(100) < moved(999) && (300..366).contains(&moved(999)));
}
