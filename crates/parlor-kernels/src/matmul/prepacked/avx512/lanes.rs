//! Multiply-adds with four bytes in memory that meet every lane, written out: as intrinsics the compiler fetches the bytes of
//! many steps early, for which there are no registers, and puts sums in memory instead, a third to a half of the time. The bytes
//! are fetched once for both halves of a panel, since a processor fetches less often than it multiplies where two programs share it.

/// `sums += weights * four` for both halves, by these instructions; `four` lies some strides in bytes, up to two, past an address.
///
/// # Safety
/// The instructions are there, and the bytes.
macro_rules! meet_all_lanes {
    ($fetch:literal $multiply:literal, $sums:expr, $weights:expr, ($four:expr, $stride:expr, $times:expr)) => {
        match $times {
            0 => meet_all_lanes!(@ $fetch $multiply, $sums, $weights, "{four}", $four),
            1 => meet_all_lanes!(@ $fetch $multiply, $sums, $weights, "{four} + {stride}", $four, $stride),
            _ => meet_all_lanes!(@ $fetch $multiply, $sums, $weights, "{four} + 2 * {stride}", $four, $stride),
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

pub(in crate::matmul::prepacked) use meet_all_lanes;
