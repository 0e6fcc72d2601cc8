//! Which instruction sets are used, when one is asked for.

use parlor_kernels::Arithmetic;
use parlor_kernels::cpu::isa::{self, Isa, IsaError};
use parlor_kernels::cpu::roofline;
use parlor_kernels::matmul::gemm::Path;
use parlor_kernels::matmul::prepacked::{PackedPath, PairsPath};

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

#[test]
fn no_path_is_above_the_level_in_use() {
    // Reads the level that was asked for.
    let _ = Numbers::new(1);
    let current = Isa::current();
    for other in Isa::available().into_iter().filter(|isa| *isa != current) {
        assert_eq!(isa::force(other), Err(IsaError::InUse(current.name())));
    }
    assert_eq!(isa::force(current), Ok(()));
    let mut names = Vec::new();
    names.extend(
        [Arithmetic::F32, Arithmetic::Bf16].iter().flat_map(|a| Path::available(*a)).map(|p| p.name()),
    );
    names.extend(PackedPath::available().iter().map(PackedPath::name));
    names.extend(PairsPath::available().iter().map(PairsPath::name));
    for above in Isa::ALL.into_iter().filter(|isa| *isa > current) {
        assert!(names.iter().all(|name| !name.starts_with(above.name())), "{current:?}: {names:?}");
    }
    assert!(names.contains(&"portable"), "{names:?}");
    let limits = roofline::measure(1 << 22).unwrap();
    assert!(limits.f32 > 0.0 && limits.read > 0.0);
}
