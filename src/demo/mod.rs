//! `quorate demo`: four hosts and a witness on this machine, without root and without a hypervisor.
//!
//! Real daemons, each on a host of its own ([`rack`]), with real multicast between them and six
//! guests that write down that they run. The demo cuts the power of the coordinator's host, then
//! pulls the cable of another one whose power switch is broken, and is content only if the guests'
//! own records say that no two copies of a guest ever ran at once.

// Hidden ones are for the tests of the real daemon, which play other stories on the same rack.
mod below;
mod guest;
#[doc(hidden)]
pub mod judge;
pub mod rack;
#[doc(hidden)]
pub mod record;
mod report;
#[doc(hidden)]
pub mod site;
mod story;
#[doc(hidden)]
pub mod switch;
mod user;
#[doc(hidden)]
pub mod watch;

pub use guest::guest;
pub use report::{GuestLine, Report, Step};

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a demo is told.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Keep the work directory here; it must not exist, or be empty.
    pub keep: Option<PathBuf>,
    /// Print the measured table as JSON; the timeline then goes to standard error.
    pub json: bool,
    /// The `quorate` program; this one if absent.
    pub exe: Option<PathBuf>,
    /// The fence agent `fence_quorate_demo`; looked for beside the program if absent.
    pub agent: Option<PathBuf>,
}

/// Why a demo did not end well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DemoError {
    /// This machine cannot make hosts of namespaces; nothing was tried.
    #[error("the demo cannot run here: {0}")]
    Unavailable(String),
    /// Somebody pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// A step failed.
    #[error("{0}")]
    Failed(String),
}

impl From<String> for DemoError {
    fn from(why: String) -> DemoError {
        DemoError::Failed(why)
    }
}

/// The command: runs the demo, prints it, and says how it went.
///
/// Exit code 0 if no two copies of a guest ever ran at once and every guest came back, 1 if not,
/// 2 if the demo cannot run here.
#[must_use]
pub fn main(options: &Options) -> ExitCode {
    static STOP: AtomicBool = AtomicBool::new(false);
    watch_for_interrupt(&STOP);
    let json = options.json;
    let tell = move |line: &str| {
        if json {
            eprintln!("{line}");
        } else {
            println!("{line}");
        }
    };
    match run(options, &|| STOP.load(Ordering::Relaxed), &tell) {
        Ok(report) => {
            if json {
                match serde_json::to_string_pretty(&report) {
                    Ok(text) => println!("{text}"),
                    Err(e) => eprintln!("{e}"),
                }
            } else {
                print!("{report}");
            }
            ExitCode::from(u8::from(!report.charges.is_empty()))
        }
        Err(e) => {
            eprintln!("quorate demo: {e}");
            ExitCode::from(if matches!(e, DemoError::Unavailable(_)) {
                2
            } else {
                1
            })
        }
    }
}

/// Runs the demo. `stop` is asked while it waits; `tell` gets the timeline line by line.
///
/// # Errors
/// Why it could not run or which step failed, with the tails of the daemons' logs. What the judge
/// found is no error but in the report.
pub fn run(
    options: &Options,
    stop: &dyn Fn() -> bool,
    tell: &dyn Fn(&str),
) -> Result<Report, DemoError> {
    let began = record::now();
    if let Some(why) = rack::Rack::missing() {
        return Err(DemoError::Unavailable(why));
    }
    let exe = match &options.exe {
        Some(exe) => exe.clone(),
        None => std::env::current_exe().map_err(|e| format!("where this program is: {e}"))?,
    };
    let agent = match &options.agent {
        Some(agent) => agent.clone(),
        None => find_agent(&exe).ok_or_else(|| {
            DemoError::Unavailable(format!(
                "the fence agent {AGENT} is neither in /usr/lib/quorate/agents nor in packaging/ \
                 above {}",
                exe.display()
            ))
        })?,
    };
    let work = Work::new(options.keep.as_deref())?;
    let result = site::Site::build(&work.dir, &exe, &agent, &site::NODES)
        .map_err(DemoError::Failed)
        .and_then(|site| story::Story::new(&exe, Arc::new(site), began, stop, tell).tell());
    result.map_err(|e| match e {
        DemoError::Failed(why) => DemoError::Failed(format!("{why}\n{}", work.logs())),
        other => other,
    })
}

/// The agent that speaks to the demo's power switch.
const AGENT: &str = "fence_quorate_demo";

fn find_agent(exe: &Path) -> Option<PathBuf> {
    let installed = Path::new("/usr/lib/quorate/agents").join(AGENT);
    exe.ancestors()
        .map(|dir| dir.join("packaging").join(AGENT))
        .chain([installed])
        .find(|path| path.is_file())
}

/// The work directory; goes away in the end unless it is kept.
struct Work {
    dir: PathBuf,
    keep: bool,
}

impl Work {
    fn new(keep: Option<&Path>) -> Result<Work, DemoError> {
        let (dir, keep) = match keep {
            Some(dir) => (
                std::path::absolute(dir).map_err(|e| format!("{}: {e}", dir.display()))?,
                true,
            ),
            None => {
                let name = format!("quorate-demo-{}", std::process::id());
                (std::env::temp_dir().join(name), false)
            }
        };
        let mut builder = std::fs::DirBuilder::new();
        // A kept one may be there already; a temporary one that is there is somebody else's.
        builder
            .recursive(keep)
            .mode(0o700)
            .create(&dir)
            .and_then(|()| std::fs::read_dir(&dir))
            .map_err(|e| e.to_string())
            .and_then(|mut entries| match entries.next() {
                None => Ok(()),
                Some(_) => Err("it is not empty".into()),
            })
            .map_err(|e| format!("work directory {}: {e}", dir.display()))?;
        Ok(Work { dir, keep })
    }

    /// The last lines of every daemon's log.
    fn logs(&self) -> String {
        const LINES: usize = 15;
        let mut out = String::new();
        for name in site::NODES {
            let text = std::fs::read(self.dir.join(format!("{name}.log"))).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            out.push_str(&format!("--- the end of {name}'s log\n"));
            for line in &lines[lines.len().saturating_sub(LINES)..] {
                out.push_str(line);
                out.push('\n');
            }
        }
        out
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.keep {
            eprintln!("kept: {}", self.dir.display());
        } else if let Err(e) = std::fs::remove_dir_all(&self.dir) {
            eprintln!("{}: {e}", self.dir.display());
        }
    }
}

/// Ctrl-C ends the story at its next wait, so that every process and directory is cleaned up.
fn watch_for_interrupt(stop: &'static AtomicBool) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build();
        match runtime {
            Ok(runtime) => {
                if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
                    stop.store(true, Ordering::Relaxed);
                }
            }
            Err(e) => eprintln!("Ctrl-C will end the demo at once: {e}"),
        }
    });
}
