//! The state of a hunt on disk, so that a long one can be broken off and go on.

use super::{Hunt, Order};
use crate::world::RunHash;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The form of the file; another one is refused.
const FORM: u32 = 2;

/// A hunt that was broken off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    form: u32,
    /// The program and its version: another one draws other plans.
    program: String,
    /// First seed and the one after the last.
    seeds: (u64, u64),
    bug: Option<String>,
    mix: Option<String>,
    go_on: bool,
    /// The first seed that is not done.
    pub next: u64,
    /// What was found before it.
    pub found: Hunt,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    hunt: Resume,
    seal: String,
}

impl Resume {
    /// The state of `order` up to seed `next`.
    #[must_use]
    pub fn new(program: &str, order: &Order, next: u64, found: &Hunt) -> Resume {
        Resume {
            form: FORM,
            program: program.to_owned(),
            seeds: (order.seeds.start, order.seeds.end),
            bug: order.bug.map(str::to_owned),
            mix: order.mix.map(str::to_owned),
            go_on: order.go_on,
            next,
            found: found.clone(),
        }
    }

    fn seal(&self) -> Result<String, String> {
        let text = serde_json::to_string(self).map_err(|e| e.to_string())?;
        let mut hash = RunHash::default();
        hash.bytes(text.as_bytes());
        Ok(format!("{:016x}", hash.finish()))
    }

    /// Writes the state; the file always holds a whole one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, file: &Path) -> Result<(), String> {
        let seal = self.seal()?;
        let hunt = self.clone();
        let text = serde_json::to_string_pretty(&Sealed { hunt, seal })
            .map_err(|e| format!("{}: {e}", file.display()))?;
        let part = file.with_extension("part");
        std::fs::write(&part, text).map_err(|e| format!("{}: {e}", part.display()))?;
        std::fs::rename(&part, file).map_err(|e| format!("{}: {e}", file.display()))
    }
}

/// Reads the state of a hunt that `order` goes on with; `None` if there is no file yet.
///
/// # Errors
/// The file is damaged, or is of another hunt: what differs is named.
pub fn read(program: &str, order: &Order, file: &Path) -> Result<Option<Resume>, String> {
    let name = file.display();
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(format!("{name}: {e}")),
    };
    let sealed: Sealed = serde_json::from_str(&text)
        .map_err(|e| format!("{name}: not the state of a hunt: {e}; remove it to begin anew"))?;
    let resume = sealed.hunt;
    if resume.seal()? != sealed.seal {
        return Err(format!(
            "{name}: damaged: its seal does not fit; remove it to begin anew"
        ));
    }
    let asked = Resume::new(program, order, resume.next, &resume.found);
    let differs = [
        (
            "form",
            format!("{}", resume.form),
            format!("{}", asked.form),
        ),
        ("program", resume.program.clone(), asked.program.clone()),
        (
            "seeds",
            format!("{:?}", resume.seeds),
            format!("{:?}", asked.seeds),
        ),
        (
            "bug",
            format!("{:?}", resume.bug),
            format!("{:?}", asked.bug),
        ),
        (
            "mix",
            format!("{:?}", resume.mix),
            format!("{:?}", asked.mix),
        ),
        (
            "keep-going",
            format!("{}", resume.go_on),
            format!("{}", asked.go_on),
        ),
    ];
    for (what, there, here) in differs {
        if there != here {
            return Err(format!(
                "{name}: of another hunt: {what} is {there} there, {here} here"
            ));
        }
    }
    let (start, end) = resume.seeds;
    if resume.next < start || resume.next > end || resume.found.seeds > resume.next - start {
        return Err(format!("{name}: damaged: seed {} is next", resume.next));
    }
    Ok(Some(resume))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> Order {
        Order {
            seeds: 1..100,
            jobs: 1,
            go_on: true,
            bug: None,
            mix: None,
        }
    }

    #[test]
    fn a_state_is_read_back_and_nothing_else_is() {
        let dir = std::env::temp_dir().join(format!("quorate-resume-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let file = dir.join("hunt.json");
        assert_eq!(read("p 1", &order(), &file), Ok(None));
        let mut found = Hunt {
            seeds: 40,
            events: 7,
            ..Hunt::default()
        };
        found.exposure.add("fault: cut", 3);
        found.kinds.insert("S1".into(), (1, 12));
        found.failure = Some(crate::harness::Failure {
            seed: 12,
            property: "S1".into(),
            hash: 7,
        });
        let state = Resume::new("p 1", &order(), 41, &found);
        state.write(&file).expect("written");
        assert_eq!(read("p 1", &order(), &file), Ok(Some(state)));
        for (program, order, says) in [
            ("p 2", order(), "program"),
            (
                "p 1",
                Order {
                    seeds: 1..200,
                    ..order()
                },
                "seeds",
            ),
            (
                "p 1",
                Order {
                    go_on: false,
                    ..order()
                },
                "keep-going",
            ),
            (
                "p 1",
                Order {
                    bug: Some("b"),
                    ..order()
                },
                "bug",
            ),
        ] {
            let why = read(program, &order, &file).expect_err("another hunt");
            assert!(why.contains(says), "{why}");
        }
        let text = std::fs::read_to_string(&file).expect("there");
        for (damaged, says) in [
            (text.replace("41", "42"), "seal"),
            (text.replace("\"seeds\": 40", "\"seeds\": 39"), "seal"),
            (text[..text.len() / 2].to_owned(), "not the state"),
            (String::new(), "not the state"),
        ] {
            std::fs::write(&file, damaged).expect("written");
            let why = read("p 1", &order(), &file).expect_err("damaged");
            assert!(why.contains(says), "{why}");
        }
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
