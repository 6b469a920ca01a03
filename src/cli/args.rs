//! What may be typed.

use clap::{Parser, Subcommand, ValueEnum};
use quorate_membership::{Epoch, Token};
use quorate_recovery::hold::HoldKind;
use std::path::PathBuf;

const CONFIG: &str = "/etc/quorate/quorate.toml";
const SOCKET: &str = "/run/quorate/quorate.sock";

/// Keeps guests running when hosts die.
///
/// Exit codes: 0 done; 1 something broke, or a demo found a guest running twice; 2 bad input or
/// refused, and nothing was changed; 3 a daemon whose host was taken out of service; 4 the outcome
/// of a change is unknown: it may have happened, or may still happen.
#[derive(Debug, Parser)]
#[command(name = "quorate", version, max_term_width = 100)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run this host's node (SIGTERM stops it; its guests run on until the lease ends).
    ///
    /// QUORATE_LOG=error|warn|info|debug|trace sets how much is logged to standard error.
    Daemon {
        #[command(flatten)]
        config: ConfigArg,
        /// The guardian is run by quorate-guardian.service: start none from here.
        #[arg(long)]
        guardian_unit: bool,
    },
    /// What this node knows about the cluster, and why anything is held up.
    Status(View),
    /// Every node of the view.
    Hosts(View),
    /// Every protected guest: where it is, and why.
    Guests(View),
    /// Why a guest is where it is: evidence, verdict, fence, proof, placement, start.
    ///
    /// What only one host saw (that it started, what its monitors saw) is shown by that host.
    Why {
        #[command(flatten)]
        view: View,
        /// The guest's name.
        guest: String,
    },
    /// What happened.
    Events {
        #[command(flatten)]
        view: View,
        /// Go on as it happens.
        #[arg(long, short)]
        follow: bool,
    },
    /// Protect guests.
    #[command(subcommand)]
    Guest(GuestCommand),
    /// Fence hosts, confirm them off, take this one out of service.
    #[command(subcommand)]
    Host(HostCommand),
    /// Found a cluster.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Make this node's store and join the cluster that is founded, or there, on its links.
    Join(JoinArgs),
    /// Check a configuration: promises, worst case from failure to restart, warnings.
    Check {
        #[command(flatten)]
        config: ConfigArg,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Cluster keys.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Four hosts and a witness on this machine: cut power, pull a cable, watch guests come back.
    Demo {
        /// Keep the work directory here; it must not exist, or be empty.
        #[arg(long)]
        keep: Option<PathBuf>,
        /// Print the measured table as JSON; the timeline then goes to standard error.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct ConfigArg {
    /// The configuration of this host.
    #[arg(long, default_value = CONFIG)]
    pub(super) config: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct SocketArg {
    /// The daemon's unix socket.
    #[arg(long, default_value = SOCKET)]
    pub(super) socket: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct View {
    /// The daemon's unix socket.
    #[arg(long, default_value = SOCKET)]
    pub(super) socket: PathBuf,
    /// As JSON.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct JoinArgs {
    #[command(flatten)]
    pub(super) config: ConfigArg,
    /// Give up after this many seconds.
    #[arg(long, default_value_t = 600)]
    pub(super) wait: u64,
    /// A token of an earlier cluster whose state directory is gone, as `7.4242`: every token of a
    /// cluster that is founded with this node is above it.
    #[arg(long, value_name = "TOKEN", value_parser = token)]
    pub(super) above: Option<Token>,
}

#[derive(Debug, clap::Args)]
pub(super) struct AddArgs {
    #[command(flatten)]
    pub(super) socket: SocketArg,
    #[command(flatten)]
    pub(super) what: What,
    /// The libvirt that knows the domain, instead of the daemon's.
    #[arg(long, value_name = "URI")]
    pub(super) connect: Option<String>,
    /// Higher is placed and started first.
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(super) priority: Option<i32>,
    /// A TOML file with `priority`, [needs], [policy] or [probe] to take instead.
    #[arg(long, value_name = "FILE")]
    pub(super) with: Option<PathBuf>,
    /// Judge it and print its description; change nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// Where a guest is described.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct What {
    /// A description of a guest, in TOML.
    pub(super) file: Option<PathBuf>,
    /// A domain that libvirt knows by this name.
    #[arg(long, value_name = "NAME")]
    pub(super) domain: Option<String>,
    /// A domain's description in a file, in libvirt's XML.
    #[arg(long, value_name = "FILE")]
    pub(super) xml: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum GuestCommand {
    /// Protect a guest; it is started at once.
    ///
    /// A domain is judged by what the daemon knows: the directories that [libvirt] of its
    /// configuration calls shared, and the guests that are protected already.
    Add(AddArgs),
    /// Take over what a guest is now: the description of the domain that runs here, or one in a file.
    ///
    /// For a guest that somebody changed past the cluster, by a new disk or another image. It answers
    /// what the guest is held for because of that.
    Adopt {
        #[command(flatten)]
        socket: SocketArg,
        /// Its name.
        name: String,
        /// The description in a file, in libvirt's XML, instead of the domain that runs here.
        #[arg(long, value_name = "FILE")]
        xml: Option<PathBuf>,
        /// The libvirt that runs the domain, instead of the daemon's.
        #[arg(long, value_name = "URI")]
        connect: Option<String>,
    },
    /// Protect a guest no more; it must be stopped.
    Remove {
        #[command(flatten)]
        socket: SocketArg,
        /// Its name.
        name: String,
    },
    /// Want a guest running.
    Start {
        #[command(flatten)]
        socket: SocketArg,
        /// Its name.
        name: String,
    },
    /// Want a guest stopped.
    Stop {
        #[command(flatten)]
        socket: SocketArg,
        /// Its name.
        name: String,
    },
    /// Hold a guest: it runs on where it runs, and is started nowhere until it is released.
    Hold {
        #[command(flatten)]
        socket: SocketArg,
        /// Its name.
        name: String,
        /// Why, for whoever looks.
        #[arg(long, default_value = "no reason given")]
        why: String,
    },
    /// Release guests that are held, after a look at what they are held for.
    ///
    /// `quorate guests` and `quorate why` say what that is. If what they name still uses an image
    /// of the guest, releasing destroys its disk.
    Release {
        #[command(flatten)]
        socket: SocketArg,
        /// Their names.
        #[arg(required_unless_present = "all_of")]
        names: Vec<String>,
        /// Only holds of this kind; without names, of every guest.
        #[arg(long, value_name = "REASON", value_parser = kind_of_hold)]
        all_of: Option<HoldKind>,
    },
}

fn kind_of_hold(word: &str) -> Result<HoldKind, String> {
    let known = HoldKind::ALL.into_iter().find(|k| k.name() == word);
    let all: Vec<&str> = HoldKind::ALL.into_iter().map(HoldKind::name).collect();
    known.ok_or_else(|| format!("one of {} is allowed", all.join(", ")))
}

#[derive(Debug, Subcommand)]
pub(super) enum HostCommand {
    /// Declare a host lost: it is fenced, and its guests are started elsewhere once that is proved.
    Fence {
        #[command(flatten)]
        socket: SocketArg,
        /// Its name.
        name: String,
    },
    /// Read the fence devices of a host, or of all hosts, from this node; nothing is switched.
    ///
    /// Exits 1 unless each of them answers, and says on where it has a state.
    Try {
        #[command(flatten)]
        view: View,
        /// Its name; all hosts without it.
        name: Option<String>,
    },
    /// Confirm that a lost host has no power. Refused while anything shows that it lives.
    ConfirmOff {
        #[command(flatten)]
        socket: SocketArg,
        /// Its name.
        name: String,
        /// Where a later incarnation of it is heard: that which is over, and that one, as `5,6`.
        #[arg(long, value_name = "OVER,LATER", value_parser = lives)]
        lives: Option<(u64, u64)>,
        /// Ask nothing; you have seen it.
        #[arg(long)]
        yes: bool,
    },
    /// Try whether this host can reset itself: it is reset at once, without a sync.
    ///
    /// Refused while a guest or a lease is here; `quorate host leave` takes the host out of service.
    Drill {
        #[command(flatten)]
        config: ConfigArg,
        /// Ask nothing; this host may be reset now.
        #[arg(long)]
        yes: bool,
    },
    /// Take this host out of service before a shutdown or reboot: its guests move, nobody is fenced.
    Leave {
        #[command(flatten)]
        socket: SocketArg,
        /// Take the socket from this configuration instead.
        #[arg(long, value_name = "FILE", conflicts_with = "socket")]
        config: Option<PathBuf>,
        /// Why.
        #[arg(long, value_enum, default_value_t = Reason::Shutdown)]
        reason: Reason,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Reason {
    Shutdown,
    Reboot,
}

#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Found the cluster that [cluster] of the configuration describes. Waits for `quorate join` on
    /// every other first voter. Exactly one node runs this, once.
    Init(JoinArgs),
}

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Write a new random key to a file that does not exist yet.
    Generate {
        /// The file.
        file: PathBuf,
    },
}

/// Two counters of incarnations, as `5,6`.
fn lives(text: &str) -> Result<(u64, u64), String> {
    let two = text.split_once(',');
    let number = |t: &str| t.trim().parse::<u64>().ok();
    two.and_then(|(a, b)| Some((number(a)?, number(b)?)))
        .ok_or_else(|| "two counters of incarnations with a comma between, like 5,6".to_owned())
}

/// A token, as people see it: epoch, a point, index.
fn token(text: &str) -> Result<Token, String> {
    let two = text.trim().split_once('.');
    let parts =
        two.and_then(|(epoch, index)| Some((epoch.parse::<u16>().ok()?, index.parse().ok()?)));
    let fits = parts.filter(|(_, index): &(u16, u64)| *index < 1 << 48);
    fits.map(|(epoch, index)| Token::new(Epoch(epoch.into()), index))
        .ok_or_else(|| "an epoch up to 65535, a point and an index, like 7.4242".to_owned())
}
