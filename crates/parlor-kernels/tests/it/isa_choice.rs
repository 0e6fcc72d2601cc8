//! Which instruction sets are used, when one is asked for.

use parlor_kernels::cpu::isa::{self, Isa, IsaError};
use parlor_kernels::cpu::roofline;
use parlor_kernels::matmul::KernelSet;

use crate::Numbers;

#[test]
fn names_are_known_or_listed() {
    for isa in Isa::ALL {
        assert_eq!(Isa::from_name(isa.name()), Ok(isa));
    }
    let message = Isa::from_name("sse9").unwrap_err().to_string();
    assert_eq!(message, "`sse9` is no instruction set; use `auto`, `portable`, `neon`, `avx2`, `avx512`");
    assert_eq!(Isa::available().first(), Some(&Isa::Portable));
}

/// The kernels of a level and of all below it are offered, the fastest first, and none above it; kernels that a set does not have
/// come from a lower one.
#[test]
fn kernels_are_those_of_the_level_in_use() {
    // Reads the level that was asked for.
    let _ = Numbers::new(1);
    let current = Isa::current();
    for other in Isa::available().into_iter().filter(|isa| *isa != current) {
        assert_eq!(isa::force(other), Err(IsaError::InUse(current.name())));
    }
    assert_eq!(isa::force(current), Ok(()));
    let sets = KernelSet::all();
    let mut levels: Vec<Isa> = sets.iter().map(KernelSet::isa).collect();
    assert!(levels.is_sorted_by(|a, b| a >= b), "{levels:?}");
    levels.dedup();
    levels.reverse();
    let below: Vec<Isa> = Isa::available().into_iter().filter(|isa| *isa <= current).collect();
    assert_eq!(levels, below, "one set or more of each level");
    for set in &sets {
        let own = |name: &str| sets.iter().any(|other| other.name() == name && other.isa() <= set.isa());
        assert!(set.kernel_names().into_iter().all(own), "{}: {:?}", set.name(), set.kernel_names());
    }
    assert_eq!(KernelSet::best().name(), sets[0].name());
    let portable = sets.last().unwrap();
    assert_eq!(portable.kernel_names(), ["portable"; 5]);
}

/// The roofline has a rate for bf16 and int8 exactly where there are kernels for them.
#[test]
fn the_roofline_knows_the_instructions_in_use() {
    let _ = Numbers::new(1);
    let roofline = roofline::measure(1 << 22).unwrap();
    let has = |name| KernelSet::all().iter().any(|set| set.name() == name);
    assert_eq!(roofline.bf16.is_some(), has("avx512bf16"));
    assert_eq!(roofline.int8.is_some(), has("avx512vnni"));
}
