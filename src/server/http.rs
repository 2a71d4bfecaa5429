//! HTTP on a connection, by any `tower` service: HTTP/1.1, and HTTP/2 for who begins with its preface.
//!
//! Who leaves loses no request: of HTTP/2 the protocol sees to it, for GOAWAY names the last stream that is answered; of HTTP/1.1 [`part`] does.
#![forbid(unsafe_code)]

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::rt::Executor;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::task::spawn_local;
use tower_service::Service;

use super::answer::{BoxError, Front};
use super::conn::serve::Manners;
use super::conn::stream::Stream;
use super::handler::Bytes;
use super::parting::part;
use super::watched::{Seen, Watched};
use super::worker::Worker;

/// A request's head must be complete so long after we began to wait for it; which also bounds how long an idle connection lives.
pub(super) const HEAD_TIME: Duration = Duration::from_secs(10);
/// A response of which the client takes nothing for so long is given up.
pub(super) const WRITE_TIME: Duration = Duration::from_secs(10);
/// The most of one request's head, or of responses not yet taken, that is kept.
pub(super) const BUFFER: usize = 64 * 1024;

/// Serves one connection to its end.
pub(super) type ServeOne = Rc<dyn Fn(Stream, Worker, Manners) -> Pin<Box<dyn Future<Output = ()>>>>;
/// What a port of HTTP makes in each worker.
pub(super) type MakeService = Rc<dyn Fn(&Worker) -> ServeOne>;

/// Futures of one connection (the streams of HTTP/2), on this thread.
#[derive(Clone)]
struct Here(Worker);

impl<F: Future<Output = ()> + 'static> Executor<F> for Here {
    fn execute(&self, future: F) {
        let under_way = self.0.under_way();
        spawn_local(async move {
            future.await;
            drop(under_way);
        });
    }
}

/// Takes the types off a service.
pub(super) fn erased<M, S, B>(make: M) -> MakeService
where
    M: Fn(&Worker) -> S + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>> + Clone + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + 'static,
{
    Rc::new(move |worker| {
        let service = make(worker);
        Rc::new(move |stream, worker, manners| Box::pin(serve(stream, worker, manners, service.clone())))
    })
}

async fn serve<S, B>(stream: Stream, worker: Worker, manners: Manners, service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>> + Clone + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + 'static,
{
    // Gone before we came to it.
    let Ok(peer) = stream.peer() else { return };
    let seen = Rc::new(Seen::default());
    let head_time = HEAD_TIME.min(manners.idle.unwrap_or(HEAD_TIME));
    let io = TokioIo::new(Watched::new(stream, seen.clone(), WRITE_TIME, manners.linger).heads_within(head_time));
    let front = Front { worker: worker.clone(), service, peer, seen: seen.clone() };
    let mut builder = auto::Builder::new(Here(worker.clone()));
    // The socket counts the time of a head: hyper's own clock makes and drops a timer for each request, and turns its loop twice.
    builder.http1().header_read_timeout(None).max_buf_size(BUFFER);
    // A client that has asked, and says nothing more, is still there to be answered. So nothing is read while it is, but for the request's body.
    builder.http1().half_close(true);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(HEAD_TIME).keep_alive_timeout(WRITE_TIME);
    let mut connection = pin!(builder.serve_connection(io, front));

    let mut leaving = worker.leaving();
    let mut leave = pin!(leaving.wait_for(|leaving| *leaving));
    let mut waits = false;
    let leaves = poll_fn(|cx| {
        // A client that breaks off, or speaks no HTTP, has been answered if it can be; there is nobody to tell.
        if connection.as_mut().poll(cx).is_ready() {
            return Poll::Ready(false);
        }
        // Once it waits, it wakes this task, which is the same for ever; so it is not asked at each request.
        if std::mem::replace(&mut waits, true) && !worker.is_exiting() {
            return Poll::Pending;
        }
        leave.as_mut().poll(cx).map(|_| true)
    });
    if !leaves.await {
        return;
    }
    if seen.is_http2() {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
        return;
    }
    let _ = part(connection, &seen, manners.linger, |connection| connection.graceful_shutdown()).await;
}
