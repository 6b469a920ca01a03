//! The log of the daemon: a bounded queue and a thread of its own that writes to standard error.
//!
//! Whoever logs never waits and never fails: a reader that stopped, a full disk or a closed pipe
//! costs log lines, which are counted, and nothing else. Where standard error is the journal, each
//! line begins with its syslog priority (`<4>` for a warning).

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait for the reader of the log.
const QUEUE: usize = 1024;
/// Bytes of one line; the rest of a longer one is cut.
const LONGEST: usize = 8 << 10;
/// How long the end of the program waits for its last lines.
const FLUSH: Duration = Duration::from_millis(500);

static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    queue: SyncSender<Item>,
    dropped: AtomicU64,
    journal: bool,
}

enum Item {
    Line(Vec<u8>),
    /// Answered when everything before it was written or given up.
    Flush(SyncSender<()>),
}

/// Sends all log lines of this process, panics included, to standard error through the queue. A
/// second call changes nothing.
///
/// # Errors
/// The system gives no thread.
pub(crate) fn start(level: Level) -> io::Result<()> {
    let (queue, lines) = sync_channel(QUEUE);
    let log = Log {
        queue,
        dropped: AtomicU64::new(0),
        journal: to_the_journal(),
    };
    if LOG.set(log).is_err() {
        return Ok(());
    }
    std::thread::Builder::new()
        .name("quorate-log".to_owned())
        .spawn(move || write_all(&lines))?;
    let journal = LOG.get().is_some_and(|log| log.journal);
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(Door)
        .log_internal_errors(false)
        .with_ansi(!journal && io::stderr().is_terminal());
    // The journal has the time and the priority of each line itself.
    let _ = if journal {
        builder.without_time().with_level(false).try_init()
    } else {
        builder.try_init()
    };
    std::panic::set_hook(Box::new(|panic| {
        say(Level::ERROR, format_args!("{panic}"));
        flush();
    }));
    Ok(())
}

/// Writes one line of the program itself, without time and target; to standard error directly
/// before [`start`], where the program has nothing else to do yet.
pub(crate) fn say(level: Level, text: fmt::Arguments<'_>) {
    match LOG.get() {
        Some(log) => log.push(level, text.to_string().into_bytes()),
        None => {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }
}

/// Lines that were dropped since start, because nobody took them in time or they could not be
/// written.
pub(crate) fn dropped() -> u64 {
    LOG.get()
        .map_or(0, |log| log.dropped.load(Ordering::Relaxed))
}

/// Waits until everything logged so far is written, for half a second at most.
pub(crate) fn flush() {
    let Some(log) = LOG.get() else {
        return;
    };
    let until = Instant::now() + FLUSH;
    let (done, written) = sync_channel(1);
    while log.queue.try_send(Item::Flush(done.clone())).is_err() {
        if Instant::now() >= until {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = written.recv_timeout(until.saturating_duration_since(Instant::now()));
}

impl Log {
    fn push(&self, level: Level, text: Vec<u8>) {
        let line = line(level, text, self.journal);
        if self.queue.try_send(Item::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// One line, whatever is in the text: with its end, cut where it is too long, and with its priority
/// if it goes to the journal.
fn line(level: Level, mut text: Vec<u8>, journal: bool) -> Vec<u8> {
    while text.last() == Some(&b'\n') {
        text.pop();
    }
    text.truncate(LONGEST);
    let mut out = Vec::with_capacity(text.len() + 4);
    if journal {
        let priority = match level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        out.extend_from_slice(format!("<{priority}>").as_bytes());
    }
    for byte in text {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            byte => out.push(byte),
        }
    }
    out.push(b'\n');
    out
}

/// Whether standard error is the stream that systemd gave this process for the journal.
fn to_the_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    rustix::fs::fstat(io::stderr())
        .is_ok_and(|here| named == format!("{}:{}", here.st_dev, here.st_ino))
}

fn write_all(lines: &Receiver<Item>) {
    let mut told = 0;
    // Whether the last line written was left without its end.
    let mut torn = false;
    while let Ok(item) = lines.recv() {
        let text = match item {
            Item::Line(text) => text,
            Item::Flush(done) => {
                let _ = done.try_send(());
                continue;
            }
        };
        let dropped = dropped();
        let mut out = Vec::new();
        if torn {
            out.push(b'\n');
        }
        if dropped > told {
            let journal = LOG.get().is_some_and(|log| log.journal);
            let words = format!("{} lines of this log were dropped", dropped - told);
            out.extend(line(Level::WARN, words.into_bytes(), journal));
        }
        out.extend(text);
        match write(&out) {
            Ok(()) => (told, torn) = (dropped, false),
            Err(written) => {
                torn |= written > 0;
                if let Some(log) = LOG.get() {
                    log.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Writes all of it, waiting for the reader as long as it takes; the error is the number of bytes
/// that were written before a failure.
fn write(mut bytes: &[u8]) -> Result<(), usize> {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::io::Errno;
    let stderr = io::stderr();
    let mut written = 0;
    while !bytes.is_empty() {
        match rustix::io::write(&stderr, bytes) {
            Ok(n) => {
                written += n;
                bytes = &bytes[n..];
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], None);
            }
            Err(_) => return Err(written),
        }
    }
    Ok(())
}

/// Where the formatter writes to.
struct Door;

/// One line being formatted; it leaves when it is dropped.
struct Line {
    level: Level,
    text: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Door {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line {
            level: Level::INFO,
            text: Vec::new(),
        }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line {
        Line {
            level: *meta.level(),
            text: Vec::new(),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(log) = LOG.get() {
            log.push(self.level, std::mem::take(&mut self.text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_with_its_priority() {
        let text = |level, text: &str, journal| {
            String::from_utf8(line(level, text.into(), journal)).expect("text")
        };
        assert_eq!(text(Level::INFO, "a\nb\n", false), "a\\nb\n");
        assert_eq!(text(Level::WARN, "low", true), "<4>low\n");
        assert_eq!(text(Level::ERROR, "bad", true), "<3>bad\n");
        assert_eq!(text(Level::DEBUG, "", true), "<7>\n");
        let long = text(Level::INFO, &"x".repeat(LONGEST * 2), false);
        assert_eq!(long.len(), LONGEST + 1);
    }

    #[test]
    fn a_full_queue_costs_lines_and_they_are_counted() {
        let (queue, lines) = sync_channel(2);
        let log = Log {
            queue,
            dropped: AtomicU64::new(0),
            journal: false,
        };
        for n in 0..5 {
            log.push(Level::INFO, format!("{n}").into_bytes());
        }
        assert_eq!(log.dropped.load(Ordering::Relaxed), 3);
        let kept = lines.try_iter().filter_map(|item| match item {
            Item::Line(text) => Some(text),
            Item::Flush(_) => None,
        });
        assert_eq!(kept.collect::<Vec<_>>(), [b"0\n", b"1\n"]);
    }
}
