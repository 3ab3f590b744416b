//! The page for people: workers, calls and drains, live at `/` or recorded in a file.
//!
//! Owns the file, what may stand in it, and its security policy. Refuses everything from elsewhere: the page is one
//! file that loads nothing.

mod follow;
mod serve;

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::event::Event;
use crate::journal::{History, Limits, Tally};

pub(crate) use serve::{Page, routes};

/// As it is served: without the indentation that its readers want.
static PAGE: LazyLock<String> = LazyLock::new(|| {
    include_str!("page/page.html").lines().map(str::trim_start).collect::<Vec<_>>().join("\n")
});
/// Where a report's events go.
const SLOT: &str = "<!--recorded-->";
const TITLE: &str = "<title>Last Call</title>";

/// What the script and the style may do, which is nothing but what is in the file. Events come from where the page does.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |open: &str, close: &str| {
        let text = PAGE.split_once(open).and_then(|(_, rest)| rest.split_once(close)).map(|(text, _)| text);
        STANDARD.encode(Sha256::digest(text.unwrap_or_default()))
    };
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'",
        hash("<script>", "</script>"),
        hash("<style>", "</style>")
    )
});

/// What a page is told: everything, or what is new to it.
#[derive(Debug, Serialize)]
struct Told<'a> {
    /// Forget what was told before.
    fresh: bool,
    /// Microseconds since 1970, by which a page sets its clock.
    now: u64,
    tally: Tally,
    events: Vec<&'a Event>,
}

/// The page as a file that needs no server: it shows these events, all at once, under this title and these facts (name
/// and value). Any text is safe in any place: it is shown as it is. A file of a thousand calls has about 1 MB.
#[must_use]
pub fn recorded(title: &str, events: &[Event], facts: &[(String, String)]) -> String {
    let mut history = History::new(Limits::NONE);
    for event in events {
        history.record(&Arc::new(event.clone()));
    }
    let batch = history.after(0);
    let told = Told {
        fresh: true,
        now: events.iter().map(|event| event.at_us).max().unwrap_or_default(),
        tally: batch.tally,
        events: batch.events.iter().map(|(_, event)| &**event).collect(),
    };
    let data = json!({ "title": title, "facts": facts, "told": told }).to_string();
    let slot = format!(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\n\
         <script type=\"application/json\" id=\"recorded\">{}</script>",
        *POLICY,
        in_script(&data)
    );
    PAGE.replacen(TITLE, &format!("<title>{}</title>", in_text(title)), 1).replacen(SLOT, &slot, 1)
}

/// JSON in which no browser finds the end of a script, a comment or a line.
fn in_script(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            // They occur only within strings, where the escape means the same.
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                // A string takes whatever is written.
                let _ = write!(safe, "\\u{:04x}", u32::from(letter));
            }
            _ => safe.push(letter),
        }
    }
    safe
}

/// Text in which no browser finds a tag.
fn in_text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::What;

    #[test]
    fn the_file_is_small_and_has_its_slots_once() {
        assert!(PAGE.len() <= 30_000, "{} bytes", PAGE.len());
        for once in [SLOT, TITLE, "<script>", "</script>", "<style>", "</style>"] {
            assert_eq!(PAGE.matches(once).count(), 1, "{once}");
        }
        for elsewhere in ["http://", "https://", "//cdn", "@import", "url(", "innerHTML"] {
            let found = PAGE.replace("http://www.w3.org/", "").contains(elsewhere);
            assert!(!found, "{elsewhere}");
        }
    }

    #[test]
    fn no_text_leaves_its_place() {
        let hostile = "</script><script>alert(1)</script><!--<img src=x onerror=alert(1)>\u{2028}&amp;";
        let noted = What::Noted { worker: None, text: hostile.into() };
        let facts = [(hostile.to_owned(), hostile.to_owned())];
        let file = recorded(hostile, &[Event { at_us: 7, what: noted }], &facts);
        assert_eq!(file.matches("<script").count(), 2, "the page's own and the data");
        assert!(!file.contains("<img"));
        let (_, rest) = file.split_once("id=\"recorded\">").expect("the data");
        let (data, _) = rest.split_once("</script>").expect("its end");
        assert!(!data.contains(['<', '>', '&', '\u{2028}']), "{data}");
        let data: serde_json::Value = serde_json::from_str(data).expect("JSON");
        assert_eq!(data["told"]["events"][0]["text"], hostile);
        assert_eq!((&data["title"], &data["facts"][0][1]), (&hostile.into(), &hostile.into()));
    }
}
