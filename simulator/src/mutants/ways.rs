//! What finds each planted bug: a mix, or the story that was written for it.

use crate::harness::Way;

macro_rules! story {
    ($file:literal) => {
        Way::Story(
            concat!("simulator/scenarios/", $file),
            include_str!(concat!("../../scenarios/", $file)),
        )
    };
}

/// Bugs that the swarm comes by too seldom, and what finds each.
pub(super) const WAYS: &[(&str, &[Way])] = &[
    (
        "held-guest-is-slow",
        &[story!("lock-of-a-copy-of-the-cluster.toml")],
    ),
    (
        "dropped-tail-waited-for",
        &[story!("longer-log-that-a-later-round-dropped.toml")],
    ),
    (
        "out-of-the-log-for-life",
        &[
            story!("left-the-log-and-another-store-is-set-back.toml"),
            story!("leaves-the-log-while-it-seeks.toml"),
        ],
    ),
    (
        "next-life-is-cut",
        &[story!("power-failure-of-virtual-hosts.toml")],
    ),
    ("stop-promise-forgotten", &[Way::Mix("voters")]),
    ("new-top-not-followed", &[Way::Mix("images")]),
    ("followed-unread", &[Way::Mix("images")]),
    ("block-job-is-nothing", &[Way::Mix("images")]),
    ("headers-not-read", &[Way::Mix("images")]),
    (
        "backup-not-told",
        &[story!("backup-under-way-and-the-host-is-lost.toml")],
    ),
    (
        "released-before-followed",
        &[story!("copied-and-the-guest-dies-at-once.toml")],
    ),
    (
        "taken-is-dead",
        &[story!("migrated-by-hand-to-a-foreign-host.toml")],
    ),
    (
        "continued-without-promise",
        &[story!("set-back-while-its-guest-runs.toml")],
    ),
    (
        "creation-outlives-its-end",
        &[story!("creation-waits-while-its-host-stands-still.toml")],
    ),
    ("set-back-by-counter-only", &[Way::Mix("setbacks")]),
    ("cut-beyond-own-state", &[Way::Mix("behind")]),
    (
        "compared-in-memory-only",
        &[story!("starts-twice-before-it-is-vouched-for.toml")],
    ),
    (
        "vouched-for-leads-no-more",
        &[story!("leader-is-vouched-for-at-last.toml")],
    ),
    (
        "state-handed-on-only-once-compared",
        &[story!("leads-by-a-state-that-nobody-compared.toml")],
    ),
    (
        "states-kept-before-they-are-taken",
        &[story!("all-fail-with-messages-untaken.toml")],
    ),
    (
        "cut-told-by-leaders-only",
        &[story!("voter-behind-reaches-a-follower-only.toml")],
    ),
    (
        "heard-life-outranks-in-the-log",
        &[story!("original-asks-after-its-copy-asked.toml")],
    ),
    (
        "only-heard-life-is-kept",
        &[story!("original-speaks-after-its-copy-ran.toml")],
    ),
    (
        "outvoted-and-stays",
        &[story!("original-votes-after-its-copy-was-vouched-for.toml")],
    ),
    (
        "untrusted-state-handed-over",
        &[story!("voter-behind-is-given-no-doubtful-state.toml")],
    ),
    (
        "earlier-life-acknowledges",
        &[story!(
            "copy-is-vouched-for-while-its-original-grants-leases.toml"
        )],
    ),
    (
        "answer-stands-unsaid",
        &[story!("answer-of-a-voter-that-was-reverted.toml")],
    ),
    (
        "lease-of-the-unarmed-waited-for",
        &[story!("stopped-without-a-guardian-and-lost.toml")],
    ),
    (
        "cut-though-it-proves-nothing",
        &[story!("no-guardian-under-device-and-lease.toml")],
    ),
    (
        "vouches-for-a-twin",
        &[story!("original-begins-a-life-of-its-copys-number.toml")],
    ),
    (
        "known-log-forgotten",
        &[story!("newest-log-is-not-given-and-waited-for.toml")],
    ),
    (
        "cold-start-unseen",
        &[story!("half-of-the-hosts-come-back-first.toml")],
    ),
    (
        "cold-start-over-and-over",
        &[story!("daemons-start-anew-and-another-host-is-lost.toml")],
    ),
    (
        "answer-without-log-stands",
        &[story!("answered-and-left-the-log.toml")],
    ),
    (
        "set-back-voter-vouches",
        &[story!(
            "voter-reverted-with-its-memory-vouches-for-one-set-back.toml"
        )],
    ),
    (
        "all-together-forget",
        &[story!(
            "two-of-three-stores-set-back-one-after-the-other.toml"
        )],
    ),
    (
        "own-earlier-life-unattested",
        &[story!("voter-boots-anew-beside-one-that-is-away.toml")],
    ),
    (
        "first-answer-stands",
        &[story!(
            "answer-of-a-voter-that-was-reverted-is-given-anew.toml"
        )],
    ),
    (
        "answers-while-it-seeks",
        &[story!("answer-of-a-copy-that-may-not-vote.toml")],
    ),
    (
        "cut-and-not-told",
        &[story!("voter-behind-a-log-that-was-cut.toml")],
    ),
    (
        "cut-waits-to-be-vouched-for",
        &[story!("voter-behind-a-log-that-was-cut.toml")],
    ),
    (
        "unmarked-votes-at-once",
        &[story!("store-set-back-within-a-boot.toml")],
    ),
    (
        "reverted-life-goes-on",
        &[story!("reverted-with-its-memory.toml")],
    ),
    ("one-voter-vouches", &[Way::Mix("setbacks")]),
    (
        "whole-store-still-fetches",
        &[story!("newer-log-is-out-of-reach.toml")],
    ),
    (
        "newer-heard-votes-unvouched",
        &[story!("store-set-back-within-a-boot.toml")],
    ),
    ("states-not-compared", &[Way::Mix("states")]),
    (
        "floor-not-taken",
        &[story!("founded-after-other-clusters.toml")],
    ),
    ("divided-goes-on", &[Way::Mix("states")]),
    ("closed-believed-from-a-copy", &[Way::Mix("clones")]),
    ("boot-id-believed-from-a-clone", &[Way::Mix("clones")]),
    (
        "copy-speaks-for-the-original",
        &[story!("copy-while-the-original-is-without-power.toml")],
    ),
    (
        "old-hello-admits",
        &[story!("life-cut-by-the-fence-is-not-admitted.toml")],
    ),
    (
        "mark-not-kept",
        &[story!("store-set-back-within-a-boot.toml")],
    ),
    (
        "alone-states-what-it-holds-now",
        &[story!("votes-unvouched-and-meets-the-third.toml")],
    ),
    (
        "refused-and-not-told",
        &[story!("store-set-back-over-several-lives.toml")],
    ),
    (
        "created-after-the-store-failed",
        &[story!("store-fails-while-locks-are-read.toml")],
    ),
    ("unknown-told-as-unchanged", &[Way::Mix("asks")]),
    ("repeat-called-done", &[Way::Mix("asks")]),
    (
        "skipped-untold",
        &[story!("follower-is-handed-a-state.toml")],
    ),
    ("unadmitted-acknowledged", &[Way::Mix("restart")]),
    ("answer-to-an-old-revoke", &[Way::Mix("return")]),
    ("unarmed-lease-proves", &[Way::Mix("unarmed")]),
    ("armed-never-taken-back", &[Way::Mix("guardian")]),
    ("counter-not-read", &[Way::Mix("guardian")]),
    ("unarmed-still-renews", &[Way::Mix("guardian")]),
    (
        "old-armed-word-counts",
        &[story!("rule-an-older-word-is-void.toml")],
    ),
    ("emptied-never-said", &[story!("rule-emptied-is-said.toml")]),
    ("repeat-applied", &[Way::Mix("logs")]),
    ("exit-code-proves", &[Way::Mix("fence")]),
    ("unanswered-off-is-over", &[Way::Mix("fence")]),
    ("timeout-as-success", &[Way::Mix("fence")]),
    (
        "launch-not-bound",
        &[story!("coordinator-stands-still-with-an-attempt.toml")],
    ),
    (
        "late-order-obeyed",
        &[story!("coordinator-stands-still-before-a-launch.toml")],
    ),
    (
        "answer-to-an-earlier-life",
        &[story!("answers-to-an-earlier-life-come-late.toml")],
    ),
    ("fed-past-lease-end", &[Way::Mix("tight")]),
    (
        "created-running",
        &[story!("created-after-the-daemon-restarted.toml")],
    ),
    ("no-reset-of-a-stuck-host", &[Way::Mix("stuck")]),
    ("guardian-waits-for-a-scan", &[Way::Mix("stuck")]),
    ("populated-fails-open", &[Way::Mix("stuck")]),
    ("blind-is-stopped", &[Way::Mix("creations")]),
    (
        "off-at-the-last-moment",
        &[story!("rule-no-off-at-the-last-moment.toml")],
    ),
    (
        "off-read-is-over",
        &[story!("rule-late-device-is-waited-for.toml")],
    ),
    ("first-level-only", &[story!("second-fence-level.toml")]),
    (
        "device-not-tried",
        &[story!("plug-with-nothing-behind-it.toml")],
    ),
    (
        "outlets-read-once",
        &[story!("rule-outlets-are-off-at-once.toml")],
    ),
    (
        "turned-away-is-refused",
        &[story!("device-lets-most-of-them-wait.toml")],
    ),
    (
        "brake-by-log-alone",
        &[story!("rule-brake-counts-what-is-on-its-way.toml")],
    ),
    (
        "pause-is-silence",
        &[story!("rule-paused-voters-judge-nobody.toml")],
    ),
    (
        "pause-restarts-windows",
        &[story!("voters-that-hiccup.toml")],
    ),
    (
        "deaf-ground-ends-in-silence",
        &[story!("deaf-then-silent.toml")],
    ),
    (
        "elections-wait-for-disk",
        &[story!("host-lost-while-all-disks-are-slow.toml")],
    ),
    (
        "slow-leader-stays",
        &[story!("slow-disk-of-the-coordinator.toml")],
    ),
    (
        "lives-of-one-number-are-one-in-the-log",
        &[story!("next-life-of-one-number-asks-again.toml")],
    ),
    (
        "own-longer-tail-waited-for",
        &[story!("boots-beside-a-longer-tail-of-its-own.toml")],
    ),
    (
        "only-heard-life-is-kept-beside-sessions",
        &[story!("only-heard-life-bars-datagrams.toml")],
    ),
    (
        "named-life-not-heeded",
        &[story!("life-below-one-that-was-vouched-for.toml")],
    ),
    (
        "stopped-is-busy",
        &[story!("stopped-guest-on-a-hung-host.toml")],
    ),
    (
        "slow-hosts-judged-together",
        &[story!("slow-creation-on-the-only-host-with-room.toml")],
    ),
    (
        "sessions-in-large-packets",
        &[story!("batch-of-the-log-where-large-packets-vanish.toml")],
    ),
    ("deaf-stays-lost", &[story!("deaf-witness-comes-back.toml")]),
    (
        "bulletin-in-one-datagram",
        &[story!("full-hosts-where-large-packets-vanish.toml")],
    ),
    (
        "leases-by-datagram-only",
        &[story!("no-datagram-passes-and-sessions-are-open.toml")],
    ),
    (
        "beats-not-relayed",
        &[story!("host-linked-to-one-voter.toml")],
    ),
    ("deaf-never-lost", &[story!("deaf-host.toml")]),
    ("starved-is-hung", &[story!("odd-looks-are-not-death.toml")]),
    (
        "waiting-is-life",
        &[story!("rule-a-short-wait-is-no-life.toml")],
    ),
    (
        "left-behind-voter-waits",
        &[story!("followed-through-a-left-behind-voter.toml")],
    ),
    (
        "follower-keeps-it-to-itself",
        &[story!("followed-through-a-left-behind-voter.toml")],
    ),
    (
        "gone-before-resigned",
        &[story!("coordinator-stops-in-order.toml")],
    ),
    (
        "stranded-guest-waits",
        &[story!("placed-just-before-the-log-is-lost.toml")],
    ),
    ("held-guest-placed", &[story!("held-by-an-operator.toml")]),
    ("lock-not-read", &[Way::Mix("locks")]),
    ("lock-unknown-is-fine", &[Way::Mix("locks")]),
    (
        "unreadable-lock-bars-start",
        &[story!("lock-that-cannot-be-read.toml")],
    ),
    ("lock-is-proof", &[Way::Mix("locks")]),
    (
        "placed-on-blind-host",
        &[story!("hung-hypervisor-gets-no-guests.toml")],
    ),
    (
        "one-kind-blinds-all",
        &[story!("one-hypervisor-is-silent-everywhere.toml")],
    ),
    (
        "hung-host-keeps-guests",
        &[story!("hypervisor-hangs-as-guests-are-placed.toml")],
    ),
    (
        "slow-since-its-placement",
        &[story!("lone-guest-fails-on-a-slow-host.toml")],
    ),
    (
        "failed-hosts-first",
        &[story!("two-bad-hosts-are-left-for-a-good-one.toml")],
    ),
    (
        "failures-never-forgotten",
        &[story!("failures-of-long-ago-delay-nothing.toml")],
    ),
    (
        "empty-host-is-cut",
        &[story!("witness-without-guests-is-not-cut.toml")],
    ),
    (
        "storage-gone-everywhere",
        &[story!("storage-gone-everywhere-for-ten-minutes.toml")],
    ),
    (
        "busy-once-is-usual",
        &[story!("rule-a-hang-is-seen-after-busy-times.toml")],
    ),
    (
        "computing-is-hung",
        &[story!("computing-alone-is-no-hang.toml")],
    ),
    (
        "proved-life-goes-on",
        &[story!("paused-daemon-past-lease.toml")],
    ),
];
