//! What is not there, or not free, when a node starts: it waits, says so once, and goes on by itself.

mod common;

use common::place::{Daemon, Place, eventually};
use common::{ended, file, run};
use std::fs;
use std::net::{TcpListener, UdpSocket};

#[test]
fn a_port_in_use_is_waited_for_and_another_daemon_is_not() {
    let p = Place::new();
    p.found();
    let udp = UdpSocket::bind(("127.0.0.1", p.udp)).expect("free");
    let tcp = TcpListener::bind(("127.0.0.1", p.tcp)).expect("free");
    let out = p.run(&["join"]);
    assert_eq!(out.status.code(), Some(1), "the world may change: {out:?}");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        said.contains("link \"lo\"") && said.contains("in use"),
        "{said}"
    );
    let [_daemon, _other] = p.daemons();
    let notes = || p.status()["remarks"].to_string();
    let said = notes();
    assert!(said.contains("link lo is closed"), "{said}");
    assert!(said.contains(&format!("127.0.0.1:{}", p.tcp)), "{said}");
    drop((udp, tcp));
    eventually("link and sessions", || {
        let said = notes();
        !said.contains("is closed") && !said.contains("no session can come in")
    });
    eventually("a coordinator", || {
        !p.status()["view"]["coordinator"].is_null()
    });
    let out = p.run(&["daemon"]);
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("another daemon listens there"), "{said}");
}

#[test]
fn something_else_at_the_place_of_the_socket_is_left_alone() {
    let p = Place::new();
    p.found();
    fs::write(p.at("sock"), "precious").expect("written");
    let before = p.state();
    let out = p.run(&["daemon"]);
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    assert!(String::from_utf8_lossy(&out.stderr).contains("no socket"));
    assert_eq!(fs::read(p.at("sock")).expect("still there"), b"precious");
    assert!(before == p.state(), "a life was begun");
}

#[test]
fn a_wrong_key_is_named_to_whoever_waits() {
    let p = Place::new();
    let founder = p.start(&["cluster", "init", "--wait", "40"], 1);
    let other = p.at("other").display().to_string();
    assert!(run(&["key", "generate", &other]).status.success());
    let text = p
        .text_of(2)
        .replace(&p.at("key").display().to_string(), &other);
    file(p.dir.path(), "2.toml", &text);
    let out = ended(p.start(&["join", "--wait", "3"], 2));
    let said = fs::read_to_string(p.at("log2")).expect("a log");
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(
        said.contains("under another key were heard from 127.0.0.1"),
        "{said}"
    );
    let mut founder = founder;
    founder.kill().expect("ours");
    founder.wait().expect("ours");
}

#[test]
fn what_is_not_there_yet_is_waited_for() {
    let p = Place::new();
    p.found();
    let hidden = [("key", "key.away"), ("state/store.redb", "store.away")];
    for (name, away) in hidden {
        fs::rename(p.at(name), p.at(away)).expect("moved");
    }
    let daemon = Daemon {
        child: p.start(&["daemon"], 1),
        run: p.at("run"),
        log: p.at("log1"),
    };
    let said = |part: &str| fs::read_to_string(&daemon.log).is_ok_and(|log| log.contains(part));
    eventually("the key to be missed", || said("key file"));
    fs::rename(p.at("key.away"), p.at("key")).expect("moved");
    eventually("the store to be missed", || {
        said("store.redb: does not exist")
    });
    fs::rename(p.at("store.away"), p.at("state/store.redb")).expect("moved");
    eventually("the daemon to answer", || {
        p.ask(&["status"]).status.success()
    });
    let log = fs::read_to_string(&daemon.log).expect("a log");
    assert_eq!(log.matches("not up yet").count(), 2, "once each: {log}");
    // Waiting began no life: founding was the first, this is the second.
    assert_eq!(p.status()["incarnation"], 2);
}
