//! Counts of steps, and the order of examples.

use parlor_text::epoch_order;
use parlor_train::StepPlan;
use proptest::prelude::*;

use crate::tiny;

#[test]
fn counts_follow_hf() {
    let check = |examples, batch, accumulation, epochs, max_steps, expected: (u64, u64)| {
        let mut hyper = tiny::hyper();
        hyper.per_device_train_batch_size = batch;
        hyper.gradient_accumulation_steps = accumulation;
        hyper.num_train_epochs = epochs;
        hyper.max_steps = max_steps;
        let plan = StepPlan::new(examples, &hyper, 1);
        assert_eq!((plan.steps_per_epoch, plan.total_steps), expected);
    };
    check(20, 4, 1, 2, -1, (5, 10));
    check(21, 4, 1, 2, -1, (6, 12));
    check(21, 4, 2, 3, -1, (3, 9));
    check(1, 8, 8, 1, -1, (1, 1));
    check(20, 4, 1, 2, 7, (5, 7));
}

#[test]
fn warm_up_comes_from_steps_or_ratio() {
    let check = |steps, ratio, expected| {
        let mut hyper = tiny::hyper();
        hyper.warmup_steps = steps;
        hyper.warmup_ratio = ratio;
        assert_eq!(StepPlan::new(20, &hyper, 1).warmup_steps, expected);
    };
    check(0, 0.0, 0);
    check(0, 0.25, 3);
    check(4, 0.25, 4);
}

proptest! {
    #[test]
    fn every_epoch_takes_every_example_once(
        examples in 1usize..200, batch in 1usize..9, accumulation in 1usize..5, seed in any::<u64>()
    ) {
        let mut hyper = tiny::hyper();
        hyper.per_device_train_batch_size = batch;
        hyper.gradient_accumulation_steps = accumulation;
        let plan = StepPlan::new(examples, &hyper, 1);
        let mut orders = Vec::new();
        for epoch in 0..2 {
            let order = epoch_order(examples, seed, epoch);
            let first = epoch * plan.steps_per_epoch;
            let mut taken: Vec<usize> = (first..first + plan.steps_per_epoch)
                .flat_map(|step| order[plan.places(step)].to_vec())
                .collect();
            prop_assert_eq!(&taken, &order);
            taken.sort_unstable();
            prop_assert_eq!(taken, (0..examples).collect::<Vec<_>>());
            orders.push(order);
        }
        if examples > 20 {
            prop_assert_ne!(&orders[0], &orders[1]);
        }
    }
}
