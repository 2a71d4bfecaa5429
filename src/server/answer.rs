//! One request of HTTP and its answer: what the service makes of it, or 500.
//!
//! A future of our own and no `async fn`: a request has some 250 bytes and a response has 150, and a chain of such functions moves each of them as often as it has links.
#![forbid(unsafe_code)]

use std::convert::Infallible;
use std::error::Error as StdError;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::calls::{Ended, caught};
use super::packet::Peer;
use super::watched::{Open, Seen};
use super::worker::{Busy, Worker};

/// What services and bodies may fail with, as hyper takes it.
pub(super) type BoxError = Box<dyn StdError + Send + Sync>;

/// What stands between a connection and its service.
pub(super) struct Front<S> {
    pub(super) worker: Worker,
    pub(super) service: S,
    /// Whom each request is from.
    pub(super) peer: Peer,
    pub(super) seen: Rc<Seen>,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Front<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>> + Clone,
{
    type Response = Response<Reply<B>>;
    type Error = Infallible;
    type Future = Answer<S>;

    fn call(&self, mut request: Request<Incoming>) -> Answer<S> {
        self.worker.count_request();
        let http1 = request.version() < Version::HTTP_2;
        request.extensions_mut().insert(self.peer.clone());
        Answer {
            worker: self.worker.clone(),
            busy: Some(self.worker.busy()),
            open: Some(self.seen.begin(http1 && !request.body().is_end_stream())),
            http1,
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            // At once: as long as a request is there, what was read lies in its buffer, and hyper needs another one to go on reading.
            call: caught(|| Call::begin(self.service.clone(), request)).unwrap_or_else(Call::failed),
        }
    }
}

pin_project! {
    /// The answer to one request.
    pub(super) struct Answer<S>
    where
        S: Service<Request<Incoming>>,
    {
        worker: Worker,
        // Until the service has answered.
        busy: Option<Busy>,
        // Until the response has been written; it goes with it.
        open: Option<Open>,
        http1: bool,
        // To say what failed; no clone of the URI, which would keep the buffer.
        method: Method,
        path: String,
        #[pin]
        call: Call<S>,
    }
}

impl<S, B> Future for Answer<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>>,
{
    type Output = Result<Response<Reply<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        // The service is not asked again after a panic; what it was in the middle of is dropped with this.
        let ended = match caught(|| this.call.poll(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(ended)) => ended,
            Err(why) => Err(why),
        };
        *this.busy = None;
        let open = this.open.take();
        open.iter().for_each(Open::answered);
        let mut response = match ended {
            Ok(response) => response.map(|body| Reply { body: Some(body), open }),
            Err(why) => {
                this.worker.complain(format_args!("{} {}: {why}", this.method, this.path));
                let mut response = Response::new(Reply { body: None, open });
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                response
            }
        };
        if *this.http1 && this.worker.is_exiting() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(response))
    }
}

pin_project! {
    /// A call of a service.
    #[project = CallProjection]
    enum Call<S>
    where
        S: Service<Request<Incoming>>,
    {
        // Until the service has room for it.
        Waits { service: S, request: Option<Box<Request<Incoming>>> },
        Runs { #[pin] future: S::Future },
        Failed { why: String },
    }
}

impl<S: Service<Request<Incoming>, Error: Into<BoxError>>> Call<S> {
    fn begin(mut service: S, request: Request<Incoming>) -> Call<S> {
        // Nobody waits yet: whoever polls this asks again.
        match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Call::Runs { future: service.call(request) },
            Poll::Ready(Err(error)) => Call::failed(error.into().to_string()),
            Poll::Pending => Call::Waits { service, request: Some(Box::new(request)) },
        }
    }

    fn failed(why: String) -> Call<S> {
        Call::Failed { why }
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended<S::Response>> {
        let in_words = |error: S::Error| error.into().to_string();
        loop {
            let future = match self.as_mut().project() {
                CallProjection::Runs { future } => return future.poll(cx).map_err(in_words),
                CallProjection::Failed { why } => return Poll::Ready(Err(std::mem::take(why))),
                CallProjection::Waits { service, request } => {
                    ready!(service.poll_ready(cx)).map_err(in_words)?;
                    // It is taken once, for the next state follows at once.
                    let Some(request) = request.take() else { return Poll::Pending };
                    service.call(*request)
                }
            };
            self.set(Call::Runs { future });
        }
    }
}

pin_project! {
    /// A response's body, none where the service failed. As long as it lives, its request is open.
    pub(super) struct Reply<B> {
        #[pin]
        body: Option<B>,
        open: Option<Open>,
    }
}

impl<B> Reply<B> {
    pub(super) fn new(body: B, open: Open) -> Reply<B> {
        Reply { body: Some(body), open: Some(open) }
    }
}

impl<B: Body> Body for Reply<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().body.as_pin_mut().map_or(Poll::Ready(None), |body| body.poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
