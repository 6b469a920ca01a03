//! Locks beside disks: one of another cluster, and one of an epoch that the log does not know.

use super::cases::{other_host, power_back};
use super::holds::{held, not_started};
use super::lab::Lab;
use super::site::HOSTS;
use quorate::demo::DemoError;
use quorate::demo::record::now;
use ring::digest;
use std::fs;
use std::path::{Path, PathBuf};

/// As `src/locks/block.rs` lays a lock out.
const BLOCK: usize = 4096;
const CLUSTER: usize = 16;
const EPOCH: usize = 40;
const SEQUENCE: usize = 72;

/// The one lock that stands beside the disk of a guest. The lab's disks are shareable, so it bears
/// the guest's number, which only its name tells.
fn lock(lab: &Lab<'_>, guest: &str) -> Result<PathBuf, DemoError> {
    let disk = lab.disk(guest);
    let name = disk.file_name().unwrap_or_default().to_string_lossy();
    let of = |file: &str| {
        let number = file.strip_prefix(&format!("{name}."))?;
        let number = number.strip_suffix(".quorate-lock")?;
        let hex = number.bytes().all(|b| b.is_ascii_hexdigit());
        (number.len() == 16 && hex).then_some(())
    };
    let failed = |why: String| DemoError::Failed(format!("the lock of {guest}: {why}"));
    let shared = lab.site.shared();
    let mut found = Vec::new();
    for entry in fs::read_dir(&shared).map_err(|e| failed(e.to_string()))? {
        let file = entry.map_err(|e| failed(e.to_string()))?.file_name();
        if of(&file.to_string_lossy()).is_some() {
            found.push(shared.join(file));
        }
    }
    match found.as_slice() {
        [one] => Ok(one.clone()),
        other => Err(failed(format!("{other:?}"))),
    }
}

/// Somebody else writes the lock, with another number at `at`.
fn forge(path: &Path, at: usize) -> Result<(), DemoError> {
    let failed = |why: String| DemoError::Failed(format!("{}: {why}", path.display()));
    let bytes = fs::read(path).map_err(|e| failed(e.to_string()))?;
    let sequence =
        |b: &[u8]| u64::from_le_bytes(b[SEQUENCE..SEQUENCE + 8].try_into().unwrap_or_default());
    let blocks = bytes
        .chunks_exact(BLOCK)
        .filter(|b| b.starts_with(b"QRTLOCK"));
    let newest = blocks.max_by_key(|b| sequence(b));
    let mut block = newest.ok_or_else(|| failed("no lock".into()))?.to_vec();
    block[at] ^= 0x40;
    let next = sequence(&block) + 1000;
    block[SEQUENCE..SEQUENCE + 8].copy_from_slice(&next.to_le_bytes());
    let sum = digest::digest(&digest::SHA256, &block[..BLOCK - 32]);
    block[BLOCK - 32..].copy_from_slice(sum.as_ref());
    fs::write(path, [block.clone(), block].concat()).map_err(|e| failed(e.to_string()))
}

pub fn play(lab: &mut Lab<'_>) -> Result<(), DemoError> {
    let (victim, guests) = other_host(lab)?;
    let guest = guests[0].clone();
    lab.begin(
        "locks",
        &format!("another cluster writes the lock of {guest}; {victim} loses power"),
    );
    let by = HOSTS
        .iter()
        .find(|h| **h != victim)
        .copied()
        .unwrap_or(HOSTS[0]);
    forge(&lock(lab, &guest)?, CLUSTER)?;
    held(lab, by, &guest, "foreign-lock")?;
    lab.step("held", now(), &format!("{guest}, while it runs on"));
    lab.runs(&guest)?;
    lab.site.power_off(&victim)?;
    lab.host_event("proof", &victim)?;
    not_started(lab, &guest)?;
    lab.step(
        "not started",
        now(),
        &format!("{guest}, 8 s after the proof"),
    );
    lab.site.quorate(by, &["guest", "release", &guest])?;
    power_back(lab, &victim)?;
    lab.step("released", now(), &format!("{guest} runs"));
    // Its own host meets one of an epoch that was never given; a crash does not start it.
    forge(&lock(lab, &guest)?, EPOCH)?;
    held(lab, by, &guest, "unknown-lock")?;
    lab.step("held", now(), &format!("{guest}, for an unknown epoch"));
    lab.site
        .quorate(by, &["guest", "release", "--all-of", "unknown-lock"])?;
    lab.settled()
}
