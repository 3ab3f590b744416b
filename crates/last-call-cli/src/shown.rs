//! Text of others, fit for a terminal, which obeys control characters.
//!
//! Owns what passes. Refuses to understand it: whatever could begin a command to a terminal is shown as a mark.

use std::path::Path;

/// Characters shown of a line.
pub(crate) const LINE: usize = 200;

/// Of a text that is shown on one line; what is too long for that ends in a mark.
pub(crate) fn line(text: &str) -> String {
    let mut shown: String = text.chars().take(LINE).map(harmless).collect();
    if text.chars().nth(LINE).is_some() {
        shown.push('…');
    }
    shown
}

/// All of a text that has lines of its own.
pub(crate) fn lines(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { c } else { harmless(c) }).collect()
}

/// A path on one line.
pub(crate) fn path(path: &Path) -> String {
    line(&path.to_string_lossy())
}

fn harmless(c: char) -> char {
    if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_passes() {
        bolero::check!().with_type::<String>().for_each(|text| {
            assert!(!line(text).contains(char::is_control));
            let kept = lines(text);
            assert!(!kept.contains(|c: char| c.is_control() && c != '\n'));
            assert_eq!(kept.matches('\n').count(), text.matches('\n').count());
        });
        assert_eq!(lines("a\u{1b}[2J\nb\u{9b}\r\n"), "a\u{fffd}[2J\nb\u{fffd}\u{fffd}\n");
        assert_eq!(line("a\nb"), "a\u{fffd}b");
    }

    #[test]
    fn a_long_line_is_cut() {
        assert_eq!(line(&"é".repeat(LINE)), "é".repeat(LINE));
        assert_eq!(line(&"é".repeat(LINE + 1)), "é".repeat(LINE) + "…");
    }
}
