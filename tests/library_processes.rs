//! Members in processes of their own, which are killed, stopped and started anew under load: what was
//! acknowledged is received everywhere or named in a gap, in one order, under tokens that only rise.

mod library_support;

use library_support::{DEADLINE, Site};
use quorate::{Cluster, ClusterError, Item, Token};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Names the member that this process is to be.
const MEMBER: &str = "QUORATE_TEST_MEMBER";
/// Names the site's file.
const SITE: &str = "QUORATE_TEST_SITE";
/// Proposals of each member that are under way at one time.
const OUTSTANDING: usize = 8;

fn log(dir: &Path, what: &str, node: u32) -> PathBuf {
    dir.join(format!("{what}-{node}"))
}

fn append(path: &Path) -> File {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.expect("a log")
}

/// The lines that are whole: a process may be killed while it writes.
fn lines(path: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.split_inclusive('\n').filter(|l| l.ends_with(" .\n"));
    whole
        .map(|l| l.split(' ').map(str::to_owned).collect())
        .collect()
}

fn token(word: &str) -> Token {
    Token(word.parse().expect("a token"))
}

/// Notes of one member: messages by token, gaps, and how far it has come.
#[derive(Default)]
struct History {
    messages: BTreeMap<Token, String>,
    gaps: Vec<(Token, Token)>,
    upto: Token,
}

impl History {
    /// Reads it, and sees that tokens only rise, over all lives of the member.
    fn of(dir: &Path, node: u32) -> History {
        let mut history = History::default();
        for line in lines(&log(dir, "received", node)) {
            let upto = match line[0].as_str() {
                "gap" => {
                    let (after, upto) = (token(&line[1]), token(&line[2]));
                    history.gaps.push((after, upto));
                    upto
                }
                _ => {
                    let at = token(&line[0]);
                    history.messages.insert(at, line[1].clone());
                    at
                }
            };
            assert!(upto > history.upto, "{node}: {upto} after {}", history.upto);
            history.upto = upto;
        }
        history
    }

    fn missed(&self, at: Token) -> bool {
        self.gaps
            .iter()
            .any(|(after, upto)| *after < at && at <= *upto)
    }
}

/// Not a test by itself: a member, in a process that the test below starts.
#[test]
fn member_process() {
    let (Ok(node), Ok(site)) = (std::env::var(MEMBER), std::env::var(SITE)) else {
        return;
    };
    // It must not outlast the test, however that ends.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(1);
    });
    let node = node.parse().expect("a number");
    let site = Site::read(Path::new(&site));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(serve(node, site)));
}

async fn serve(node: u32, site: Site) {
    let dir = site.dir().to_owned();
    let had = History::of(&dir, node).upto;
    let member: Arc<Cluster> = Arc::new(site.join(node).await);
    let mut inbox = member.subscribe_after(had).expect("of this cluster");
    for worker in 0..OUTSTANDING {
        let (member, mut acknowledged) = (member.clone(), append(&log(&dir, "acknowledged", node)));
        tokio::task::spawn_local(async move {
            for number in 0_u64.. {
                let text = format!("{node}.{}.{worker}.{number}", std::process::id());
                match member.propose(text.clone().into()).await {
                    Ok(at) => writeln!(acknowledged, "{} {text} .", at.0).expect("written"),
                    Err(ClusterError::Ended(why)) => panic!("{why}"),
                    Err(_) => {}
                }
                // Some thousand a second, so that a slow machine keeps up with them.
                tokio::time::sleep(Duration::from_millis(4)).await;
            }
        });
    }
    let mut received = append(&log(&dir, "received", node));
    loop {
        let line = match inbox.recv().await.expect("it lives") {
            Item::Gap(gap) => format!("gap {} {} .\n", gap.after.0, gap.upto.0),
            Item::Message(m) => format!("{} {} .\n", m.token.0, String::from_utf8_lossy(&m.bytes)),
        };
        received.write_all(line.as_bytes()).expect("written");
    }
}

/// The processes; they end with the test.
struct Processes {
    site: PathBuf,
    dir: PathBuf,
    running: BTreeMap<u32, Child>,
}

impl Drop for Processes {
    fn drop(&mut self) {
        let nodes: Vec<u32> = self.running.keys().copied().collect();
        nodes.into_iter().for_each(|n| self.kill(n));
    }
}

impl Processes {
    fn start(&mut self, node: u32) {
        let program = std::env::current_exe().expect("this test");
        let child = Command::new(program)
            .args(["member_process", "--exact", "--nocapture"])
            .env(MEMBER, node.to_string())
            .env(SITE, &self.site)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        self.running.insert(node, child.expect("a process"));
    }

    fn kill(&mut self, node: u32) {
        if let Some(mut child) = self.running.remove(&node) {
            child.kill().expect("killed");
            child.wait().expect("waited for");
        }
    }

    fn signal(&self, node: u32, signal: Signal) {
        let pid = Pid::from_child(&self.running[&node]);
        kill_process(pid, signal).expect("sent");
    }

    fn acknowledged(&self, node: u32) -> Vec<(Token, String)> {
        let lines = lines(&log(&self.dir, "acknowledged", node));
        let each = lines.into_iter().map(|l| (token(&l[0]), l[1].clone()));
        each.collect()
    }

    /// Waits until so many more proposals of each of `nodes` are acknowledged.
    fn go_on(&mut self, nodes: &[u32], more: usize) {
        let goals: Vec<usize> = nodes
            .iter()
            .map(|n| self.acknowledged(*n).len() + more)
            .collect();
        self.wait("acknowledged", |p| {
            let done = |(n, goal): (&u32, &usize)| p.acknowledged(*n).len() >= *goal;
            nodes.iter().zip(&goals).all(done)
        });
    }

    fn wait(&mut self, what: &str, done: impl Fn(&Processes) -> bool) {
        let until = Instant::now() + DEADLINE;
        while !done(self) {
            for (node, child) in &mut self.running {
                let ended = child.try_wait().expect("a child");
                assert!(ended.is_none(), "member {node} ended: {ended:?}");
            }
            assert!(Instant::now() < until, "{what}: not within {DEADLINE:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn killed_and_stopped_processes_lose_no_acknowledged_message_and_pass_over_none_in_silence() {
    let site = Site::new(4);
    let mut p = Processes {
        site: site.write(),
        dir: site.dir().to_owned(),
        running: BTreeMap::new(),
    };
    (1..=4).for_each(|n| p.start(n));
    p.go_on(&[1, 2, 3, 4], 200);
    // One after the other, at once and after a while.
    for voter in 1..=3 {
        let others: Vec<u32> = (1..=3).filter(|n| *n != voter).collect();
        p.kill(voter);
        p.go_on(&others, 400);
        p.start(voter);
        p.go_on(&[voter], 100);
    }
    // The one that does not vote stands still while more is decided than the log keeps.
    p.signal(4, Signal::STOP);
    p.go_on(&[1, 2, 3], 1500);
    p.signal(4, Signal::CONT);
    p.go_on(&[4], 100);
    // A voter stands still past every lease, and goes on in the same life.
    p.signal(2, Signal::STOP);
    p.go_on(&[1, 3], 1500);
    p.signal(2, Signal::CONT);
    p.go_on(&[2], 100);
    // All at once.
    (1..=4).for_each(|n| p.kill(n));
    (1..=4).for_each(|n| p.start(n));
    p.go_on(&[1, 2, 3, 4], 100);

    let acknowledged: Vec<(Token, String)> = (1..=4).flat_map(|n| p.acknowledged(n)).collect();
    let last = acknowledged.iter().map(|(at, _)| *at).max();
    let last = last.expect("some are acknowledged");
    p.wait("received everywhere", |p| {
        (1..=4).all(|n| History::of(&p.dir, n).upto >= last)
    });
    let mut truth: BTreeMap<Token, String> = BTreeMap::new();
    for node in 1..=4 {
        let history = History::of(&p.dir, node);
        for (at, text) in &acknowledged {
            match history.messages.get(at) {
                Some(found) => assert_eq!(found, text, "member {node}, {at}"),
                None => assert!(history.missed(*at), "member {node} passed over {at}"),
            }
        }
        for (at, text) in history.messages {
            let first = truth.entry(at).or_insert_with(|| text.clone());
            assert_eq!(*first, text, "member {node}, {at}");
        }
    }
    let mut texts: Vec<&String> = truth.values().collect();
    let all = texts.len();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), all, "a message was decided twice");
}
