//! The quorate-sim command.
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let from: u64 = a[1].parse().expect("from");
    let to: u64 = a[2].parse().expect("to");
    if a.len() > 3 {
        let r = quorate_simulator::hunt::run::<quorate_recovery::Node>(
            quorate_simulator::hunt::generate::plan(from),
            true,
        );
        for l in &r.trace {
            println!("{l}");
        }
        if let Some(v) = &r.violation {
            println!("{v}");
        }
        return;
    }
    std::panic::set_hook(Box::new(|_| {}));
    let t = std::time::Instant::now();
    let mut kinds: std::collections::BTreeMap<String, (u64, u64)> = Default::default();
    let mut ev = 0;
    for s in from..to {
        let r = quorate_simulator::hunt::run::<quorate_recovery::Node>(
            quorate_simulator::hunt::generate::plan(s),
            false,
        );
        ev += r.events;
        let key = r
            .violation
            .as_ref()
            .map_or("ok".to_owned(), |v| format!("{} {}", v.property, v.what));
        kinds.entry(key).or_insert((0, s)).0 += 1;
    }
    println!("{:?} {ev} events", t.elapsed());
    for (k, v) in kinds {
        println!("{k}: {v:?}");
    }
}
