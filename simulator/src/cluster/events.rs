//! What waits in the world's queue: things of one machine, and of all around the daemons.

use quorate_membership::Token;
use quorate_recovery::contract::{Fact, FenceLaunch, GuestOrder, TrialLaunch};
use quorate_recovery::guest::GuestId;

/// What a daemon does or learns on its own machine.
#[derive(Debug)]
pub(crate) enum Local {
    /// A fact for the node.
    Fact(Box<Fact>),
    /// Its driver carries out a guest order.
    Order(Box<GuestOrder>),
    /// Its driver launches a fence agent.
    Launch(Box<FenceLaunch>),
    /// Its driver reads a fence device.
    Try(Box<TrialLaunch>),
    /// Its driver looks after a fence level again.
    FenceWake(usize),
    /// An agent it launched has ended.
    AgentEnded {
        fence: usize,
        device: usize,
        end: quorate_fencing::agent::AgentEnd,
    },
    /// Its driver tells the guardian the lease end.
    Lease(quorate_membership::Time),
}

impl Local {
    pub(super) fn fact(fact: Fact) -> Local {
        Local::Fact(Box::new(fact))
    }
}

/// What happens around the daemons. Those that belong to one boot of a machine name it.
#[derive(Debug)]
pub(crate) enum Event {
    Action(usize),
    Expect(usize),
    DaemonStart {
        host: usize,
        boot: u32,
    },
    PowerOn {
        host: usize,
        boot: u32,
    },
    Thaw {
        host: usize,
        until: u64,
    },
    Guardian {
        host: usize,
        boot: u32,
        at: u64,
    },
    Killed {
        host: usize,
        boot: u32,
    },
    /// The guardian looks whether what it ended is gone.
    Left {
        host: usize,
        boot: u32,
    },
    /// The guardian resets the host.
    Reset {
        host: usize,
        boot: u32,
    },
    /// The storage answers a host again, or a look at its processes comes back.
    GoesOn {
        host: usize,
        boot: u32,
    },
    FeedLook {
        host: usize,
        boot: u32,
    },
    Feed {
        host: usize,
        boot: u32,
    },
    GuardianBack {
        host: usize,
        boot: u32,
        /// True time until which the guardian fails.
        until: u64,
    },
    Watchdog {
        host: usize,
        boot: u32,
        fed: u64,
    },
    Poll {
        host: usize,
    },
    Look {
        host: usize,
    },
    Survey {
        host: usize,
        once: bool,
    },
    Copied {
        host: usize,
        guest: usize,
        epoch: Token,
    },
    BackedUp {
        host: usize,
        guest: usize,
        epoch: Token,
    },
    Compare,
    LetGo {
        guest: usize,
    },
    Created {
        host: usize,
        boot: u32,
        life: u32,
        order: u64,
        number: u64,
        fails: bool,
    },
    Act {
        host: usize,
        boot: u32,
        life: u32,
        order: Box<GuestOrder>,
    },
    Ended {
        host: usize,
        boot: u32,
        life: u32,
        order: u64,
        guest: GuestId,
        epoch: Token,
    },
    FenceAct {
        attempt: Token,
        host: usize,
    },
    /// One of two outlets of a host is switched.
    Outlet {
        host: usize,
        boot: u32,
        feed: usize,
        attempt: Token,
        on: bool,
    },
    /// A fence device cuts another host than the one it is named for.
    FenceActWrong {
        attempt: Token,
        host: usize,
    },
    /// A device acts after its word, on the boot it was asked about.
    FenceActLate {
        attempt: Token,
        host: usize,
        boot: u32,
    },
    Clients,
    /// Guests that are down are looked at.
    Waiting,
    Liveness {
        step: u8,
        number: u32,
    },
    /// The rest of an action that takes time; void once everything was made whole again.
    Later {
        calms: u32,
        action: Box<super::action::Action>,
    },
    Trigger {
        number: usize,
        that: usize,
    },
}
