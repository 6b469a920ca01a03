//! Finding and ending every process of a guest, wherever it went.
//!
//! A process belongs to a guest by its process group or session, by the marks in its environment,
//! or by descent from a process that does. The leader is the reaper of its orphans, so descent
//! holds even for one that cleaned its environment and left the session, as long as the leader
//! lives; members are therefore frozen until no new one is found, and only then ended. Out of
//! reach is a process that did all of that and lost its leader before: only a control group holds
//! such a one.

use super::ending::end_round;
use super::records::GuestRecord;
use quorate_membership::Token;
use quorate_recovery::guest::GuestId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

/// One process as the kernel shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// The parent's.
    pub parent: i32,
    /// Process group.
    pub group: i32,
    /// Session.
    pub session: i32,
    /// The kernel's letter for its state.
    pub state: u8,
    /// Threads that are left.
    pub threads: i64,
    /// When it started, in clock ticks since boot.
    pub start: u64,
}

impl Process {
    /// What the kernel says of process `pid`; `None` if there is none.
    #[must_use]
    pub fn look(pid: i32) -> Option<Process> {
        Process::find(pid).ok().flatten()
    }

    /// The same, apart from what cannot be read.
    ///
    /// # Errors
    /// Nothing says whether there is one.
    pub fn find(pid: i32) -> io::Result<Option<Process>> {
        // The kernel gives the whole line to one call; it is far shorter than that.
        let mut line = [0; 4096];
        let read = File::open(format!("/proc/{pid}/stat")).and_then(|mut f| f.read(&mut line));
        match read {
            Ok(n) => Ok(Process::parse(&line[..n])),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(None),
            Err(e) => Err(io::Error::new(e.kind(), format!("process {pid}: {e}"))),
        }
    }

    /// This process.
    ///
    /// # Errors
    /// `/proc` does not show it.
    pub fn me() -> io::Result<Process> {
        let pid = i32::try_from(std::process::id()).map_err(io::Error::other)?;
        Process::look(pid).ok_or_else(|| io::Error::other("/proc does not show this process"))
    }

    /// The command name may hold anything, so fields are counted from its last parenthesis.
    fn parse(stat: &[u8]) -> Option<Process> {
        let close = stat.iter().rposition(|b| *b == b')')?;
        let pid = std::str::from_utf8(stat).ok().or_else(|| {
            let space = stat.iter().position(|b| *b == b' ')?;
            std::str::from_utf8(&stat[..space]).ok()
        })?;
        let pid = pid.split(' ').next()?.parse().ok()?;
        let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        Some(Process {
            pid,
            state: *fields.first()?.as_bytes().first()?,
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            threads: fields.get(17)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
        })
    }

    /// Whether nothing of it runs any more; it may still wait for its parent to take note. The
    /// first thread may be over while others run on.
    #[must_use]
    pub fn gone(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x') && self.threads <= 1
    }

    /// Whether it is held by a signal or a tracer.
    #[must_use]
    pub fn stopped(&self) -> bool {
        matches!(self.state, b'T' | b't')
    }
}

/// The leader of a registered guest: `None` if it is gone or its id belongs to another by now.
#[must_use]
pub fn leader(record: &GuestRecord) -> Option<Process> {
    Process::look(record.pgid).filter(|p| p.start == record.start && !p.gone())
}

/// The leader of a registered guest, held so that its id can mean no later process, and so that its
/// end is seen and brought about without `/proc`. `None` if it is gone.
///
/// # Errors
/// Nothing says whether it is there.
pub(super) fn held(record: &GuestRecord) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = Pid::from_raw(record.pgid) else {
        return Ok(None);
    };
    let handle = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => handle,
        Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    // Looked at after it is held.
    let there = Process::find(record.pgid)?.is_some_and(|p| p.start == record.start);
    Ok(there.then_some(handle))
}

/// Whether a held process has ended. What cannot be seen has not.
pub(super) fn over(handle: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(handle, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|n| n > 0)
}

/// Ends a held leader and the process group that it vouches for.
///
/// # Errors
/// It may not be signalled.
pub(super) fn end_held(record: &GuestRecord, handle: &OwnedFd) -> io::Result<()> {
    if !over(handle)
        && record.pgid > 1
        && let Some(group) = Pid::from_raw(record.pgid)
    {
        // It leads none if libvirt started it.
        let _ = kill_process_group(group, Signal::KILL);
    }
    match pidfd_send_signal(handle, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(e) => Err(io::Error::other(format!("process {}: {e}", record.pgid))),
    }
}

/// Guest and epoch that the marks of a process name; `None` if they cannot be read.
pub type Marks = Option<(GuestId, Token)>;

pub use super::scan::{Scan, passes};

/// Which marks lead to processes, beside records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Those of guests.
    Guests,
    /// Those of what agents started.
    Agents,
}

/// Which processes are meant.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// The run directory of the marks.
    pub dir: &'a Path,
    /// Registered guests of this boot.
    pub records: &'a [GuestRecord],
    /// Whether a process with these marks is meant too.
    pub marked: &'a dyn Fn(Marks) -> bool,
}

impl Wanted<'_> {
    /// The processes of `scan` that are meant and not gone. Never this process, nor the first.
    #[must_use]
    pub fn among(&self, scan: &Scan) -> BTreeSet<i32> {
        self.among_kind(scan, Kind::Guests)
    }

    /// The same, by the marks of a kind.
    #[must_use]
    pub fn among_kind(&self, scan: &Scan, kind: Kind) -> BTreeSet<i32> {
        let all = &scan.all;
        let marks = match kind {
            Kind::Guests => &scan.marked,
            Kind::Agents => &scan.agents,
        };
        let me = i32::try_from(std::process::id()).unwrap_or(0);
        // An id can be given anew only when group and session of the old holder are empty, so
        // another process under the leader's id means that nothing is left by that id.
        let by_id: BTreeSet<i32> = self
            .records
            .iter()
            .filter(|r| r.pgid > 1 && all.get(&r.pgid).is_none_or(|p| p.start == r.start))
            .map(|r| r.pgid)
            .collect();
        let mut found: BTreeSet<i32> = all
            .values()
            .filter(|p| {
                // One that a daemon of another kind started leads no group.
                by_id.contains(&p.pid)
                    || by_id.contains(&p.group)
                    || by_id.contains(&p.session)
                    || marks.get(&p.pid).is_some_and(|m| (self.marked)(*m))
            })
            .map(|p| p.pid)
            .collect();
        if found.is_empty() {
            return found;
        }
        let mut children: Vec<(i32, i32)> = all.values().map(|p| (p.parent, p.pid)).collect();
        children.sort_unstable();
        let mut open: Vec<i32> = found.iter().copied().collect();
        while let Some(parent) = open.pop() {
            let first = children.partition_point(|(of, _)| *of < parent);
            let of = children[first..].iter().take_while(|(of, _)| *of == parent);
            open.extend(of.map(|(_, pid)| *pid).filter(|pid| found.insert(*pid)));
        }
        found.retain(|pid| *pid > 1 && *pid != me && all.get(pid).is_some_and(|p| !p.gone()));
        found
    }

    /// Freezes and ends every process that is meant; says how many there were. Zero means that
    /// nothing is left; otherwise ask again shortly, for the kernel takes its time.
    ///
    /// # Errors
    /// The processes cannot be listed, or one of them cannot be signalled.
    pub fn end(&self) -> io::Result<usize> {
        let mut look = || Scan::take(Some(self.dir));
        let [found] = end_round(&mut look, [(self, Kind::Guests)])?;
        found
    }

    /// Signals whole groups at once, where the leader is there to vouch for the id.
    pub(super) fn groups(&self, all: &BTreeMap<i32, Process>, signal: Signal) {
        for record in self.records {
            let vouched = all
                .get(&record.pgid)
                .is_some_and(|p| p.start == record.start);
            if let (true, Some(group)) = (vouched && record.pgid > 1, Pid::from_raw(record.pgid)) {
                let _ = kill_process_group(group, signal);
            }
        }
    }
}

/// Signals exactly this process, never a later one of its id. One that is gone needs no signal.
///
/// # Errors
/// It may not be signalled.
pub fn signal(process: &Process, signal: Signal) -> io::Result<()> {
    let Some(pid) = Pid::from_raw(process.pid) else {
        return Ok(());
    };
    let handle = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => handle,
        // A thread's id or a process that is no more.
        Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    if Process::look(process.pid).is_none_or(|p| p.start != process.start) {
        return Ok(());
    }
    match pidfd_send_signal(handle, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(e) => Err(io::Error::other(format!("process {pid:?}: {e}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_membership::BootId;

    fn process(pid: i32, parent: i32, group: i32, start: u64) -> (i32, Process) {
        let process = Process {
            pid,
            parent,
            group,
            session: group,
            state: b'S',
            threads: 1,
            start,
        };
        (pid, process)
    }

    fn record(pgid: i32, start: u64) -> GuestRecord {
        GuestRecord {
            guest: GuestId(1),
            epoch: Token(2),
            boot: BootId(3),
            draw: 4,
            pgid,
            start,
        }
    }

    fn found(records: &[GuestRecord], all: BTreeMap<i32, Process>) -> Vec<i32> {
        let wanted = Wanted {
            dir: Path::new("/nowhere"),
            records,
            marked: &|_| false,
        };
        let scan = Scan {
            all,
            ..Scan::default()
        };
        wanted.among(&scan).into_iter().collect()
    }

    #[test]
    fn a_name_full_of_parentheses_does_not_shift_the_fields() {
        let line = b"77 (a) Z (\xff b) T 1 70 71 0 -1 0 0 0 0 0 0 0 0 0 20 0 3 0 9876 0";
        let p = Process::parse(line).expect("parsed");
        assert_eq!((p.pid, p.state, p.parent), (77, b'T', 1));
        assert_eq!((p.group, p.session, p.threads, p.start), (70, 71, 3, 9876));
        assert_eq!(Process::parse(b"77 (a"), None);
        assert_eq!(Process::parse(b""), None);
    }

    #[test]
    fn descendants_belong_wherever_they_went() {
        let p = 1_900_000_000;
        let all = [
            process(p, 1, p, 10),
            process(p + 1, p, p + 1, 11),
            process(p + 2, p + 1, p + 2, 12),
            process(p + 3, 1, p + 3, 12),
        ]
        .into();
        assert_eq!(found(&[record(p, 10)], all), [p, p + 1, p + 2]);
    }

    #[test]
    fn members_are_found_after_their_leader_went() {
        let p = 1_900_000_000;
        let all = [process(p + 1, 1, p, 11)].into();
        assert_eq!(found(&[record(p, 10)], all), [p + 1]);
    }

    #[test]
    fn a_registered_process_is_meant_though_it_leads_no_group() {
        let p = 1_900_000_000;
        let led = |pid, parent, start| {
            let (pid, mut one) = process(pid, parent, p - 7, start);
            one.session = p - 7;
            (pid, one)
        };
        let all: BTreeMap<i32, Process> = [led(p, 1, 10), led(p + 1, p, 11)].into();
        assert_eq!(found(&[record(p, 10)], all.clone()), [p, p + 1]);
        assert!(found(&[record(p, 9)], all).is_empty(), "another of its id");
    }

    #[test]
    fn a_later_process_of_the_same_id_is_nobodys_guest() {
        let p = 1_900_000_000;
        let all = [process(p, 1, p, 99), process(p + 1, p, p, 99)].into();
        assert!(found(&[record(p, 10)], all).is_empty());
    }

    #[test]
    fn a_process_whose_first_thread_is_over_is_not_gone() {
        let (_, mut p) = process(5, 1, 5, 1);
        p.state = b'Z';
        assert!(p.gone());
        p.threads = 2;
        assert!(!p.gone());
    }

    #[test]
    fn this_process_is_seen_and_never_meant() {
        let me = Process::me().expect("seen");
        let scan = Scan::take(None).expect("listed");
        assert_eq!(scan.get(me.pid).map(|p| p.start), Some(me.start));
        assert!(!found(&[record(me.pid, me.start)], scan.all).contains(&me.pid));
    }
}
