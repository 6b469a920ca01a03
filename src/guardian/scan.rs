//! One look through all processes for everybody who asks, on a thread of its own.
//!
//! Reading the environment of a process waits for its memory map, which a process that hangs in the
//! kernel may hold for ever; whoever reads it then waits as long. So one thread reads, and whoever
//! asks waits for its answer only as long as it gets on. Those who ask while it is at work share
//! the next answer, so the number of looks does not grow with the number of guests.

use super::processes::{Marks, Process};
use super::records::{MARK_DIR, MARK_DOMAIN, MARK_EPOCH, MARK_GUEST, parse_hex};
use crate::ocf::MARK_OCF;
use quorate_membership::Token;
use quorate_recovery::guest::GuestId;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A look that does not get on for so long hangs.
const HANGS: Duration = Duration::from_secs(2);
/// Between two looks at how far it is.
const GLANCE: Duration = Duration::from_millis(100);

/// Every process of the machine (or of this pid namespace), as one pass over `/proc` found it.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// By process id.
    pub all: BTreeMap<i32, Process>,
    /// Those that carry the marks of the run directory that was asked for.
    pub marked: BTreeMap<i32, Marks>,
    /// Those that carry the marks of what its agents started.
    pub agents: BTreeMap<i32, Marks>,
}

/// What the name of every mark begins with.
const MARKS: &[u8] = b"QUORATE_";

/// A process that carries marks of quorate.
#[derive(Debug)]
struct Marked {
    pid: i32,
    name: &'static str,
    dir: Vec<u8>,
    marks: Marks,
}

/// What one pass found.
#[derive(Debug, Default)]
struct Pass {
    all: BTreeMap<i32, Process>,
    marked: Vec<Marked>,
}

type Answer = Result<Arc<Pass>, (io::ErrorKind, String)>;

#[derive(Default)]
struct Desk {
    /// Number of the last request.
    asked: u64,
    /// The requests up to this one are answered by `answer`.
    served: u64,
    answer: Option<Answer>,
    started: bool,
}

#[derive(Default)]
struct Scanner {
    desk: Mutex<Desk>,
    changed: Condvar,
    /// Rises with every process that is read.
    progress: AtomicU64,
    /// The process that is being read.
    at: AtomicI32,
    passes: AtomicU64,
}

fn scanner() -> &'static Scanner {
    static ONE: OnceLock<Scanner> = OnceLock::new();
    ONE.get_or_init(Scanner::default)
}

/// How many passes over the environments of all processes this process has begun.
#[must_use]
pub fn passes() -> u64 {
    scanner().passes.load(Ordering::Relaxed)
}

/// Starts the thread that looks, while there is room for one.
///
/// # Errors
/// There is none.
pub(crate) fn ready() -> io::Result<()> {
    scanner().start(&mut scanner().lock())
}

impl Scanner {
    fn lock(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&'static self, desk: &mut Desk) -> io::Result<()> {
        if !desk.started {
            let thread = thread::Builder::new().name("scan".into());
            thread.spawn(move || self.serve())?;
            desk.started = true;
        }
        Ok(())
    }

    fn serve(&self) {
        loop {
            let mut desk = self.lock();
            while desk.asked == desk.served {
                desk = self
                    .changed
                    .wait(desk)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            // Whoever has asked by now is answered by a pass that begins after the question.
            let serves = desk.asked;
            drop(desk);
            let answer = self.pass().map(Arc::new);
            let answer = answer.map_err(|e| (e.kind(), e.to_string()));
            let mut desk = self.lock();
            desk.answer = Some(answer);
            desk.served = serves;
            self.changed.notify_all();
        }
    }

    fn pass(&self) -> io::Result<Pass> {
        self.passes.fetch_add(1, Ordering::Relaxed);
        let mut pass = Pass::default();
        let mut environ = Vec::new();
        for pid in pids()? {
            let pid = pid?;
            self.at.store(pid, Ordering::Relaxed);
            self.progress.fetch_add(1, Ordering::Relaxed);
            let Some(process) = Process::find(pid)? else {
                continue;
            };
            pass.all.insert(pid, process);
            if process.gone() {
                // Its memory went, and its marks with it.
                continue;
            }
            marks(pid, &mut environ, &mut pass.marked)?;
        }
        if pass.all.is_empty() {
            return Err(nothing());
        }
        Ok(pass)
    }

    /// A pass that began after this call.
    fn ask(&'static self) -> io::Result<Arc<Pass>> {
        let mut desk = self.lock();
        self.start(&mut desk)?;
        desk.asked += 1;
        let mine = desk.asked;
        self.changed.notify_all();
        let mut seen = (self.progress.load(Ordering::Relaxed), Instant::now());
        while desk.served < mine {
            let waited = self.changed.wait_timeout(desk, GLANCE);
            desk = waited.unwrap_or_else(PoisonError::into_inner).0;
            let progress = self.progress.load(Ordering::Relaxed);
            if progress != seen.0 {
                seen = (progress, Instant::now());
            } else if seen.1.elapsed() >= HANGS && desk.served < mine {
                let at = self.at.load(Ordering::Relaxed);
                let why = format!("looking through the processes hangs at process {at}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
        }
        match &desk.answer {
            Some(Ok(pass)) => Ok(Arc::clone(pass)),
            Some(Err((kind, why))) => Err(io::Error::new(*kind, why.clone())),
            None => Err(nothing()),
        }
    }
}

fn nothing() -> io::Error {
    io::Error::other("/proc shows no process at all")
}

fn pids() -> io::Result<impl Iterator<Item = io::Result<i32>>> {
    Ok(fs::read_dir("/proc")?.filter_map(|entry| match entry {
        Ok(entry) => Some(Ok(entry.file_name().to_str()?.parse().ok()?)),
        Err(e) => Some(Err(e)),
    }))
}

/// Adds the marks in the environment of a process, of whatever run directory, to `found`.
///
/// # Errors
/// The environment is there and cannot be read. One that belongs to another user is no error: only
/// root ends the guests of others.
fn marks(pid: i32, environ: &mut Vec<u8>, found: &mut Vec<Marked>) -> io::Result<()> {
    environ.clear();
    let file = File::open(format!("/proc/{pid}/environ"));
    // Its size is not asked for: it is told as zero.
    let read = file.and_then(|f| f.take(u64::MAX).read_to_end(environ));
    match read {
        Ok(_) => {}
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
            ) || e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) =>
        {
            return Ok(());
        }
        Err(e) => return Err(io::Error::new(e.kind(), format!("process {pid}: {e}"))),
    }
    let ours = environ.split(|b| *b == 0);
    let ours: Vec<&[u8]> = ours.filter(|pair| pair.starts_with(MARKS)).collect();
    let value = |name: &str| {
        ours.iter().find_map(|pair| {
            let rest = pair.strip_prefix(name.as_bytes())?;
            rest.strip_prefix(b"=")
        })
    };
    if value(MARK_DOMAIN).is_some_and(|domain| is_copy(pid, domain)) {
        return Ok(());
    }
    let hex = |v: &[u8]| std::str::from_utf8(v).ok().and_then(parse_hex);
    for name in [MARK_DIR, MARK_OCF] {
        let (Some(dir), Some(guest)) = (value(name), value(MARK_GUEST)) else {
            continue;
        };
        let epoch = value(MARK_EPOCH).and_then(hex);
        let marks = hex(guest).zip(epoch).map(|(g, e)| (GuestId(g), Token(e)));
        found.push(Marked {
            pid,
            name,
            dir: dir.to_vec(),
            marks,
        });
    }
    Ok(())
}

/// Whether a process runs another domain than the marks in its environment were made for: somebody
/// made that from a copy of the description. What does not say which one it runs is no copy.
fn is_copy(pid: i32, domain: &[u8]) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = line.split(|b| *b == 0);
    words.any(|w| w == b"-uuid") && words.next().is_some_and(|own| own != domain)
}

impl Scan {
    /// Looks at every process, and at the marks of run directory `dir` if one is given.
    ///
    /// # Errors
    /// `/proc` cannot be read to its end, or reading it hangs.
    pub fn take(dir: Option<&Path>) -> io::Result<Scan> {
        let Some(dir) = dir else {
            // Nothing here waits for another process.
            let mut scan = Scan::default();
            for pid in pids()? {
                let pid = pid?;
                scan.all.extend(Process::find(pid)?.map(|p| (pid, p)));
            }
            return match scan.all.is_empty() {
                true => Err(nothing()),
                false => Ok(scan),
            };
        };
        let pass = scanner().ask()?;
        let dir = dir.as_os_str().as_bytes();
        let by = |name: &str| {
            let of = pass.marked.iter();
            let of = of.filter(|m| m.name == name && m.dir == dir);
            of.map(|m| (m.pid, m.marks)).collect()
        };
        Ok(Scan {
            marked: by(MARK_DIR),
            agents: by(MARK_OCF),
            all: pass.all.clone(),
        })
    }

    /// A process of the scan.
    #[must_use]
    pub fn get(&self, pid: i32) -> Option<&Process> {
        self.all.get(&pid)
    }

    /// Those of `pids` that are not stopped.
    #[must_use]
    pub fn running(&self, pids: &std::collections::BTreeSet<i32>) -> Vec<Process> {
        let of = pids.iter().filter_map(|pid| self.get(*pid));
        of.filter(|p| !p.stopped()).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_a_domain_is_none_of_its_guest() {
        let dir = tempfile::tempdir().expect("a directory");
        let begin = |args: &[&str]| {
            let mut command = std::process::Command::new("sh");
            // Its end is the end of its standard input.
            command.args(["-c", "read end", "qemu"]).args(args);
            command.env(MARK_DIR, dir.path()).env(MARK_DOMAIN, "a-b");
            command.env(MARK_GUEST, "7").env(MARK_EPOCH, "9");
            command.stdin(std::process::Stdio::piped());
            command.spawn().expect("started")
        };
        let mut all = [&["-uuid", "a-b"][..], &["-uuid", "a-c"], &[]].map(begin);
        let ids = all.each_ref().map(|child| child.id().cast_signed());
        let scan = Scan::take(Some(dir.path())).expect("a scan");
        let found = ids.map(|id| scan.marked.contains_key(&id));
        for child in &mut all {
            drop(child.stdin.take());
            child.wait().expect("ended");
        }
        assert_eq!(found, [true, false, true]);
    }

    #[test]
    fn those_who_ask_together_share_a_pass() {
        let begin = std::sync::Barrier::new(16);
        let before = passes();
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    begin.wait();
                    let scan = Scan::take(Some(Path::new("/nowhere"))).expect("a scan");
                    assert!(!scan.all.is_empty() && scan.marked.is_empty());
                });
            }
        });
        // At most one is at work while they ask; other tests of this process may ask as well.
        assert!(passes() > before);
    }
}
