//! Keeps what shows a guest's state before something is done about it.
//!
//! ```text
//! EVIDENCE/NAME-G/TIME/why.txt         what it was kept for, and what is missing
//!                      events.txt      the last events
//!                      samples.txt     the last samples
//!                      domain.xml      libvirt's description of the running domain
//!                      stats.txt       libvirt's counters
//!                      screen.ppm      its display, or .png, if it has one
//! ```
//!
//! What needs no libvirt is written first. Captures of one guest are few and bounded.

use super::driver::{Inner, until};
use super::hold::own;
use super::link::Failure;
use super::memory::{Build, XML_MAX};
use super::registry::Life;
use super::stats::{self, Numbers};
use crate::api::wall_time;
use crate::hypervisor::Gate;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use virt::connect::Connect;
use virt::domain::Domain;
use virt::stream::Stream;
use virt::sys;

/// So many captures of one guest are kept.
const KEPT: usize = 10;
/// A picture larger than this is not kept.
const SCREEN_MAX: usize = 8 << 20;
/// With less room than this on the disk nothing is kept: the store lies there too.
const ROOM_MIN: u64 = 128 << 20;
/// What is left of the time for writing.
const WRITING: Duration = Duration::from_millis(200);

impl Inner {
    /// Keeps what shows the state of a life now.
    pub(super) fn capture(&self, life: Life, why: &str, gate: &Gate) -> Result<(), String> {
        let place = self.evidence.as_ref().ok_or("no place is set for it")?;
        let one = self.standing(life)?;
        gate.pass()?;
        let of = folder(&one.name, life);
        let dir = Dir::new(&place.join(&of)).map_err(|e| format!("{}: {e}", place.display()))?;
        let mut missing = String::new();
        let (events, samples) = self
            .sense
            .lives
            .if_there(life, |m| (m.events.clone(), m.samples.clone()))
            .unwrap_or_default();
        let mut text = String::new();
        for (at, what) in events {
            let _ = writeln!(text, "{} {what}", wall_time(at));
        }
        dir.write("events.txt", text.as_bytes())?;
        text.clear();
        for sample in samples {
            let _ = writeln!(text, "{sample:?}");
        }
        dir.write("samples.txt", text.as_bytes())?;

        let (cluster, id) = (self.cluster.clone(), one.uuid);
        let half = until(gate.give_up()).saturating_sub(WRITING) / 2;
        let said = self.sense.looks.call(half, move |c| {
            let domain = own(c, &cluster, id, life)?;
            let xml = domain.xml_desc(0)?;
            // A QEMU that does not answer costs the counters, not the description.
            Ok((xml, all_numbers(&domain)))
        });
        let mut display = false;
        match said {
            Ok((xml, numbers)) => {
                display = Build::read(&xml).display;
                if xml.len() <= XML_MAX {
                    dir.write("domain.xml", xml.as_bytes())?;
                }
                match numbers {
                    Ok(numbers) => {
                        text.clear();
                        for (name, value) in numbers {
                            let _ = writeln!(text, "{name} {value}");
                        }
                        dir.write("stats.txt", text.as_bytes())?;
                    }
                    Err(f) => {
                        let _ = writeln!(missing, "no counters: {}", f.why);
                    }
                }
            }
            Err(f) => {
                let _ = writeln!(missing, "no description and no counters: {}", f.why);
            }
        }
        if display {
            let cluster = self.cluster.clone();
            let rest = until(gate.give_up()).saturating_sub(WRITING);
            let picture = self.sense.looks.call(rest, move |c| {
                let domain = own(c, &cluster, id, life)?;
                screen(c, &domain)
            });
            match picture {
                Ok((kind, bytes)) => dir.write(&format!("screen.{kind}"), &bytes)?,
                Err(f) => {
                    let _ = writeln!(missing, "no picture of its display: {}", f.why);
                }
            }
        }
        let text = format!(
            "time: {}\nguest: {}\nepoch: {}\ndomain: {}\nkept for: {why}\n{missing}",
            wall_time(SystemTime::now()),
            life.0,
            life.1,
            one.name
        );
        dir.write("why.txt", text.as_bytes())?;
        prune(&place.join(&of)).map_err(|e| e.to_string())
    }
}

fn all_numbers(domain: &Domain) -> Result<Numbers, Failure> {
    stats::of(
        domain,
        sys::VIR_DOMAIN_STATS_STATE
            | sys::VIR_DOMAIN_STATS_CPU_TOTAL
            | sys::VIR_DOMAIN_STATS_VCPU
            | sys::VIR_DOMAIN_STATS_BALLOON
            | sys::VIR_DOMAIN_STATS_INTERFACE
            | sys::VIR_DOMAIN_STATS_BLOCK,
    )
}

/// The folder of a guest: its name for people, its number because a name may be used twice.
fn folder(name: &str, life: Life) -> String {
    let fine = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name: String = name.chars().filter(fine).take(64).collect();
    format!("{name}-{:016x}", life.0.0)
}

/// A picture of a domain's first display and how such files are called.
fn screen(c: &Connect, domain: &Domain) -> Result<(&'static str, Vec<u8>), Failure> {
    let stream = Stream::new(c, 0)?;
    let kind = domain.screenshot(&stream, 0, 0)?;
    let mut bytes = Vec::new();
    let mut part = vec![0; 1 << 16];
    loop {
        let got = usize::try_from(stream.recv(&mut part)?).unwrap_or(0);
        if got == 0 {
            break;
        }
        bytes.extend(part.get(..got).unwrap_or_default());
        if bytes.len() > SCREEN_MAX {
            let _ = stream.abort();
            let why = format!("it is larger than {} MiB", SCREEN_MAX >> 20);
            return Err(Failure::no(why));
        }
    }
    stream.finish()?;
    let kind = match kind.as_str() {
        "image/png" => "png",
        "image/x-portable-pixmap" => "ppm",
        _ => "image",
    };
    Ok((kind, bytes))
}

/// The folder of one capture.
struct Dir(PathBuf);

impl Dir {
    fn new(of: &Path) -> io::Result<Dir> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(of)?;
        let room = rustix::fs::statvfs(of)?;
        if room.f_bavail.saturating_mul(room.f_frsize) < ROOM_MIN {
            let least = ROOM_MIN >> 20;
            return Err(io::Error::other(format!("less than {least} MiB are free")));
        }
        // Colons have a meaning in many places where people will write this path.
        let name = wall_time(SystemTime::now()).replace(':', "-");
        let path = of.join(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Dir(path))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        let path = self.0.join(name);
        let mut options = fs::File::options();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        let done = file.and_then(|mut file| file.write_all(bytes));
        done.map_err(|e| format!("{}: {e}", path.display()))
    }
}

/// Removes all but the last captures in a guest's folder. Their names rise with time.
fn prune(of: &Path) -> io::Result<()> {
    let mut all = Vec::new();
    for entry in fs::read_dir(of)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            all.push(entry.path());
        }
    }
    all.sort();
    let old = all.len().saturating_sub(KEPT);
    all.iter().take(old).try_for_each(fs::remove_dir_all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_membership::Token;
    use quorate_recovery::guest::GuestId;

    #[test]
    fn a_guests_folder_stays_in_its_place() {
        let life = (GuestId(0xab), Token(1));
        assert_eq!(folder("web1", life), "web1-00000000000000ab");
        assert_eq!(folder("../../etc", life), "....etc-00000000000000ab");
        assert_eq!(folder("", life), "-00000000000000ab");
    }

    #[test]
    fn only_the_last_captures_are_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        for n in 0..KEPT + 3 {
            let one = dir.path().join(format!("2026-01-01T00-00-{n:02}.000Z"));
            fs::create_dir(&one).expect("made");
            fs::write(one.join("why.txt"), "x").expect("written");
        }
        fs::write(dir.path().join("a note"), "stays").expect("written");
        prune(dir.path()).expect("pruned");
        let mut left: Vec<String> = fs::read_dir(dir.path())
            .expect("listed")
            .map(|e| e.expect("one").file_name().to_string_lossy().into_owned())
            .collect();
        left.sort();
        assert_eq!(left.len(), KEPT + 1);
        assert_eq!(left[0], "2026-01-01T00-00-03.000Z");
    }
}
