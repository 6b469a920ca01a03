//! What keepers leave in the run directory: `locks/G-E.plan` and `locks/G-E.state`.

use crate::guardian::records::{RunDir, parse_hex};
use quorate_membership::Token;
use quorate_recovery::guest::GuestId;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

/// The directory.
#[derive(Clone, Debug)]
pub(super) struct Files(PathBuf);

impl Files {
    pub(super) fn of(run: &RunDir) -> Files {
        Files(run.path().join("locks"))
    }

    /// Makes it, for root alone.
    pub(super) fn make(&self) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
    }

    fn name(&self, guest: GuestId, epoch: Token, what: &str) -> PathBuf {
        self.0
            .join(format!("{:016x}-{:016x}.{what}", guest.0, epoch.0))
    }

    pub(super) fn plan(&self, guest: GuestId, epoch: Token) -> PathBuf {
        self.name(guest, epoch, "plan")
    }

    pub(super) fn state(&self, guest: GuestId, epoch: Token) -> PathBuf {
        self.name(guest, epoch, "state")
    }

    /// Every life that has a plan.
    pub(super) fn lives(&self) -> io::Result<Vec<(GuestId, Token)>> {
        let mut lives = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let name = entry?.file_name();
            let life = name.to_str().and_then(|n| n.strip_suffix(".plan"));
            let life = life.and_then(|l| l.split_once('-'));
            let life = life.and_then(|(g, e)| Some((GuestId(parse_hex(g)?), Token(parse_hex(e)?))));
            lives.extend(life);
        }
        Ok(lives)
    }
}
