//! Requests on their way to the loop, and whoever waits for what came of them.

use crate::api::ApiAnswer;
use quorate_recovery::contract::{Reply, Request};
use serde_json::json;
use tokio::sync::oneshot;

/// A request of this very process.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) request: Request,
    /// Told what came of it; nobody waits for an answer to a signal.
    pub(crate) reply: Option<oneshot::Sender<Reply>>,
}

/// Caller that waits for a reply. One that is dropped was not seen: the request may have been proposed.
#[derive(Debug)]
pub(super) enum Asker {
    /// A client of the API.
    Api(oneshot::Sender<ApiAnswer>),
    /// Caller in this very process.
    Own(oneshot::Sender<Reply>),
}

impl Asker {
    /// Whoever does not listen any more is no concern of ours.
    pub(super) fn tell(self, reply: Reply) {
        match self {
            Asker::Own(asker) => drop(asker.send(reply)),
            Asker::Api(asker) => {
                let text = reply.to_string();
                let answer = match reply {
                    Reply::Done { .. } => ApiAnswer::Ok(json!(text)),
                    Reply::Refused(_) | Reply::NotProposed(_) => ApiAnswer::Error(text),
                    Reply::Unknown => ApiAnswer::Unknown(text),
                };
                drop(asker.send(answer));
            }
        }
    }
}
