//! One connection, from accept to close.
//!
//! Three clocks bound what a client can make us hold: a request's head must be complete [`HEAD_TIME`] after we began to
//! wait for it (which also bounds how long an idle keep-alive connection lives); a response of which the client takes
//! nothing for [`WRITE_TIME`] is given up; request bodies are not waited for, since nothing here reads one.
#![forbid(unsafe_code)]

use super::board::Board;
use super::events::Events;
use super::http;
use super::options::EventKind;
use crate::server::answer::Reply;
use crate::server::http::{BUFFER, HEAD_TIME, WRITE_TIME};
use crate::server::parting::part;
use crate::server::watched::{Seen, Watched};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::ready;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;

/// What all connections of one worker share.
pub(super) struct Desk {
    /// The worker's place.
    pub(super) id: usize,
    /// Its own line of the board.
    pub(super) slot: usize,
    /// The shared numbers.
    pub(super) board: Board,
    /// For the manager's log.
    pub(super) events: Events,
    /// How long a connection without a request under way stays open when the worker leaves.
    pub(super) linger: Duration,
}

impl Desk {
    /// Tells the manager's log what happens to this worker.
    pub(super) fn tell(&self, kind: EventKind) {
        self.events.tell(self.id, std::process::id(), kind);
    }
}

/// Counts a connection for as long as it lives, however it ends.
struct Open(Rc<Desk>);

impl Open {
    fn new(desk: Rc<Desk>) -> Self {
        desk.board.connections(desk.slot, 1);
        Self(desk)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.board.connections(self.0.slot, -1);
    }
}

/// Serves one connection to its end. When `leaving` turns true: answers what is under way, then closes.
pub(super) async fn serve(stream: TcpStream, desk: Rc<Desk>, leaving: watch::Receiver<bool>) {
    let _open = Open::new(desk.clone());
    // Without it a small response can wait for the acknowledgement of the one before. Not worth a refusal if it fails.
    let _ = stream.set_nodelay(true);
    // Whoever is gone already has no address any more, and gets no answer either.
    let client = stream.peer_addr().map_or_else(|_| "(gone)".to_owned(), |peer| peer.ip().to_canonical().to_string());
    let seen = Rc::new(Seen::default());
    let io = TokioIo::new(Watched::new(stream, seen.clone(), WRITE_TIME, desk.linger).heads_within(HEAD_TIME));
    let service = service_fn(|request: Request<Incoming>| {
        let open = seen.begin(false);
        let response = http::answer(&request, &desk.board, desk.id, &client, *leaving.borrow());
        ready(Ok::<_, Infallible>(response.map(|body| Reply::new(body, open))))
    });
    let connection = http1::Builder::new().header_read_timeout(None).max_buf_size(BUFFER).serve_connection(io, service);
    let mut connection = pin!(connection);

    let mut stopping = leaving.clone();
    tokio::select! {
        biased;
        end = connection.as_mut() => return count_refusal(&desk, &client, &end),
        // An error means that the worker's main future is gone, which is as good a reason to leave.
        _ = stopping.wait_for(|leaving| *leaving) => {}
    }
    let end = part(connection, &seen, desk.linger, |connection| connection.graceful_shutdown()).await;
    count_refusal(&desk, &client, &end);
}

/// A message that is not HTTP never reaches [`http::answer`]; hyper answers it with a 4xx and ends the connection.
fn count_refusal(desk: &Desk, client: &str, end: &hyper::Result<()>) {
    if end.as_ref().is_err_and(hyper::Error::is_parse) {
        desk.board.nonsense(desk.id, client);
    }
}
