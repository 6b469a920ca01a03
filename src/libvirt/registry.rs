//! The lives of domains in the run directory: what the guardian reads, and one mark more.
//!
//! ```text
//! RUN_DIR/guests/G-E.N.domain          the life G-E is a domain of libvirt: which one
//! ```
//!
//! The mark is written before libvirt is asked to create the domain and stays until nothing of it
//! is left, so a daemon that comes back knows of a start that may still be under way.

use crate::guardian::cgroups;
use crate::guardian::processes::{Scan, Wanted};
use crate::guardian::records::{self, GuestRecord, IntentRecord, Record, RunDir};
use crate::hypervisor::register;
use quorate_membership::{BootId, Token};
use quorate_recovery::domain::{parse_uuid, uuid};
use quorate_recovery::guest::GuestId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, File};

/// Guest and epoch: one life of a guest.
pub(super) type Life = (GuestId, Token);

/// Which domain a life is. Lies in `guests/G-E.N.domain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DomainRecord {
    /// The guest.
    pub guest: GuestId,
    /// The epoch it is created under.
    pub epoch: Token,
    /// The boot it belongs to.
    pub boot: BootId,
    /// Drawn for this start.
    pub draw: u64,
    /// The domain's UUID, as people write it.
    pub uuid: String,
    /// The domain's name.
    pub name: String,
}

impl Record for DomainRecord {
    const KIND: &'static str = "domain";
}

/// A life as the run directory has it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub life: Life,
    pub uuid: u128,
    pub name: String,
    pub boot: BootId,
    pub draw: u64,
    /// Its process, once it is registered.
    pub record: Option<GuestRecord>,
}

/// The registry as this room uses it.
#[derive(Clone, Debug)]
pub(super) struct Registry {
    pub run: RunDir,
    pub boot: BootId,
    pub host: String,
}

fn words(e: std::io::Error) -> String {
    e.to_string()
}

impl Registry {
    /// Every life that is a domain.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub(super) fn known(&self) -> Result<Vec<Known>, String> {
        let mut found = Vec::new();
        for file in fs::read_dir(self.run.guests()).map_err(words)? {
            let path = file.map_err(words)?.path();
            let name = path.file_name().and_then(|n| n.to_str());
            if !name.is_some_and(|n| n.ends_with(".domain") && !n.starts_with('.')) {
                continue;
            }
            // What cannot be read leads nowhere; its processes are found by their marks.
            let mark = match records::read::<DomainRecord>(&path) {
                Ok(None) => continue,
                Ok(Some(mark)) => mark,
                Err(why) => {
                    tracing::error!("{why}");
                    continue;
                }
            };
            let Some(id) = parse_uuid(&mark.uuid) else {
                tracing::error!("{}: its UUID is none", path.display());
                continue;
            };
            let life = (mark.guest, mark.epoch);
            let record = records::read::<GuestRecord>(&self.run.guest(life.0, life.1));
            let record = record.unwrap_or_else(|why| {
                tracing::error!("{why}");
                None
            });
            found.push(Known {
                life,
                uuid: id,
                name: mark.name,
                boot: mark.boot,
                draw: mark.draw,
                record: record.filter(|r| r.draw == mark.draw),
            });
        }
        found.sort_by_key(|k| k.life);
        Ok(found)
    }

    /// Says that libvirt is about to be asked for this domain.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn announce(
        &self,
        life: Life,
        draw: u64,
        id: u128,
        name: &str,
    ) -> Result<(), String> {
        let mark = DomainRecord {
            guest: life.0,
            epoch: life.1,
            boot: self.boot,
            draw,
            uuid: uuid(id),
            name: name.to_owned(),
        };
        let path = self.run.domain(life.0, life.1, draw);
        records::write(&path, &mark).map_err(words)
    }

    /// Writes the intent of a start, which whoever unlinks it calls off.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn intend(&self, life: Life, draw: u64, name: &str) -> Result<(), String> {
        let plan = IntentRecord {
            guest: life.0,
            epoch: life.1,
            boot: self.boot,
            name: name.to_owned(),
            host: self.host.clone(),
            // No launcher is to run anything for it.
            argv: Vec::new(),
            env: std::collections::BTreeMap::new(),
        };
        records::write(&self.run.intent(life.0, life.1, draw), &plan).map_err(words)
    }

    /// Calls off every start of `guest` that `meant` names.
    ///
    /// # Errors
    /// The registry cannot be read or written.
    pub(super) fn call_off(
        &self,
        guest: GuestId,
        meant: &dyn Fn(Token) -> bool,
    ) -> Result<(), String> {
        for (path, entry) in self.run.entries().map_err(words)? {
            if matches!(entry, records::Entry::Intent(g, e) if g == guest && meant(e)) {
                records::remove(&path).map_err(words)?;
            }
        }
        Ok(())
    }

    /// The intent of a start becomes the registration of its process, unless it was called off.
    ///
    /// # Errors
    /// It was called off, or its process cannot be told from others.
    pub(super) fn enrol(&self, life: Life, draw: u64, id: u128) -> Result<GuestRecord, String> {
        let scan = Scan::take(Some(self.run.path())).map_err(words)?;
        let mine = |pid: &i32| scan.marked.get(pid) == Some(&Some(life));
        // What QEMU itself starts carries the marks too.
        let heads: Vec<i32> = scan
            .marked
            .keys()
            .copied()
            .filter(|pid| mine(pid))
            .filter(|pid| {
                scan.get(*pid)
                    .is_some_and(|p| !p.gone() && !mine(&p.parent))
            })
            .filter(|pid| runs_domain(*pid, id))
            .collect();
        let [pid] = heads.as_slice() else {
            return Err(format!(
                "{} processes of QEMU carry the marks of this start, one is expected",
                heads.len()
            ));
        };
        let process = scan.get(*pid).ok_or("its process is gone")?;
        let record = GuestRecord {
            guest: life.0,
            epoch: life.1,
            boot: self.boot,
            draw,
            pgid: process.pid,
            start: process.start,
        };
        let intent = self.run.intent(life.0, life.1, draw);
        let mut file = File::options()
            .write(true)
            .open(&intent)
            .map_err(|e| format!("the start was called off: {e}"))?;
        register(&self.run, &intent, &mut file, &record)?;
        if let Err(why) = cgroups::adopt(&self.run, &record) {
            tracing::warn!("{}: no control group of its own: {why}", life.0);
        }
        Ok(record)
    }

    /// Acts on the processes of these lives, and on those that carry marks `marked` names.
    pub(super) fn processes<T>(
        &self,
        of: &[Known],
        marked: &dyn Fn(Life) -> bool,
        act: impl FnOnce(&Wanted<'_>) -> T,
    ) -> T {
        let records: Vec<GuestRecord> = of
            .iter()
            .filter_map(|k| k.record)
            .filter(|r| r.boot == self.boot)
            .collect();
        act(&Wanted {
            dir: self.run.path(),
            records: &records,
            marked: &|marks| marks.is_some_and(marked),
        })
    }

    /// Lives whose marks processes carry, whether anybody registered them or not.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub(super) fn marked(&self) -> Result<BTreeSet<Life>, String> {
        let scan = Scan::take(Some(self.run.path())).map_err(words)?;
        let marked = scan.marked.iter();
        Ok(marked
            .filter(|(pid, _)| scan.get(**pid).is_some_and(|p| !p.gone()))
            .filter_map(|(_, life)| *life)
            .collect())
    }
}

/// Whether a process was started for this domain: libvirt names its UUID on the command line.
fn runs_domain(pid: i32, id: u128) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = line
        .split(|b| *b == 0)
        .skip_while(|w| *w != b"-uuid")
        .skip(1);
    let found = words.next().and_then(|w| std::str::from_utf8(w).ok());
    found.and_then(parse_uuid) == Some(id)
}
