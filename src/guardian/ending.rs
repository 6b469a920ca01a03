//! One round of ending: what is meant is stopped until a look finds no more of it, and then ended.
//!
//! A look is one pass over all processes of the host, the dearest thing that is done at a lease
//! end, and its price grows with processes that are nobody's guests. So each look serves every kind
//! of mark and every guest, and a round that finds nothing is one look.

use super::processes::{Kind, Wanted, signal};
use super::scan::Scan;
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::io;

/// Looks for new members before the found ones are ended all the same.
const FREEZE_ROUNDS: usize = 6;

/// Freezes and ends every process that is meant; says for each kind how many the last look found.
/// Zero means that nothing of it is left; otherwise ask again shortly, for the kernel takes its time.
///
/// # Errors
/// The processes cannot be listed; for a kind, one of them cannot be signalled.
pub(crate) fn end_round<const N: usize>(
    look: &mut dyn FnMut() -> io::Result<Scan>,
    meant: [(&Wanted<'_>, Kind); N],
) -> io::Result<[io::Result<usize>; N]> {
    let among = |scan: &Scan| meant.map(|(wanted, kind)| wanted.among_kind(scan, kind));
    let mut scan = look()?;
    let mut members = among(&scan);
    if members.iter().all(BTreeSet::is_empty) {
        return Ok([(); N].map(|()| Ok(0)));
    }
    let mut failed = [(); N].map(|()| None);
    let mut frozen: BTreeSet<i32> = BTreeSet::new();
    for _ in 0..FREEZE_ROUNDS {
        for (((wanted, _), members), failed) in meant.iter().zip(&members).zip(&mut failed) {
            wanted.groups(&scan.all, Signal::STOP);
            for pid in members.difference(&frozen) {
                let done = signal(&scan.all[pid], Signal::STOP);
                *failed = done.err().or(failed.take());
            }
        }
        frozen.extend(members.iter().flatten().copied());
        scan = look()?;
        members = among(&scan);
        if members.iter().all(|members| members.is_subset(&frozen)) {
            break;
        }
    }
    for (((wanted, _), members), failed) in meant.iter().zip(&members).zip(&mut failed) {
        wanted.groups(&scan.all, Signal::KILL);
        for pid in members {
            let done = signal(&scan.all[pid], Signal::KILL);
            *failed = done.err().or(failed.take());
        }
    }
    let mut found = members.iter().map(BTreeSet::len);
    Ok(failed.map(|failed| failed.map_or(Ok(found.next().unwrap_or(0)), Err)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guardian::known::EMPTY_ROUNDS;
    use crate::guardian::processes::Process;
    use crate::guardian::records::GuestRecord;
    use quorate_membership::{BootId, Token};
    use quorate_recovery::guest::GuestId;
    use std::path::Path;

    /// Above every id that the kernel gives: a signal to it reaches nobody.
    const FIRST: i32 = 1_900_000_000;

    fn process(pid: i32, parent: i32, group: i32) -> (i32, Process) {
        let process = Process {
            pid,
            parent,
            group,
            session: group,
            state: b'S',
            threads: 1,
            start: 10,
        };
        (pid, process)
    }

    /// A host of `processes`: the first of every 20 leads a guest, up to `guests`; one in ten of the
    /// others was started by an agent.
    fn host(guests: i32, processes: i32) -> (Vec<GuestRecord>, Scan) {
        let leader = |n: i32| FIRST + n - n % 20;
        let records = (0..guests).map(|n| GuestRecord {
            guest: GuestId(u64::from(n.unsigned_abs())),
            epoch: Token(2),
            boot: BootId(3),
            draw: 4,
            pgid: FIRST + 20 * n,
            start: 10,
        });
        let all = (0..processes).map(|n| process(FIRST + n, 1, leader(n)));
        let agents = (20 * guests..processes).filter(|n| n % 10 == 1);
        let scan = Scan {
            all: all.collect(),
            marked: [].into(),
            agents: agents.map(|n| (FIRST + n, None)).collect(),
        };
        (records.collect(), scan)
    }

    /// Looks until nothing is left `EMPTY_ROUNDS` times.
    fn looks(guests: i32, processes: i32, gone_after: usize) -> usize {
        let (records, full) = host(guests, processes);
        let of_guests = Wanted {
            dir: Path::new("/nowhere"),
            records: &records,
            marked: &|_| true,
        };
        let of_agents = Wanted {
            records: &[],
            ..of_guests
        };
        let mut looks = 0;
        let mut empty = 0;
        while empty < EMPTY_ROUNDS {
            let mut look = || {
                looks += 1;
                let there = looks <= gone_after;
                Ok(if there { full.clone() } else { Scan::default() })
            };
            let meant = [(&of_guests, Kind::Guests), (&of_agents, Kind::Agents)];
            let found = end_round(&mut look, meant).expect("looked");
            let none = found.iter().all(|n| matches!(n, Ok(0)));
            empty = if none { empty + 1 } else { 0 };
        }
        looks
    }

    #[test]
    fn the_number_of_looks_depends_on_no_size() {
        for (guests, processes) in [(1, 20), (50, 4000), (300, 6000)] {
            // Ended by their groups before the first look.
            assert_eq!(looks(guests, processes, 0), 2);
            // Found, stopped, found again, ended, and seen gone twice.
            assert_eq!(looks(guests, processes, 2), 4);
        }
    }

    #[test]
    fn each_kind_is_found_by_its_own_marks() {
        let (records, scan) = host(3, 200);
        let guests = Wanted {
            dir: Path::new("/nowhere"),
            records: &records,
            marked: &|_| true,
        };
        let agents = Wanted {
            records: &[],
            ..guests
        };
        let mut look = || Ok(scan.clone());
        let meant = [(&guests, Kind::Guests), (&agents, Kind::Agents)];
        let [guests, agents] = end_round(&mut look, meant).expect("looked");
        assert_eq!(guests.expect("signalled"), 60);
        assert_eq!(agents.expect("signalled"), 14);
    }
}
