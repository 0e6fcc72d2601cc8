//! Which kernel computes on this machine.
//!
//! bf16 products have two ways to run with 512-bit registers: the bf16 instruction, or f32 arithmetic over panels
//! that were rounded to bf16. AMD's cores issue one `vdpbf16ps` a cycle, twice the rate of their f32
//! multiply-add; Intel's (Sapphire and Emerald Rapids, measured) one in two cycles, half that of theirs. Both
//! ways sum the same products in f32, so the faster is taken. The choice depends on the processor only: two
//! runs on one machine give the same bits.

use std::sync::OnceLock;

use super::kernel::{Kernel, Rounding};
use super::portable::Portable;
use super::{Job, run};
use crate::attention::{Backward, Forward, Task, backward_family, forward_task};
#[cfg(target_arch = "x86_64")]
use crate::cpu::isa::{self, Isa};
use crate::memory::Arithmetic;

/// One way to compute products.
#[derive(Clone, Copy)]
pub struct Path {
    name: &'static str,
    pub(crate) rounding: Rounding,
    pub(crate) run: fn(&Job<'_>),
    /// A task of attention.
    pub(crate) attend: fn(&Forward<'_>, &Task),
    /// A family of segments, and one key/value head.
    pub(crate) attend_back: fn(&Backward<'_>, &[usize], usize),
}

impl Path {
    fn of<K: Kernel>(name: &'static str, rounding: Rounding) -> Self {
        Self { name, rounding, run: run::<K>, attend: forward_task::<K>, attend_back: backward_family::<K> }
    }

    /// A name for messages.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Every way this machine has and [`crate::isa`] allows, the fastest first.
    pub fn available(arithmetic: Arithmetic) -> Vec<Path> {
        let rounding = match arithmetic {
            Arithmetic::F32 => Rounding::None,
            Arithmetic::Bf16 => Rounding::Bf16,
        };
        let mut paths = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            use super::avx2::Avx2;
            use super::avx512::{Avx512, Avx512Bf16};
            if isa::allows(Isa::Avx512) {
                paths.push(Path::of::<Avx512>("avx512", rounding));
            }
            if isa::has_avx512_bf16() && arithmetic == Arithmetic::Bf16 {
                let path = Path::of::<Avx512Bf16>("avx512bf16", rounding);
                paths.insert(if fast_bf16() { 0 } else { paths.len() }, path);
            }
            if isa::allows(Isa::Avx2) {
                paths.push(Path::of::<Avx2>("avx2", rounding));
            }
        }
        paths.push(Path::of::<Portable>("portable", rounding));
        paths
    }

    /// The fastest.
    pub fn best(arithmetic: Arithmetic) -> Path {
        static BEST: OnceLock<[Path; 2]> = OnceLock::new();
        let [f32, bf16] =
            BEST.get_or_init(|| [Arithmetic::F32, Arithmetic::Bf16].map(|a| Path::available(a)[0]));
        match arithmetic {
            Arithmetic::F32 => *f32,
            Arithmetic::Bf16 => *bf16,
        }
    }
}

/// Whether the bf16 instruction is the faster way.
#[cfg(target_arch = "x86_64")]
pub(crate) fn fast_bf16() -> bool {
    let vendor = std::arch::x86_64::__cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == b"AuthenticAMD"
}
