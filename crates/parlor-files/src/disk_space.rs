//! How much a user may still write.

use std::path::Path;

/// Bytes that a user may still write to the disk that holds `path`, or its nearest existing ancestor.
pub fn available_bytes(path: &Path) -> Option<u64> {
    let existing = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let stat = rustix::fs::statvfs(existing).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Bytes in binary units.
///
/// ```
/// assert_eq!(parlor_files::human_bytes(1_610_612_736), "1.5 GiB");
/// ```
pub fn human_bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["bytes", "KiB", "MiB", "GiB", "TiB"].iter().peekable();
    while let Some(unit) = units.next() {
        if value < 1024.0 || units.peek().is_none() {
            let digits = usize::from(*unit != "bytes");
            return format!("{value:.digits$} {unit}");
        }
        value /= 1024.0;
    }
    format!("{bytes} bytes")
}
