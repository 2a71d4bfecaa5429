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
use super::watched::{Activity, Watched};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::Cell;
use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

const HEAD_TIME: Duration = Duration::from_secs(10);
const WRITE_TIME: Duration = Duration::from_secs(10);
/// A connection on which nothing was ever read may still have its first request on the way when the shutdown begins;
/// browsers also open connections that they never use, and those must not delay it.
const SILENT_TIME: Duration = Duration::from_millis(100);
/// The most of one request's head, or of responses not yet taken, that is kept.
const BUFFER: usize = 64 * 1024;

/// What all connections of one worker share.
pub(super) struct Desk {
    /// The worker's place.
    pub(super) id: usize,
    /// The shared numbers.
    pub(super) board: Board,
    /// For the manager's log.
    pub(super) events: Events,
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
        desk.board.connections(desk.id, 1);
        Self(desk)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.board.connections(self.0.id, -1);
    }
}

/// Serves one connection to its end. When `leaving` turns true: answers what is under way, then closes.
pub(super) async fn serve(stream: TcpStream, desk: Rc<Desk>, leaving: watch::Receiver<bool>) {
    let _open = Open::new(desk.clone());
    // Without it a small response can wait for the acknowledgement of the one before. Not worth a refusal if it fails.
    let _ = stream.set_nodelay(true);
    // Whoever is gone already has no address any more, and gets no answer either.
    let client = stream.peer_addr().map_or_else(|_| "(gone)".to_owned(), |peer| peer.ip().to_canonical().to_string());
    let activity = Rc::new(Cell::new(Activity::default()));
    let io = TokioIo::new(Watched::new(stream, activity.clone(), WRITE_TIME));
    let service = service_fn(|request| {
        let response = http::answer(&request, &desk.board, desk.id, &client, *leaving.borrow());
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(BUFFER)
        .serve_connection(io, service);
    let mut connection = pin!(connection);

    let mut stopping = leaving.clone();
    tokio::select! {
        biased;
        end = connection.as_mut() => return count_refusal(&desk, &client, &end),
        // An error means that the worker's main future is gone, which is as good a reason to leave.
        _ = stopping.wait_for(|leaving| *leaving) => {}
    }
    let end = match activity.get() {
        // hyper takes a kept-alive connection for idle until a request's head is complete, and would close it in the
        // middle of one; the response's `Connection: close` ends it in good order instead.
        Activity::Asked => connection.await,
        Activity::Answered => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        Activity::Silent => match timeout(SILENT_TIME, connection.as_mut()).await {
            Ok(end) => end,
            Err(_) if activity.get() == Activity::Silent => return,
            Err(_) => connection.await,
        },
    };
    count_refusal(&desk, &client, &end);
}

/// A message that is not HTTP never reaches [`http::answer`]; hyper answers it with a 4xx and ends the connection.
fn count_refusal(desk: &Desk, client: &str, end: &hyper::Result<()>) {
    if end.as_ref().is_err_and(hyper::Error::is_parse) {
        desk.board.nonsense(desk.id, client);
    }
}
