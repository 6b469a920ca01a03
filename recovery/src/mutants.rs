//! Planted bugs: rules that a simulator may switch off by name to prove that it would notice.
//!
//! Without the feature `mutants` every question here is answered "no" at compile time, and the
//! root package refuses to be built with the feature at all. Which one is planted is known to
//! `membership`, for both.

/// A planted bug of this crate and the promise it breaks.
pub const BUGS: &[(&str, &str)] = &[
    (
        "held-guest-is-slow",
        "S4: a host that does not start a held guest is judged for being slow",
    ),
    (
        "lease-of-the-unarmed-waited-for",
        "L1: a host whose lease nobody enforces is spared by its devices for that lease, or for an Admit, for ever",
    ),
    (
        "cut-though-it-proves-nothing",
        "L1: under device-and-lease a host is cut again and again, and no cut can prove anything",
    ),
    (
        "device-not-tried",
        "S1 S8: the word of a fence device counts though it was never read while its host ran, or said off then",
    ),
    (
        "next-life-is-cut",
        "S8: a device cuts a machine that is up again, for the life before its boot",
    ),
    (
        "closed-believed-from-a-copy",
        "S14: an incarnation that is not admitted, perhaps a copy, closes the guests of the last one",
    ),
    (
        "silence-is-death",
        "S9: the silence of the agent inside a guest, alone, counts as a hang",
    ),
    (
        "blindness-is-silence",
        "S9: what was not looked at counts as if it had been looked at and was dead",
    ),
    (
        "starved-is-hung",
        "S9: a guest that gets no CPU of its host is judged like one that does nothing",
    ),
    (
        "waiting-is-life",
        "S9: a dead guest that had to wait for a CPU for a moment counts as one that worked",
    ),
    (
        "blind-is-stopped",
        "S9 S14: a hypervisor that does not answer counts as one that shows no guest",
    ),
    (
        "unknown-told-as-unchanged",
        "S10: a change that was proposed and not seen decided is called not made",
    ),
    (
        "repeat-called-done",
        "S10: a node has more proposals in flight than the log remembers, and calls a lost one decided",
    ),
    (
        "skipped-untold",
        "S10: a node that takes a state over does not say that it skipped the messages before it",
    ),
    (
        "drain-not-waited",
        "S1: a guest is placed at once after a device or a word, with its last writes under way",
    ),
    (
        "placed-on-lost-host",
        "S2 L1: a placement holds on a host that was revoked or replaced meanwhile",
    ),
    (
        "word-before-end",
        "S14: a host says that a guest is closed when it was told to end, not when it has",
    ),
    (
        "word-without-promise",
        "S5 S14: a host says that a guest is closed without refusing its epoch for good",
    ),
    (
        "refused-epoch-started",
        "S5: a host starts what it has promised to refuse",
    ),
    (
        "continued-without-promise",
        "S5: a host whose store was set back lets a guest go on under an epoch it promises no more",
    ),
    (
        "start-before-promise",
        "S5: a start leaves before the promise it rests on is durable",
    ),
    (
        "created-after-the-store-failed",
        "S5: a guest is created though the store failed, with its promise, while its locks were read",
    ),
    (
        "sent-before-durable",
        "S10 S5: messages leave before the writes they rest on are durable",
    ),
    (
        "launch-not-bound",
        "S8: an attempt is launched whenever its entry is applied, in whatever term",
    ),
    (
        "brake-by-log-alone",
        "S7: attempts on their way to the log take no place of the brake",
    ),
    (
        "attempt-forgotten",
        "S8: an attempt without a result counts as resolved at once",
    ),
    (
        "emptied-unseen",
        "S14: a restarted host says that it is empty without having looked",
    ),
    (
        "emptied-never-said",
        "L1: a restarted host never says that it is empty",
    ),
    (
        "proved-life-goes-on",
        "L1: a host whose life was proved ended goes on with it",
    ),
    (
        "gone-before-resigned",
        "L2: a coordinator that is stopped ends before the log has its resignation",
    ),
    (
        "taken-is-dead",
        "S1: a guest that somebody migrated to a foreign host counts as one that died",
    ),
    (
        "followed-unread",
        "S16: a record that follows a new image lets hosts take the guest that have not read it",
    ),
    (
        "released-before-followed",
        "S16: the hold for a block job ends before the record has the image it led to",
    ),
    (
        "new-top-not-followed",
        "S16: a guest that writes to another image than its record has is left at that",
    ),
    (
        "backup-not-told",
        "L1: the image that a backup keeps old blocks in is taken for one that the guest writes to",
    ),
    (
        "block-job-is-nothing",
        "S16: a block job under way does not hold a guest",
    ),
    (
        "held-guest-placed",
        "S15: a guest that is held is placed, by proposer and by log alike",
    ),
    (
        "lock-not-read",
        "S15: a guest is started without a look at the locks of its images",
    ),
    (
        "lock-unknown-is-fine",
        "S15: any lock counts as one that the record accounts for",
    ),
    (
        "unreadable-lock-bars-start",
        "L1: a guest whose lock cannot be read is not started",
    ),
    (
        "lock-is-proof",
        "S2: a guest that never wrote a lock under its epoch counts as one that never ran",
    ),
    (
        "stranded-guest-waits",
        "L1: a guest given to a host that gets no log any more waits until it does",
    ),
    (
        "slow-hosts-judged-together",
        "S4: hosts are judged for a creation that may still take its time, several at once",
    ),
    (
        "stopped-is-busy",
        "L1: guests wait on a hung host because another there is stopped",
    ),
    (
        "placed-on-blind-host",
        "L1: a host whose hypervisor does not answer is given guests",
    ),
    (
        "one-kind-blinds-all",
        "L1: guests of every kind wait for a hypervisor that some of them do not need",
    ),
    (
        "hung-host-keeps-guests",
        "L1: a host keeps what it was given for as long as its hypervisor hangs",
    ),
    (
        "slow-since-its-placement",
        "S4 L1: a host whose lone guest failed after a minute is taken for one whose creations do not end",
    ),
    (
        "failed-hosts-first",
        "L1: a host that failed a guest, or could run no other, is chosen for the room it has",
    ),
    (
        "cold-start-unseen",
        "L1: a coordinator takes its own last life for a host at work: after a cold start the first hosts take all guests",
    ),
    (
        "cold-start-over-and-over",
        "L1: hosts whose daemons started anew wait for lost ones as after a cold start, though all were at work",
    ),
    (
        "failures-never-forgotten",
        "L1: what failed long ago delays the start after the loss of a host",
    ),
    (
        "empty-host-is-cut",
        "S7: a device cuts a host that runs nothing, and takes the brake's place of another",
    ),
    (
        "storage-gone-everywhere",
        "S9: guests are ended for a storage that no other host has either",
    ),
    (
        "busy-once-is-usual",
        "S9: a guest or host that was busy once makes a dead guest look usual",
    ),
    (
        "computing-is-hung",
        "S9: a guest without an agent that only computes is taken for dead",
    ),
];

pub use quorate_membership::mutants::planted;
