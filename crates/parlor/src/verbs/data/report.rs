//! The report of a data set as text: files, rows, unused columns, problems.

use parlor::text::DataReport;

use crate::progress::grouped;

/// Problems shown as text; the count is of all, and `--json` has more.
const SHOWN: usize = 20;

/// Files, rows and problems, as text.
pub(super) fn text(report: &DataReport) -> String {
    let kinds: Vec<String> =
        report.kinds.iter().map(|(kind, rows)| format!("{kind} ({})", grouped(*rows as u64))).collect();
    let mut out = format!("{} files, {} rows", report.files, grouped(report.rows as u64));
    if !kinds.is_empty() {
        out.push_str(&format!(": {}", kinds.join(", ")));
    }
    out.push('\n');
    if !report.ignored.is_empty() {
        out.push_str(&format!("{} files of other formats are left alone\n", report.ignored.len()));
    }
    let not_used = report.not_used_lines().count();
    listed(&mut out, report.not_used_lines(), not_used);
    if report.problem_count > 0 {
        out.push_str(&format!("{} problems:\n", report.problem_count));
        let problems = report.problems.iter().map(ToString::to_string);
        listed(&mut out, problems, report.problem_count);
    }
    out
}

/// The first of `count` lines.
pub(super) fn listed(out: &mut String, lines: impl Iterator<Item = String>, count: usize) {
    let mut shown = 0;
    for line in lines.take(SHOWN) {
        out.push_str(&format!("  {line}\n"));
        shown += 1;
    }
    if count > shown {
        out.push_str(&format!("  and {} more\n", count - shown));
    }
}
