//! How much memory this process uses and how much the machine has left, from Linux's `/proc`.
//!
//! On other systems both are unknown (`None`), and checks that need them are skipped.

/// Resident memory of this process, in bytes.
pub fn resident_bytes() -> Option<u64> {
    field("/proc/self/status", "VmRSS:")
}

/// Largest resident memory of this process so far, in bytes.
pub fn peak_resident_bytes() -> Option<u64> {
    field("/proc/self/status", "VmHWM:")
}

/// Memory that can still be allocated without swapping, in bytes: the machine's, or this control group's where
/// that is less.
pub fn available_bytes() -> Option<u64> {
    let machine = field("/proc/meminfo", "MemAvailable:")?;
    let read = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let limit = read("/sys/fs/cgroup/memory.max");
    let used = read("/sys/fs/cgroup/memory.current");
    let group = match (limit, used) {
        // What the group uses includes the page cache, which gives way; count only this process.
        (Some(limit), Some(used)) => limit.saturating_sub(used.min(resident_bytes().unwrap_or(used))),
        _ => machine,
    };
    Some(machine.min(group).min(address_space_left().unwrap_or(machine)))
}

/// The function that says how much memory is free: [`available_bytes`], or one that a caller puts in its
/// place.
#[derive(Clone, Copy, Debug)]
pub struct FreeMemory(pub fn() -> Option<u64>);

impl Default for FreeMemory {
    fn default() -> Self {
        Self(available_bytes)
    }
}

/// What `ulimit -v` leaves of the address space, in bytes; `None` without that limit. Includes heap addresses
/// whose memory was given back: the allocator uses them first.
fn address_space_left() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    let limit: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(limit.saturating_sub(field("/proc/self/status", "VmSize:")?) + hollow_heap_bytes())
}

/// Bytes of the heap that are not resident.
fn hollow_heap_bytes() -> u64 {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let heap = maps.lines().skip_while(|line| !line.ends_with("[heap]")).skip(1);
    let value = |name: &str| heap.clone().find_map(|line| kilobytes(line.strip_prefix(name)?)).unwrap_or(0);
    value("Size:").saturating_sub(value("Rss:"))
}

/// The kilobytes after `name` in a `/proc` table, as bytes.
fn field(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| kilobytes(line.strip_prefix(name)?))
}

/// What stands before the unit, as bytes.
fn kilobytes(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}
