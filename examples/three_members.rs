//! Three members of one cluster in one process, over real multicast on the loopback interface. They
//! keep everything in memory; a service would give each a directory, with `Cluster::join`.
//!
//! Run it with `cargo run --example three_members`.

use quorate::{Cluster, ClusterKey, Interface, Item, LinkConfig, LinkKind, Options, Timing};
use std::collections::BTreeMap;
use std::time::Duration;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let key = ClusterKey::generate()?;
    let sessions: BTreeMap<u32, _> = (1..=3)
        .map(|n| (n, ([127, 0, 0, 1], 7400 + n as u16).into()))
        .collect();
    let member = |node: u32| {
        let interface = Interface::Address([127, 0, 0, 1].into());
        let group = "239.192.7.9:7409".parse().expect("an address");
        let kind = LinkKind::Multicast {
            interface,
            group,
            ttl: 0,
            loopback: true,
        };
        Cluster::in_memory(Options {
            node,
            name: format!("member-{node}"),
            key: key.clone(),
            voters: vec![1, 2, 3],
            links: vec![LinkConfig {
                name: "lo".into(),
                kind,
            }],
            listen: sessions[&node],
            sessions: sessions.clone(),
            timing: Timing::fast(),
            above: quorate::Token::NONE,
            patience: Duration::from_secs(30),
        })
    };
    let (a, b, c) = tokio::try_join!(member(1), member(2), member(3))?;
    let view = a.views().wait_for(|v| v.members.len() == 3).await?.clone();
    println!(
        "view {}: {} members, coordinator {:?}",
        view.number,
        view.members.len(),
        view.coordinator
    );
    let mut inbox = c.subscribe();
    b.propose(b"hello from member 2".to_vec()).await?;
    match inbox.recv().await? {
        Item::Message(message) => println!(
            "member 3 received {:?} under token {}",
            String::from_utf8_lossy(&message.bytes),
            message.token
        ),
        Item::Gap(gap) => println!(
            "member 3 missed what came after {} up to {}",
            gap.after, gap.upto
        ),
    }
    b.leave().await;
    a.views()
        .wait_for(|v| {
            v.members
                .iter()
                .any(|m| m.state != quorate::HostState::Member)
        })
        .await?;
    println!("member 1 sees that member 2 has left");
    Ok(())
}
