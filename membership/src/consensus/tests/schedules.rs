//! Random schedules of loss, crashes and pauses: what is decided stays, everywhere the same.

use super::harness::{Net, Random};

fn step(net: &mut Net, random: &mut Random) {
    let slot = 1 + random.below(usize::from(net.slots)) as u8;
    let other = 1 + random.below(usize::from(net.slots)) as u8;
    match random.below(1000) {
        0..300 => {
            for slot in 1..=net.slots {
                net.tick(slot);
            }
        }
        300..310 => net.tick(slot),
        310..420 => {
            net.propose(slot);
        }
        420..432 => net.disconnect(slot, other),
        432..472 => net.connect(slot, other),
        472..478 => {
            let staged = net.staged(slot);
            net.crash(slot, random.below(staged + 1));
        }
        478..500 => net.restart(slot),
        500..505 => net.node(slot).paused = true,
        505..530 => net.node(slot).paused = false,
        530..560 => net.trim(),
        560..570 => {
            // A slow disk: this node's turn is taken but nothing of it becomes durable yet.
            net.stage(slot);
            return;
        }
        _ => {}
    }
    for slot in 1..=net.slots {
        net.stage(slot);
        if !random.percent(10) {
            while net.persist_one(slot) {}
        }
    }
    for (from, to) in net.queued() {
        for _ in 0..random.below(4) {
            net.deliver(from, to);
        }
    }
    for _ in 0..net.datagrams() {
        let some = net.datagrams();
        if some == 0 {
            break;
        }
        let at = random.below(some);
        match random.below(100) {
            0..3 => net.lose_datagram(at),
            3..6 => net.deliver_datagram(at, true),
            6..85 => net.deliver_datagram(at, false),
            _ => {}
        }
    }
}

fn run(slots: u8, seed: u64, steps: usize, record: bool) -> Net {
    let mut net = Net::new(slots);
    net.record = record;
    let mut random = Random(seed);
    for _ in 0..steps {
        step(&mut net, &mut random);
    }
    net.heal();
    net
}

fn explore(slots: u8, seeds: std::ops::Range<u64>) {
    let (mut decided, mut trims) = (0, 0);
    let count = (seeds.end - seeds.start) as usize;
    for seed in seeds {
        let net = run(slots, seed, 600, false);
        decided += net.chosen.len();
        trims += net.trims;
    }
    // The schedules must be worth something: entries decided and trimmed in most of them.
    assert!(decided > 20 * count, "{decided} entries in {count} runs");
    assert!(trims > count / 2, "{trims} trims in {count} runs");
}

#[test]
fn three_voters_agree_through_loss_and_crashes() {
    explore(3, 0..300);
}

#[test]
fn five_voters_agree_through_loss_and_crashes() {
    explore(5, 1000..1200);
}

#[test]
fn the_same_inputs_give_the_same_messages() {
    for seed in 0..3 {
        let (a, b) = (run(3, seed, 300, true), run(3, seed, 300, true));
        assert!(a.sent.len() > 100);
        assert_eq!(a.sent, b.sent);
        assert_eq!(a.chosen, b.chosen);
    }
}
