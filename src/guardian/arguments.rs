//! What a guardian is told.

use crate::clock;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What a guardian is told when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arguments {
    pub(super) run_dir: PathBuf,
    pub(super) boot_id_file: PathBuf,
    pub(super) check: Duration,
    pub(super) detached: bool,
    /// It was started by its unit: it may reset the machine.
    pub(super) unit: bool,
    /// Where the reason of a reset is kept over the boot.
    pub(super) note: Option<PathBuf>,
    /// The hardware watchdog that it feeds.
    pub(super) watchdog: Option<PathBuf>,
}

pub(super) fn parse(args: &[OsString]) -> Result<Arguments, String> {
    let mut parsed = Arguments {
        run_dir: PathBuf::new(),
        boot_id_file: clock::BOOT_ID_FILE.into(),
        check: Duration::from_millis(100),
        detached: false,
        unit: false,
        note: None,
        watchdog: None,
    };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let mut value = || {
            rest.next()
                .ok_or(format!("{} needs a value", arg.display()))
        };
        match arg.to_str() {
            Some("--run-dir") => parsed.run_dir = value()?.into(),
            Some("--boot-id-file") => parsed.boot_id_file = value()?.into(),
            Some("--lease-check") => {
                let text = value()?.to_string_lossy().into_owned();
                let ms = text
                    .parse::<u64>()
                    .ok()
                    .filter(|ms| (1..=1000).contains(ms));
                let ms = ms.ok_or(format!(
                    "--lease-check: found {text:?}, 1 to 1000 milliseconds are allowed"
                ))?;
                parsed.check = Duration::from_millis(ms);
            }
            Some("--detached") => parsed.detached = true,
            Some("--unit") => parsed.unit = true,
            Some("--watchdog") => parsed.watchdog = Some(value()?.into()),
            Some("--note") => parsed.note = Some(value()?.into()),
            _ => return Err(format!("unknown argument {:?}", arg.display().to_string())),
        }
    }
    if parsed.watchdog.is_some() && !parsed.unit {
        return Err("--watchdog is for a guardian that its unit started (--unit)".into());
    }
    if parsed.run_dir.as_os_str().is_empty() {
        return Err("--run-dir is missing".into());
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Arguments, String> {
        parse(&args.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn bad_arguments_are_named() {
        let error = |args: &[&str]| parsed(args).expect_err("refused");
        assert!(error(&[]).contains("--run-dir"));
        assert!(error(&["--run-dir"]).contains("needs a value"));
        assert!(error(&["--run-dir", "/x", "--lease-check", "0"]).contains("1 to 1000"));
        assert!(error(&["--what"]).contains("--what"));
        let alone = ["--run-dir", "/x", "--watchdog", "/dev/watchdog"];
        assert!(error(&alone).contains("--unit"));
    }

    #[test]
    fn good_arguments_are_taken() {
        let got = parsed(&["--run-dir", "/x", "--lease-check", "50"]).expect("good");
        assert_eq!(got.run_dir, PathBuf::from("/x"));
        assert_eq!(
            (got.check, got.detached),
            (Duration::from_millis(50), false)
        );
    }
}
