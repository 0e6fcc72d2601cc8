//! Which instruction sets the operations use: the widest that the machine has, or less when someone asks for it. Every choice
//! of a kernel asks here.
//!
//! Levels are ordered and each includes those below. The widest has parts that only some of its processors have (products of
//! bf16, of 8-bit integers); those are used where they are, and so are aarch64's (`dotprod`, `i8mm`). Loops that are portable
//! use the vectors that every processor of an architecture has: on aarch64 those are NEON's.

use std::sync::OnceLock;

/// A level of instruction sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// What every processor of the architecture has.
    Portable,
    /// aarch64: written out for its 128-bit vectors.
    Neon,
    /// x86-64: 256-bit vectors, with fused multiply-add.
    Avx2,
    /// x86-64: 512-bit vectors; with VNNI and BF16 where the processor has them.
    Avx512,
}

/// Why a level cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// There is none of that name.
    #[error("`{0}` is no instruction set; use `auto`, {names}", names = listed(&Isa::ALL))]
    Unknown(String),
    /// The processor does not have it.
    #[error("this processor has no `{0}`; it has {there}", there = listed(&Isa::there()))]
    Missing(&'static str),
    /// Operations have run already, or another was asked for.
    #[error("`{0}` is in use already, and stays in use until the program ends")]
    InUse(&'static str),
}

fn listed(all: &[Isa]) -> String {
    all.iter().map(|isa| format!("`{}`", isa.name())).collect::<Vec<_>>().join(", ")
}

static CHOSEN: OnceLock<Isa> = OnceLock::new();

impl Isa {
    /// All levels, the least first.
    pub const ALL: [Self; 4] = [Self::Portable, Self::Neon, Self::Avx2, Self::Avx512];

    /// The name in configurations: `portable`, `neon`, `avx2`, `avx512`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Neon => "neon",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// The level of this name.
    ///
    /// # Errors
    /// [`IsaError::Unknown`].
    pub fn named(name: &str) -> Result<Self, IsaError> {
        let found = Self::ALL.into_iter().find(|isa| isa.name() == name);
        found.ok_or_else(|| IsaError::Unknown(name.to_owned()))
    }

    /// The levels that this machine has, the least first.
    pub fn there() -> Vec<Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_there()).collect()
    }

    fn is_there(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return match self {
            Self::Portable => true,
            Self::Neon => false,
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            Self::Avx512 => {
                Self::Avx2.is_there()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
        };
        #[cfg(not(target_arch = "x86_64"))]
        return self == Self::Portable || cfg!(target_arch = "aarch64") && self == Self::Neon;
    }

    /// The level in use: the widest, unless [`force`] came first.
    pub fn current() -> Self {
        *CHOSEN.get_or_init(|| Self::there().last().copied().unwrap_or(Self::Portable))
    }
}

/// Uses no more than `isa` from now on, before the first operation runs.
///
/// # Errors
/// [`IsaError::Missing`], or [`IsaError::InUse`] when another level is in use already.
pub fn force(isa: Isa) -> Result<(), IsaError> {
    if !isa.is_there() {
        return Err(IsaError::Missing(isa.name()));
    }
    let current = *CHOSEN.get_or_init(|| isa);
    if current == isa { Ok(()) } else { Err(IsaError::InUse(current.name())) }
}

/// Whether kernels of this level may be used.
pub(crate) fn allows(isa: Isa) -> bool {
    Isa::current() >= isa
}

/// Whether the kernels of 512 bits may be used that multiply pairs of bf16.
#[cfg(target_arch = "x86_64")]
pub(crate) fn bf16() -> bool {
    allows(Isa::Avx512) && is_x86_feature_detected!("avx512bf16")
}

/// Whether those may be used that multiply 8-bit integers.
#[cfg(target_arch = "x86_64")]
pub(crate) fn int8() -> bool {
    allows(Isa::Avx512) && is_x86_feature_detected!("avx512vnni")
}
