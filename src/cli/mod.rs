//! The `quorate` command.

mod add;
mod args;
mod print;

use crate::api::{self, ApiError, ApiRequest, EventLine};
use crate::config::{self, Config};
use crate::daemon::{self, DaemonError, Role};
use crate::demo;
use crate::log;
use crate::net::ClusterKey;
use args::{Args, ClusterCommand, Command, GuestCommand, HostCommand, KeyCommand, Reason, View};
use clap::Parser;
use quorate_membership::entry::Away;
use quorate_membership::{Epoch, Token};
use quorate_recovery::contract::{Departure, Reply, Request};
use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// How long a client waits for the daemon's word; the daemon gives up earlier itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long reading fence devices may take.
const TRYING: Duration = Duration::from_secs(3600);
/// How long nothing may happen while a host goes out of service; the daemon gives up earlier.
const LEAVING: Duration = Duration::from_secs(120);
/// Exit code for bad input, or for what was refused: nothing was changed.
const BAD_INPUT: u8 = 2;
/// Exit code for a change whose outcome was not seen: it may have happened, or may still happen.
const UNKNOWN: u8 = 4;

/// Why a command did not do what it was asked.
enum Failure {
    /// Bad input, or refused: nothing was changed.
    Refused(String),
    /// Something broke on the way.
    Broken(String),
    /// A change was asked for, and what became of it was not seen.
    Unknown(String),
}

impl From<String> for Failure {
    fn from(why: String) -> Failure {
        Failure::Refused(why)
    }
}

impl From<ApiError> for Failure {
    fn from(e: ApiError) -> Failure {
        let why = e.to_string();
        match e {
            ApiError::Connect { .. } | ApiError::Refused(_) => Failure::Refused(why),
            ApiError::Broken { .. } => Failure::Broken(why),
            ApiError::Unknown(_) => Failure::Unknown(why),
        }
    }
}

/// Runs the command with the program's own arguments (without its name).
#[must_use]
pub fn main(args: &[OsString]) -> ExitCode {
    // What the daemon starts itself again as; hidden from people.
    match args.first().and_then(|a| a.to_str()) {
        Some("guardian") => return crate::guardian::guardian_main(&args[1..]),
        Some("guest-launch") => return crate::hypervisor::guest_launch_main(&args[1..]),
        Some("agent-exec") => return crate::agents::agent_exec_main(&args[1..]),
        Some("agent-run") => return crate::agents::agent_run_main(&args[1..]),
        Some("lock-read") => return crate::locks::lock_read_main(),
        Some("lock-keep") => return crate::locks::lock_keep_main(&args[1..]),
        Some("ocf-run") => return crate::ocf::ocf_run_main(&args[1..]),
        Some("ocf-stop") => return crate::ocf::ocf_stop_main(&args[1..]),
        Some("demo-guest") => {
            return match args.get(1) {
                Some(record) => demo::guest(Path::new(record)),
                None => ExitCode::from(BAD_INPUT),
            };
        }
        _ => {}
    }
    let name = OsString::from("quorate");
    let parsed = match Args::try_parse_from(std::iter::once(&name).chain(args)) {
        Ok(parsed) => parsed,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { BAD_INPUT } else { 0 });
        }
    };
    match run(parsed.command) {
        Ok(code) => code,
        Err(failure) => {
            let (code, why) = match failure {
                Failure::Refused(why) => (ExitCode::from(BAD_INPUT), why),
                Failure::Broken(why) => (ExitCode::FAILURE, why),
                Failure::Unknown(why) => (ExitCode::from(UNKNOWN), why),
            };
            log::say(tracing::Level::ERROR, format_args!("quorate: {why}"));
            code
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Daemon {
            config,
            guardian_unit,
        } => {
            let mut config = load(&config.config)?;
            config.guardian_unit = guardian_unit;
            log_to_stderr()?;
            let code = daemon::main(&config);
            log::flush();
            Ok(code)
        }
        Command::Status(view) => show(&view, &ApiRequest::Status, print::status),
        Command::Hosts(view) => show(&view, &ApiRequest::Hosts, print::hosts),
        Command::Guests(view) => show(&view, &ApiRequest::Guests, print::guests),
        Command::Why { view, guest } => show(&view, &ApiRequest::Why { guest }, print::why),
        Command::Events { view, follow } => events(&view, follow),
        Command::Guest(command) => guest(command),
        Command::Host(command) => host(command),
        Command::Cluster(ClusterCommand::Init(join)) => found(&join, Role::Founder),
        Command::Join(join) => found(&join, Role::Joiner),
        Command::Check { config, json } => check(&config.config, json),
        Command::Key(KeyCommand::Generate { file }) => {
            let key = ClusterKey::generate().map_err(|e| e.to_string())?;
            key.write_new(&file).map_err(|e| e.to_string())?;
            println!(
                "{}: a new cluster key; copy it to every node, readable by root only",
                file.display()
            );
            Ok(ExitCode::SUCCESS)
        }
        Command::Demo { keep, json } => Ok(demo::main(&demo::Options {
            keep,
            json,
            ..demo::Options::default()
        })),
    }
}

fn load(path: &Path) -> Result<Config, String> {
    Config::load(path).map_err(|e| e.to_string())
}

/// # Errors
/// The system gives no thread for it.
fn log_to_stderr() -> Result<(), String> {
    let level = match std::env::var("QUORATE_LOG").as_deref() {
        Ok("error") => tracing::Level::ERROR,
        Ok("warn") => tracing::Level::WARN,
        Ok("debug") => tracing::Level::DEBUG,
        Ok("trace") => tracing::Level::TRACE,
        _ => tracing::Level::INFO,
    };
    log::start(level).map_err(|e| format!("no thread for the log: {e}"))
}

/// Asks a daemon and prints its answer, as it came or in words.
fn show(
    view: &View,
    request: &ApiRequest,
    words: fn(&serde_json::Value) -> String,
) -> Result<ExitCode, Failure> {
    let value = api::ask(&view.socket, request, PATIENCE)?;
    if view.json {
        say(&serde_json::to_string_pretty(&value).unwrap_or_default());
    } else {
        say(&words(&value));
    }
    Ok(ExitCode::SUCCESS)
}

fn change(socket: &Path, request: Request) -> Result<ExitCode, Failure> {
    let answer = api::ask(socket, &ApiRequest::Ask(request), PATIENCE).map_err(|e| match e {
        // The daemon had the question, and may have proposed it.
        ApiError::Broken { .. } => Failure::Unknown(format!("{e}: {}", Reply::Unknown)),
        e => e.into(),
    });
    match answer? {
        serde_json::Value::String(text) => say(&text),
        other => say(&other.to_string()),
    }
    Ok(ExitCode::SUCCESS)
}

fn events(view: &View, follow: bool) -> Result<ExitCode, Failure> {
    let patience = if follow { None } else { Some(PATIENCE) };
    let lines = api::open(&view.socket, &ApiRequest::Events { follow }, patience)?;
    let mut last = String::new();
    for line in lines.lines() {
        let line = line.map_err(|e| Failure::Broken(format!("{}: {e}", view.socket.display())))?;
        let text = if view.json {
            &line
        } else {
            &print::event(&line)
        };
        let mut out = std::io::stdout().lock();
        // Whoever reads may have had enough.
        if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
            return Ok(ExitCode::SUCCESS);
        }
        last = line;
    }
    if follow {
        let why = match departure(&last) {
            Some(_) => "the daemon has ended; follow it again once it is back",
            None => "the daemon hung up",
        };
        return Err(Failure::Broken(format!("{}: {why}", view.socket.display())));
    }
    Ok(ExitCode::SUCCESS)
}

/// How the daemon ended, if this line of events is the last one before that.
fn departure(line: &str) -> Option<Departure> {
    serde_json::from_str::<EventLine>(line).ok()?.ended
}

fn guest(command: GuestCommand) -> Result<ExitCode, Failure> {
    match command {
        GuestCommand::Add(args) => add::add(&args),
        GuestCommand::Adopt {
            socket,
            name,
            xml,
            connect,
        } => add::adopt(&socket, &name, xml.as_deref(), connect.as_deref()),
        GuestCommand::Remove { socket, name } => {
            change(&socket.socket, Request::RemoveGuest { name })
        }
        GuestCommand::Start { socket, name } => {
            change(&socket.socket, Request::StartGuest { name })
        }
        GuestCommand::Stop { socket, name } => change(&socket.socket, Request::StopGuest { name }),
        GuestCommand::Hold { socket, name, why } => {
            let by = user();
            change(&socket.socket, Request::HoldGuest { name, by, why })
        }
        GuestCommand::Release {
            socket,
            names,
            all_of,
        } => {
            let by = user();
            change(&socket.socket, Request::ReleaseGuests { names, all_of, by })
        }
    }
}

/// Who answers for what is confirmed, as the log keeps it.
fn user() -> String {
    std::env::var("USER").unwrap_or_else(|_| "operator".into())
}

fn host(command: HostCommand) -> Result<ExitCode, Failure> {
    match command {
        HostCommand::Fence { socket, name } => {
            change(&socket.socket, Request::FenceHost { host: name })
        }
        HostCommand::Try { view, name } => try_devices(&view, name),
        HostCommand::ConfirmOff {
            socket,
            name,
            lives,
            yes,
        } => {
            let by = user();
            if !yes {
                eprint!(
                    "If {name} still runs, its guests will run twice and destroy their disks.\n\
                     Type the name of the host to confirm that you have seen it without power: "
                );
                let mut typed = String::new();
                std::io::stdin()
                    .lock()
                    .read_line(&mut typed)
                    .map_err(|e| e.to_string())?;
                if typed.trim() != name {
                    return Err(Failure::Refused(
                        "not confirmed; nothing was changed".into(),
                    ));
                }
            }
            change(
                &socket.socket,
                Request::ConfirmOff {
                    host: name,
                    by,
                    lives,
                },
            )
        }
        HostCommand::Drill { config, yes } => Ok(drill(&config.config, yes)?),
        HostCommand::Leave {
            socket,
            config,
            reason,
        } => {
            let why = match reason {
                Reason::Shutdown => Away::Shutdown,
                Reason::Reboot => Away::Reboot,
            };
            let socket = match config {
                Some(file) => load(&file)?.socket,
                None => socket.socket,
            };
            leave(&socket, why)
        }
    }
}

/// Reads fence devices from the daemon's node.
fn try_devices(view: &View, host: Option<String>) -> Result<ExitCode, Failure> {
    // Each may take its whole limit.
    let value = api::ask(&view.socket, &ApiRequest::Try { host }, TRYING)?;
    if view.json {
        say(&serde_json::to_string_pretty(&value).unwrap_or_default());
    } else {
        say(&print::tried(&value));
    }
    let rows = value.as_array().into_iter().flatten();
    let bad = |row: &&serde_json::Value| {
        !(row["said"] == "on" || row["said"] == "answers") || !row["why"].is_null()
    };
    let words = |row: &serde_json::Value| {
        let word = |key: &str| row[key].as_str().unwrap_or("it reads so").to_owned();
        format!(
            "{} of {}: {} ({})",
            word("device"),
            word("host"),
            word("said"),
            word("why")
        )
    };
    let bad: Vec<String> = rows.filter(bad).map(words).collect();
    match bad.as_slice() {
        [] => Ok(ExitCode::SUCCESS),
        bad => Err(Failure::Broken(format!(
            "fence devices to put right: {}",
            bad.join("; ")
        ))),
    }
}

/// Resets this host on trial. It comes back only if nothing was done or nothing happened.
fn drill(config: &Path, yes: bool) -> Result<ExitCode, String> {
    let config = load(config)?;
    let refused = |e: crate::guardian::DrillError| match e {
        crate::guardian::DrillError::Refused(_) => {
            eprintln!("quorate: {e}");
            Ok(ExitCode::from(2))
        }
        crate::guardian::DrillError::Failed(_) => Err(e.to_string()),
    };
    let reach = match crate::guardian::drill_reach(&config.run_dir, &config.boot_id_file) {
        Ok(reach) => reach,
        Err(e) => return refused(e),
    };
    if !yes {
        eprint!(
            "This resets {} at once, without a sync ({reach:?}).\nType its name to go on: ",
            config.name
        );
        let mut typed = String::new();
        std::io::stdin()
            .lock()
            .read_line(&mut typed)
            .map_err(|e| e.to_string())?;
        if typed.trim() != config.name {
            return Err("not confirmed; nothing was done".into());
        }
    }
    match crate::guardian::drill(&config.run_dir, &config.boot_id_file) {
        Ok(never) => match never {},
        Err(e) => refused(e),
    }
}

/// Asks the daemon to take its host out of service, and waits until it has: a shutdown that went
/// on before would take the guests with it.
fn leave(socket: &Path, why: Away) -> Result<ExitCode, Failure> {
    let events = api::open(socket, &ApiRequest::Events { follow: true }, Some(LEAVING))?;
    change(socket, Request::Leave(why))?;
    let mut last = String::new();
    for line in events.lines() {
        last = line.map_err(|e| {
            let why = format!("{}: {e}: {}", socket.display(), Reply::Unknown);
            Failure::Unknown(why)
        })?;
    }
    let text = serde_json::from_str::<EventLine>(&last).map_or(String::new(), |line| line.text);
    match departure(&last) {
        Some(Departure::Recorded) => {
            say(&text);
            Ok(ExitCode::SUCCESS)
        }
        Some(Departure::Unrecorded) => Err(Failure::Broken(text)),
        None => Err(Failure::Unknown(format!(
            "the daemon ended without a word: {}",
            Reply::Unknown
        ))),
    }
}

fn found(join: &args::JoinArgs, role: Role) -> Result<ExitCode, Failure> {
    let config = load(&join.config.config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    let tell = |text: &str| eprintln!("{text}");
    let patience = Duration::from_secs(join.wait);
    let above = join.above.map_or(Epoch(0), Token::epoch);
    let cluster = runtime
        .block_on(daemon::join(&config, role, above, patience, &tell))
        .map_err(|e| match e {
            DaemonError::Input(why) => Failure::Refused(why),
            DaemonError::World(why) => Failure::Broken(why),
        })?;
    match role {
        Role::Founder => {
            println!("cluster {cluster} is founded; start `quorate daemon` on every node")
        }
        Role::Joiner => println!("this node belongs to cluster {cluster}; start `quorate daemon`"),
    }
    Ok(ExitCode::SUCCESS)
}

fn check(path: &Path, json: bool) -> Result<ExitCode, Failure> {
    let config = load(path)?;
    let mut report = config::report(&config);
    let (devices, wrong) = daemon::trial_of_devices(&config);
    report.devices = devices;
    report.warnings.extend(wrong);
    let faults = daemon::trial(&config).into_iter();
    report
        .warnings
        .extend(faults.map(|why| format!("on this machine, as it is now: {why}")));
    if json {
        say(&serde_json::to_string_pretty(&report).unwrap_or_default());
    } else {
        say(report.to_string().trim_end());
    }
    Ok(if report.promises.iter().all(config::PromiseLine::holds) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(BAD_INPUT)
    })
}

/// Prints; a reader that has gone is no error.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}
