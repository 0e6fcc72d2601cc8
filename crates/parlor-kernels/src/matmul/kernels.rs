//! The kernels of each instruction set: one table, read once per product.
//!
//! bf16 products have two ways to run with 512-bit registers: the bf16 instruction, or f32 arithmetic over panels that were rounded to
//! bf16. AMD's cores issue one `vdpbf16ps` a cycle, twice the rate of their f32 multiply-add; Intel's (Sapphire and Emerald Rapids,
//! measured) one in two cycles, half that of theirs. Both ways sum the same products in f32, so the faster comes first. The choice
//! depends on the processor only: two runs on one machine give the same bits.

use std::sync::OnceLock;

use super::gemm::GemmKernel;
use super::gemm::microkernel::Rounding;
use super::gemv::{self, GemvKernel};
use super::prepacked::bf16::{self, Bf16Kernel};
use super::prepacked::int8::{self, Int8Kernel, q8_block};
use crate::cpu::isa::{self, Isa};
use crate::memory::Arithmetic;

/// The kernels of one instruction set. Where it has none of its own for an operation, that of the set below.
#[derive(Clone, Copy)]
pub struct KernelSet {
    name: &'static str,
    isa: Isa,
    gemm_f32: GemmKernel,
    gemm_bf16: GemmKernel,
    gemv: GemvKernel,
    int8: Int8Kernel,
    bf16: Bf16Kernel,
}

impl KernelSet {
    /// Every set that this machine has and [`isa`] allows, the fastest first.
    pub fn all() -> Vec<Self> {
        let mut sets = Vec::new();
        let portable = Self::portable();
        #[cfg(target_arch = "x86_64")]
        if isa::allows(Isa::Avx2) {
            // SAFETY: each set is made only where its instruction set is.
            let sets_of_512 = |avx2: Self| unsafe {
                let avx512 = Self::avx512(avx2);
                let vnni = isa::has_avx512_vnni().then(|| avx512.with_vnni());
                let bf16 = isa::has_avx512_bf16().then(|| vnni.unwrap_or(avx512).with_bf16());
                let (first, second) = if bf16_is_fast() { (bf16, vnni) } else { (vnni, bf16) };
                first.into_iter().chain(second).chain([avx512])
            };
            // SAFETY: as above.
            let avx2 = unsafe { Self::avx2(portable) };
            if isa::allows(Isa::Avx512) {
                sets.extend(sets_of_512(avx2));
            }
            sets.push(avx2);
        }
        #[cfg(target_arch = "aarch64")]
        if isa::allows(Isa::Neon) {
            use std::arch::is_aarch64_feature_detected;

            let neon = Self::neon(portable);
            // SAFETY: each set is made only where its instruction set is.
            let dots = is_aarch64_feature_detected!("dotprod").then(|| unsafe { neon.with_dotprod() });
            let matrices = dots.filter(|_| is_aarch64_feature_detected!("i8mm"));
            // SAFETY: as above.
            sets.extend(matrices.map(|dots| unsafe { dots.with_i8mm() }));
            sets.extend(dots);
            sets.push(neon);
        }
        sets.push(portable);
        sets
    }

    /// The fastest set.
    pub fn best() -> &'static Self {
        static BEST: OnceLock<KernelSet> = OnceLock::new();
        BEST.get_or_init(|| Self::all()[0])
    }

    /// A name for messages.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The level of instruction sets that it belongs to.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The names of its kernels: gemm f32, gemm bf16, gemv, int8, bf16.
    pub fn kernel_names(&self) -> [&'static str; 5] {
        let gemm = [self.gemm_f32, self.gemm_bf16].map(GemmKernel::name);
        [gemm[0], gemm[1], self.gemv.name(), self.int8.name(), self.bf16.name()]
    }

    /// gemm of operands in this precision.
    pub fn gemm(&self, arithmetic: Arithmetic) -> GemmKernel {
        match arithmetic {
            Arithmetic::F32 => self.gemm_f32,
            Arithmetic::Bf16 => self.gemm_bf16,
        }
    }

    /// gemv.
    pub(crate) fn gemv(&self) -> GemvKernel {
        self.gemv
    }

    /// Products of prepacked quantized weights.
    pub fn int8(&self) -> Int8Kernel {
        self.int8
    }

    /// Products of prepacked bf16 weights.
    pub fn bf16(&self) -> Bf16Kernel {
        self.bf16
    }

    fn portable() -> Self {
        Self {
            name: "portable",
            isa: Isa::Portable,
            gemm_f32: GemmKernel::portable(Rounding::None),
            gemm_bf16: GemmKernel::portable(Rounding::Bf16),
            // SAFETY: every processor has it.
            gemv: unsafe { GemvKernel::new("portable", gemv::portable::dots) },
            int8: Int8Kernel {
                name: "portable",
                rows: int8::portable::MR,
                run: int8::portable::tile,
                unpack: None,
                quantize: q8_block::quantize,
            },
            bf16: Bf16Kernel {
                name: "portable",
                rows: bf16::portable::MR,
                run: bf16::portable::tile,
                round: bf16::portable::round,
                words: 1,
                widen_rows: usize::MAX,
            },
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;
    use crate::matmul::gemm::dispatch::MicrokernelId;
    use crate::matmul::thresholds::{WIDEN_ROWS_AVX2, WIDEN_ROWS_AVX512};

    impl KernelSet {
        /// # Safety
        /// AVX2, FMA and F16C are there.
        pub(super) unsafe fn avx2(portable: Self) -> Self {
            // SAFETY: the contract of the caller.
            let gemm = |rounding| unsafe { GemmKernel::new(MicrokernelId::Avx2, rounding) };
            Self {
                name: "avx2",
                isa: Isa::Avx2,
                gemm_f32: gemm(Rounding::None),
                gemm_bf16: gemm(Rounding::Bf16),
                int8: Int8Kernel {
                    name: "avx2",
                    rows: int8::avx2::MR,
                    run: int8::avx2::tile,
                    ..portable.int8
                },
                bf16: Bf16Kernel {
                    name: "avx2",
                    rows: bf16::avx2::MR,
                    run: bf16::avx2::tile,
                    widen_rows: WIDEN_ROWS_AVX2,
                    ..portable.bf16
                },
                ..portable
            }
        }

        /// # Safety
        /// AVX-512 F, BW, DQ and VL are there.
        pub(super) unsafe fn avx512(avx2: Self) -> Self {
            // SAFETY: the contract of the caller.
            let gemm = |rounding| unsafe { GemmKernel::new(MicrokernelId::Avx512, rounding) };
            Self {
                name: "avx512",
                isa: Isa::Avx512,
                gemm_f32: gemm(Rounding::None),
                gemm_bf16: gemm(Rounding::Bf16),
                // SAFETY: the contract of the caller.
                gemv: unsafe { GemvKernel::new("avx512", gemv::avx512::dots) },
                bf16: Bf16Kernel {
                    name: "avx512",
                    rows: bf16::avx512::MR_WIDENED,
                    run: bf16::avx512::tile_widened,
                    round: bf16::portable::round_to_f32,
                    words: 2,
                    widen_rows: WIDEN_ROWS_AVX512,
                },
                ..avx2
            }
        }

        /// # Safety
        /// AVX-512 VNNI is there.
        pub(super) unsafe fn with_vnni(self) -> Self {
            Self {
                name: "avx512vnni",
                int8: Int8Kernel {
                    name: "avx512vnni",
                    rows: int8::avx512::MR,
                    run: int8::avx512::tile,
                    unpack: Some(int8::avx512::unpack),
                    quantize: int8::avx512::quantize,
                },
                ..self
            }
        }

        /// # Safety
        /// AVX-512 BF16 is there.
        pub(super) unsafe fn with_bf16(self) -> Self {
            Self {
                name: "avx512bf16",
                // SAFETY: the contract of the caller.
                gemm_bf16: unsafe { GemmKernel::new(MicrokernelId::Avx512Bf16, Rounding::Bf16) },
                bf16: Bf16Kernel {
                    name: "avx512bf16",
                    rows: bf16::avx512::MR,
                    run: bf16::avx512::tile,
                    round: bf16::avx512::round,
                    words: 1,
                    widen_rows: usize::MAX,
                },
                ..self
            }
        }
    }

    /// Whether `vdpbf16ps` outruns f32 multiply-add.
    pub(super) fn bf16_is_fast() -> bool {
        let vendor = std::arch::x86_64::__cpuid(0);
        [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == b"AuthenticAMD"
    }
}

#[cfg(target_arch = "x86_64")]
use x86::bf16_is_fast;

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::*;
    use crate::matmul::thresholds::WIDEN_ROWS_NEON;

    impl KernelSet {
        pub(super) fn neon(portable: Self) -> Self {
            Self {
                name: "neon",
                isa: Isa::Neon,
                int8: Int8Kernel {
                    name: "neon",
                    rows: int8::neon::MR,
                    run: int8::neon::tile_plain,
                    ..portable.int8
                },
                bf16: Bf16Kernel {
                    name: "neon",
                    rows: bf16::neon::MR,
                    run: bf16::neon::tile,
                    round: bf16::portable::round_to_f32,
                    words: 2,
                    widen_rows: WIDEN_ROWS_NEON,
                },
                ..portable
            }
        }

        /// # Safety
        /// The `dotprod` instructions are there.
        pub(super) unsafe fn with_dotprod(self) -> Self {
            let int8 = Int8Kernel { name: "dotprod", run: int8::neon::tile_dots, ..self.int8 };
            Self { name: "dotprod", int8, ..self }
        }

        /// # Safety
        /// The `i8mm` instructions are there, and `dotprod`.
        pub(super) unsafe fn with_i8mm(self) -> Self {
            let int8 = Int8Kernel { name: "i8mm", run: int8::neon::tile_matrices, ..self.int8 };
            Self { name: "i8mm", int8, ..self }
        }
    }
}
