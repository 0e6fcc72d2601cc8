//! Multiply-adds of weights with four bytes in memory that are broadcast to every lane. Inline assembly: of intrinsics the compiler
//! hoists the loads of many steps, for which there are no registers, and spills sums instead, a third to a half of the time. The bytes are
//! loaded once for both halves of a panel, since two hardware threads on a core run out of load ports first.

/// `sums += weights * four` for both halves, by the named instructions; `four` is at an address plus up to two strides, in bytes.
///
/// # Safety
/// The instructions are there, and the bytes.
macro_rules! multiply_add_broadcast {
    ($fetch:literal $multiply:literal, $sums:expr, $weights:expr, ($four:expr, $stride:expr, $times:expr)) => {
        match $times {
            0 => multiply_add_broadcast!(@ $fetch $multiply, $sums, $weights, "{four}", $four),
            1 => multiply_add_broadcast!(@ $fetch $multiply, $sums, $weights, "{four} + {stride}", $four, $stride),
            _ => multiply_add_broadcast!(@ $fetch $multiply, $sums, $weights, "{four} + 2 * {stride}", $four, $stride),
        }
    };
    (@ $fetch:literal $multiply:literal, $sums:expr, $weights:expr, $address:literal, $four:expr $(, $stride:expr)?) => {
        std::arch::asm!(
            concat!($fetch, " {x}, dword ptr [", $address, "]"),
            concat!($multiply, " {low}, {own_low}, {x}"),
            concat!($multiply, " {high}, {own_high}, {x}"),
            x = out(zmm_reg) _,
            low = inout(zmm_reg) $sums[0],
            high = inout(zmm_reg) $sums[1],
            own_low = in(zmm_reg) $weights[0],
            own_high = in(zmm_reg) $weights[1],
            four = in(reg) $four,
            $(stride = in(reg) $stride,)?
            options(pure, readonly, nostack, preserves_flags),
        )
    };
}

pub(super) use multiply_add_broadcast;
