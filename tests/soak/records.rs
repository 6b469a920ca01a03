//! What the guests wrote, judged round by round.

use quorate::demo::judge::{Charge, Finding, judge};
use quorate::demo::record::{self, Life};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;

/// A guest that runs has written within this, in nanoseconds.
const FRESH_NS: u64 = 1_000_000_000;

/// The folder of records.
pub(crate) struct Records {
    folder: PathBuf,
    /// Of each guest the first and last line of each life that was judged before.
    before: BTreeMap<String, String>,
}

impl Records {
    pub(crate) fn new(folder: PathBuf) -> Records {
        Records {
            folder,
            before: BTreeMap::new(),
        }
    }

    /// Whether each of `guests` has written just now.
    pub(crate) fn fresh(&self, guests: &[String]) -> Result<(), String> {
        for guest in guests {
            let path = self.folder.join(format!("{guest}.log"));
            let last = record::last(&path).map_err(|e| e.to_string())?;
            let at = last.as_ref().map_or(0, |last| last.at);
            if record::now().saturating_sub(at) > FRESH_NS {
                return Err(format!("{guest} is silent; it wrote {last:?}"));
            }
        }
        Ok(())
    }

    /// What the records charge. What was judged is cut off, so that a long soak reads no more than
    /// its last round; the ends of each life are kept, against which late writes show.
    pub(crate) fn judge(&mut self) -> Vec<String> {
        let mut texts = BTreeMap::new();
        for entry in fs::read_dir(&self.folder).expect("the records").flatten() {
            let name = entry.file_name().into_string().expect("a name of ours");
            let guest = name.trim_end_matches(".log").to_owned();
            let file = File::options().write(true).open(entry.path());
            let written = fs::read_to_string(entry.path()).expect("a record");
            // Lines that come between the two are lost to us; the life that writes them is not.
            file.and_then(|f| f.set_len(0)).expect("cut");
            let kept = self.before.remove(&guest).unwrap_or_default();
            texts.insert(guest, kept + whole(&written));
        }
        let (findings, charges) = judge(&texts, &[], record::now());
        self.before = findings.iter().map(|(g, f)| (g.clone(), ends(f))).collect();
        let broken = charges.into_iter().filter(|charge| match charge {
            Charge::Unreadable { .. } => true,
            // One that was restarted where it ran may write again at once.
            Charge::Twice {
                first,
                second,
                gap_ns,
                ..
            } => first.host != second.host || *gap_ns <= 0,
            Charge::NeverRan { .. } | Charge::NotBack { .. } | Charge::Silent { .. } => false,
        });
        broken.map(|charge| charge.to_string()).collect()
    }
}

/// The whole lines of a record. The first may have lost its beginning to a cut.
fn whole(text: &str) -> &str {
    let begin = match text.lines().next() {
        Some(line) if record::parse(line).is_none() => line.len() + 1,
        _ => 0,
    };
    let end = text.rfind('\n').map_or(0, |at| at + 1);
    text.get(begin..end).unwrap_or_default()
}

/// The first and the last line of each life.
fn ends(finding: &Finding) -> String {
    let line = |at: u64, Life { host, epoch, pid }: &Life| format!("{at} {host} {epoch} {pid}\n");
    let runs = finding.runs.iter();
    runs.map(|run| line(run.first, &run.life) + &line(run.last, &run.life))
        .collect()
}
