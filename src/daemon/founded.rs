//! The highest epoch of any cluster that this node belonged to, beside its store and not in it: a store
//! that is taken away leaves it behind, and what is founded then begins above (reading 19).

use super::DaemonError;
use crate::guardian::records::{self, Record};
use quorate_membership::Epoch;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Lies in `founded` in the state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Founded {
    epoch: u32,
}

impl Record for Founded {
    const KIND: &'static str = "founded";
}

fn file(state_dir: &Path) -> PathBuf {
    state_dir.join("founded")
}

/// The highest epoch that was kept; 0 for none.
///
/// # Errors
/// The file cannot be read or is damaged: what it held must be named by a person then.
pub(crate) fn floor(state_dir: &Path) -> Result<Epoch, DaemonError> {
    let kept = records::read::<Founded>(&file(state_dir)).map_err(|why| {
        DaemonError::input(format!(
            "{why}: it holds the highest epoch of the clusters that this node belonged to. Remove it, and \
             name a token of the last one with --above"
        ))
    })?;
    Ok(Epoch(kept.map_or(0, |kept| kept.epoch)))
}

/// Keeps `epoch`, durably, if it is higher.
///
/// # Errors
/// The file is damaged, or cannot be read or written; it stays as it is then.
pub(crate) fn raise(state_dir: &Path, epoch: Epoch) -> Result<(), DaemonError> {
    let path = file(state_dir);
    if floor(state_dir)? >= epoch {
        return Ok(());
    }
    let written = write(&path, &records::encode(&Founded { epoch: epoch.0 }));
    written.map_err(DaemonError::at(path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_rises_only_and_a_damaged_file_is_refused() {
        let dir = std::env::temp_dir().join(format!("quorate-founded-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        assert_eq!(floor(&dir).expect("none"), Epoch(0));
        raise(&dir, Epoch(3)).expect("kept");
        raise(&dir, Epoch(2)).expect("lower: nothing is done");
        assert_eq!(floor(&dir).expect("kept"), Epoch(3));
        fs::write(file(&dir), "quorate founded 1 00\n{}\n").expect("damaged");
        let why = floor(&dir).expect_err("refused").to_string();
        assert!(why.contains("founded") && why.contains("--above"), "{why}");
        raise(&dir, Epoch(4)).expect_err("a damaged file may hold a higher one");
        let left = fs::read_to_string(file(&dir)).expect("there");
        assert!(left.starts_with("quorate founded 1 00"), "{left}");
        fs::remove_dir_all(&dir).expect("cleaned up");
    }
}
