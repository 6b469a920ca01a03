//! Pictures of a run: one HTML page that needs no network, and a trace for viewers of traces.

mod chrome;
mod data;

pub use chrome::chrome;

use crate::record::Record;

/// What the page says of where the run came from.
#[derive(Clone, Debug)]
pub struct About {
    /// Feeds every random stream.
    pub seed: u64,
    /// Stands for the whole run.
    pub hash: u64,
    /// The command that makes the run again.
    pub again: String,
    /// The planted bug, if there is one.
    pub bug: Option<String>,
}

/// The whole page.
#[must_use]
pub fn html(record: &Record, about: &About) -> String {
    let title = match &record.broken {
        Some(b) => format!("{} broken, seed {}", b.property, about.seed),
        None => format!("seed {}", about.seed),
    };
    // Nothing in the data may end the element it stands in.
    let data = data::json(record, about).replace('<', "\\u003c");
    let title = title.replace('&', "&amp;").replace('<', "&lt;");
    let mut page = String::with_capacity(data.len() + 64 * 1024);
    let mut rest = include_str!("page.html");
    for (mark, text) in [
        ("@TITLE@", title.as_str()),
        ("@STYLE@", include_str!("page.css")),
        ("@DATA@", data.as_str()),
        ("@SCRIPT@", include_str!("page.js")),
    ] {
        let (before, after) = rest.split_once(mark).unwrap_or((rest, ""));
        page.push_str(before);
        page.push_str(text);
        rest = after;
    }
    page.push_str(rest);
    page
}
