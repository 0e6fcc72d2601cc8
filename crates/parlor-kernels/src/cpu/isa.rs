//! Selection of the instruction set: the widest that the processor supports, or a narrower one on request. Every choice
//! between kernels goes through here.
//!
//! Instruction sets are ordered, and each includes those below it. AVX-512 has extensions that only some of its
//! processors support (BF16, VNNI); they are used where they are detected, and so are aarch64's `dotprod` and `i8mm`.
//! Portable loops compile to the vectors that every processor of the architecture has, which on aarch64 are NEON's.

use std::sync::OnceLock;

/// An instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// The baseline of the architecture.
    Portable,
    /// aarch64: 128-bit vectors, written with intrinsics.
    Neon,
    /// x86-64: 256-bit vectors, with fused multiply-add.
    Avx2,
    /// x86-64: 512-bit vectors; with VNNI and BF16 where the processor has them.
    Avx512,
}

/// Why an instruction set cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// No instruction set has this name.
    #[error("`{0}` is no instruction set; use `auto`, {names}", names = listed(&Isa::ALL))]
    Unknown(String),
    /// The processor does not support it.
    #[error("this processor has no `{0}`; it has {there}", there = listed(&Isa::available()))]
    Missing(&'static str),
    /// An operation has run already, or another one was forced before.
    #[error("`{0}` is in use already, and stays in use until the program ends")]
    InUse(&'static str),
}

fn listed(all: &[Isa]) -> String {
    all.iter().map(|isa| format!("`{}`", isa.name())).collect::<Vec<_>>().join(", ")
}

static CHOSEN: OnceLock<Isa> = OnceLock::new();

impl Isa {
    /// All instruction sets, the narrowest first.
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

    /// The instruction set of this name.
    ///
    /// # Errors
    /// [`IsaError::Unknown`].
    pub fn from_name(name: &str) -> Result<Self, IsaError> {
        let found = Self::ALL.into_iter().find(|isa| isa.name() == name);
        found.ok_or_else(|| IsaError::Unknown(name.to_owned()))
    }

    /// The instruction sets that this processor supports, the narrowest first.
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    fn is_available(self) -> bool {
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
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
        };
        #[cfg(not(target_arch = "x86_64"))]
        return self == Self::Portable || cfg!(target_arch = "aarch64") && self == Self::Neon;
    }

    /// The instruction set in use: the widest, unless [`force`] chose another first.
    pub fn current() -> Self {
        *CHOSEN.get_or_init(|| Self::available().last().copied().unwrap_or(Self::Portable))
    }
}

/// Limits all operations to `isa`. To be called before the first operation.
///
/// # Errors
/// [`IsaError::Missing`], or [`IsaError::InUse`] when another instruction set is in use already.
pub fn force(isa: Isa) -> Result<(), IsaError> {
    if !isa.is_available() {
        return Err(IsaError::Missing(isa.name()));
    }
    let current = *CHOSEN.get_or_init(|| isa);
    if current == isa { Ok(()) } else { Err(IsaError::InUse(current.name())) }
}

/// Whether kernels for `isa` may run.
pub(crate) fn allows(isa: Isa) -> bool {
    Isa::current() >= isa
}

/// Whether kernels with `vdpbf16ps` may run.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx512_bf16() -> bool {
    allows(Isa::Avx512) && is_x86_feature_detected!("avx512bf16")
}

/// Whether kernels with `vpdpbusd` on 512-bit vectors may run.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx512_vnni() -> bool {
    allows(Isa::Avx512) && is_x86_feature_detected!("avx512vnni")
}

/// Whether `vdpbf16ps` outruns f32 multiply-add: on AMD's processors, not on Intel's.
#[cfg(target_arch = "x86_64")]
pub(crate) fn is_bf16_fast() -> bool {
    let vendor = std::arch::x86_64::__cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == b"AuthenticAMD"
}
