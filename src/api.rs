//! What is spoken on the daemon's unix socket: one JSON document a line, both ways.
//!
//! A client sends one [`ApiRequest`] a connection and reads one answer: `{"ok": …}`,
//! `{"error": "…"}`, or `{"unknown": "…"}` for a change whose outcome was not seen. After `events`
//! the answers are events, one a line, and with `follow` they go on until either end hangs up; the
//! last line of a daemon that ends says so in `ended`. Permissions of the socket decide who may
//! speak.

use crate::config::LibvirtSettings;
use quorate_recovery::contract::{Departure, Event, Request};
use quorate_recovery::guest::GuestSpec;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest request a daemon reads, in bytes.
pub const LINE: usize = 4 << 20;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApiRequest {
    /// The cluster as the node sees it.
    Status,
    /// Every node of the view.
    Hosts,
    /// Every guest.
    Guests,
    /// Why a guest is where it is.
    Why {
        /// Its name.
        guest: String,
    },
    /// What a new guest is judged by; answered with [`Grounds`].
    Grounds,
    /// Read fence devices and change nothing; answered with [`TriedDevice`]s.
    Try {
        /// Of this host; of all if none is named.
        host: Option<String>,
    },
    /// What happened, as far as the daemon remembers it.
    Events {
        /// Go on as it happens.
        follow: bool,
    },
    /// A change.
    Ask(Request),
}

/// What a new guest is judged by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grounds {
    /// Libvirt as the host's file names it; `None` if this host runs no domains.
    pub libvirt: Option<LibvirtSettings>,
    /// Where this host looks for resource agents; `None` if it runs none.
    #[serde(default)]
    pub agents: Option<Vec<std::path::PathBuf>>,
    /// Every protected guest, as it was described.
    pub guests: Vec<GuestSpec>,
}

/// What a fence device said when it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriedDevice {
    /// The host it is for.
    pub host: String,
    /// Its name.
    pub device: String,
    /// Its agent.
    pub agent: String,
    /// `on`, `off`, `answers` (it has no state to read), or `unread`.
    pub said: String,
    /// Why it could not be read, and what its agent does not know of its parameters.
    pub why: Option<String>,
}

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApiAnswer {
    /// What was asked for.
    Ok(serde_json::Value),
    /// Why not; nothing was changed.
    Error(String),
    /// A change was proposed, and what became of it was not seen: it may have happened, or may
    /// still happen.
    Unknown(String),
}

/// An event as people and programs read it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventLine {
    /// Wall time at this node, for people only: nothing is decided by it.
    pub time: String,
    /// Token of the log entry, `-` for what only this node saw.
    pub token: String,
    /// Kind of event.
    pub kind: String,
    /// The host it is about.
    pub host: Option<String>,
    /// The guest it is about.
    pub guest: Option<String>,
    /// In words.
    pub text: String,
    /// How the daemon ended, on the last line before it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Departure>,
}

impl EventLine {
    /// The line as the last one of a daemon that ends in this way.
    #[must_use]
    pub fn ending(self, how: Departure) -> EventLine {
        EventLine {
            ended: Some(how),
            ..self
        }
    }

    /// The event with the wall time of now.
    #[must_use]
    pub fn now(event: &Event) -> EventLine {
        let kind = serde_json::to_value(event.kind).ok();
        let token = if event.token == quorate_membership::Token::NONE {
            "-".to_owned()
        } else {
            event.token.to_string()
        };
        EventLine {
            time: wall_time(SystemTime::now()),
            token,
            kind: kind
                .and_then(|k| k.as_str().map(str::to_owned))
                .unwrap_or_default(),
            host: event.host.clone(),
            guest: event.guest.clone(),
            text: event.text.clone(),
            ended: None,
        }
    }
}

/// UTC to the millisecond, as ISO 8601.
pub(crate) fn wall_time(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Civil date from days since 1970 (Howard Hinnant, "chrono-compatible date algorithms").
    let z = days as i64 + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (
        doy - (153 * mp + 2) / 5 + 1,
        if mp < 10 { mp + 3 } else { mp - 9 },
    );
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    )
}

/// Why a daemon gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Nobody listens there.
    #[error("{socket}: no daemon answers: {source} (is `quorate daemon` running?)")]
    Connect {
        /// The socket.
        socket: String,
        /// Why.
        source: std::io::Error,
    },
    /// It hung up or answered nonsense.
    #[error("{socket}: {why}")]
    Broken {
        /// The socket.
        socket: String,
        /// What happened.
        why: String,
    },
    /// It refused; nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// What became of a change is not known: it may have happened, or may still happen.
    #[error("{0}")]
    Unknown(String),
}

/// Asks the daemon behind `socket`, and gives its answer. `patience`: how long to wait for it.
///
/// # Errors
/// Nobody listens, the daemon hung up, or it refused.
pub fn ask(
    socket: &Path,
    request: &ApiRequest,
    patience: Duration,
) -> Result<serde_json::Value, ApiError> {
    let mut lines = open(socket, request, Some(patience))?;
    let broken = |why: String| ApiError::Broken {
        socket: socket.display().to_string(),
        why,
    };
    let mut line = String::new();
    let read = lines
        .read_line(&mut line)
        .map_err(|e| broken(e.to_string()))?;
    if read == 0 {
        return Err(broken("the daemon hung up without an answer".into()));
    }
    match serde_json::from_str(&line) {
        Ok(ApiAnswer::Ok(value)) => Ok(value),
        Ok(ApiAnswer::Error(why)) => Err(ApiError::Refused(why)),
        Ok(ApiAnswer::Unknown(why)) => Err(ApiError::Unknown(why)),
        Err(e) => Err(broken(format!("the answer is not understood: {e}"))),
    }
}

/// Sends a request and gives the stream of answers.
///
/// # Errors
/// Nobody listens.
pub fn open(
    socket: &Path,
    request: &ApiRequest,
    patience: Option<Duration>,
) -> Result<BufReader<UnixStream>, ApiError> {
    let connect = |source| ApiError::Connect {
        socket: socket.display().to_string(),
        source,
    };
    let mut stream = UnixStream::connect(socket).map_err(connect)?;
    stream.set_read_timeout(patience).map_err(connect)?;
    let mut text = serde_json::to_string(request).unwrap_or_default();
    text.push('\n');
    stream.write_all(text.as_bytes()).map_err(connect)?;
    Ok(BufReader::new(stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_is_written_as_iso_8601() {
        let at = UNIX_EPOCH + Duration::from_millis(951_782_400_123);
        assert_eq!(wall_time(at), "2000-02-29T00:00:00.123Z");
        assert_eq!(wall_time(UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    }
}
