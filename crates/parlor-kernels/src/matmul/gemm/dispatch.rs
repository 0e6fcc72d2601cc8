//! A gemm kernel as a value: which microkernel, and whether packing rounds to bf16. [`with_microkernel`] turns it into the type that
//! the loops are compiled for, once per product.

use super::microkernel::Rounding;

/// The microkernels that this crate was compiled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MicrokernelId {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
}

/// A microkernel whose instruction set this machine has, and what its packing does.
#[derive(Clone, Copy, Debug)]
pub struct GemmKernel {
    id: MicrokernelId,
    rounding: Rounding,
}

impl GemmKernel {
    /// # Safety
    /// The microkernel's instruction set is there.
    pub(crate) const unsafe fn new(id: MicrokernelId, rounding: Rounding) -> Self {
        Self { id, rounding }
    }

    /// The portable kernel.
    pub(crate) const fn portable(rounding: Rounding) -> Self {
        Self { id: MicrokernelId::Portable, rounding }
    }

    /// A name for messages.
    pub fn name(self) -> &'static str {
        match self.id {
            MicrokernelId::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            MicrokernelId::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            MicrokernelId::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            MicrokernelId::Avx512Bf16 => "avx512bf16",
        }
    }

    pub(crate) fn id(self) -> MicrokernelId {
        self.id
    }

    pub(crate) fn rounding(self) -> Rounding {
        self.rounding
    }
}

/// Evaluates an expression in which a name stands for the microkernel's type.
macro_rules! with_microkernel {
    ($kernel:expr, $name:ident => $expression:expr) => {
        match $kernel.id() {
            $crate::matmul::gemm::dispatch::MicrokernelId::Portable => {
                type $name = $crate::matmul::gemm::portable::Portable;
                $expression
            }
            #[cfg(target_arch = "x86_64")]
            $crate::matmul::gemm::dispatch::MicrokernelId::Avx2 => {
                type $name = $crate::matmul::gemm::avx2::Avx2;
                $expression
            }
            #[cfg(target_arch = "x86_64")]
            $crate::matmul::gemm::dispatch::MicrokernelId::Avx512 => {
                type $name = $crate::matmul::gemm::avx512::Avx512;
                $expression
            }
            #[cfg(target_arch = "x86_64")]
            $crate::matmul::gemm::dispatch::MicrokernelId::Avx512Bf16 => {
                type $name = $crate::matmul::gemm::avx512::Avx512Bf16;
                $expression
            }
        }
    };
}
pub(crate) use with_microkernel;
