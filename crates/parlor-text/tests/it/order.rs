//! The order of examples: a permutation, another one each epoch, and never another one in a later version.

use parlor_text::epoch_order;

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
