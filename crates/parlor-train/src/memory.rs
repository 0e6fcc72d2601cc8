//! Memory of this process, from `/proc/self/status`. Zero where the system has no such file.

/// The most resident memory so far, in bytes (`VmHWM`).
pub fn peak_memory_bytes() -> u64 {
    field("VmHWM:")
}

/// Resident memory now, in bytes (`VmRSS`).
pub fn memory_bytes() -> u64 {
    field("VmRSS:")
}

fn field(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kibibytes = status.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
    });
    kibibytes.unwrap_or(0) * 1024
}
