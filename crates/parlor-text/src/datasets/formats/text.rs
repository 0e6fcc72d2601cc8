//! Plain text and Markdown: a file is one row.

use super::compression::{INVALID_UTF8, read_whole, utf8, without_bom};
use crate::datasets::intake::FileRows;

/// Largest file in bytes. It is in memory while it is tokenised.
const MAX_TEXT: u64 = 1 << 30;

pub(crate) fn read(out: &mut FileRows<'_, '_>) {
    let bytes = match read_whole(out.path(), MAX_TEXT) {
        Ok(bytes) => bytes,
        Err(cause) => return out.problem(0, cause),
    };
    let text = match utf8(without_bom(&bytes)) {
        Ok(text) => text,
        Err(end) => {
            let line = 1 + bytes[..end].iter().filter(|&&byte| byte == b'\n').count();
            return out.problem(line, INVALID_UTF8);
        }
    };
    let text = text.replace("\r\n", "\n");
    if text.trim().is_empty() {
        return out.problem(0, "the file is empty");
    }
    out.push_text(text);
}
