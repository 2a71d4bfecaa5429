//! A socket that knows whether a request is under way, gives up on a peer that does not read, and closes so that the peer hears it.
#![forbid(unsafe_code)]

use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// What a connection of HTTP/2 begins with (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Slices that are no longer together are copied and sent in one piece: to the kernel a list of them is the dearer way.
const SMALL: usize = 4096;

thread_local! {
    /// Where they are put together: empty between two writes, so that one is enough for all connections.
    static WHOLE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What has been seen on a connection.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Bytes were read since the last write: a request, or a part of one, is under way.
    asked: Cell<bool>,
    /// The next read that finds nothing is to ask the kernel itself.
    look: Cell<bool>,
    /// It did, and there was nothing.
    nothing: Cell<bool>,
    /// A request is being answered that has a body, which may not have come yet.
    body: Cell<bool>,
    /// Requests of which the response has not been handed over whole.
    open: Cell<usize>,
    /// Since when the head of the next one is waited for.
    waiting: Cell<Option<Instant>>,
    /// The first three bytes, once something was read: what a connection of HTTP/2 begins with, and no request of HTTP/1 that anybody sends.
    first: Cell<Option<[u8; 3]>>,
}

impl Seen {
    /// A request's head is complete; it is open until what is returned is dropped. With `body`, what is read until it is answered is its body.
    pub(super) fn begin(self: &Rc<Self>, body: bool) -> Open {
        self.open.set(self.open.get() + 1);
        self.waiting.set(None);
        self.body.set(body);
        Open(self.clone())
    }

    /// Has the next read look closely.
    pub(super) fn look(&self) {
        self.look.set(true);
        self.nothing.set(false);
    }

    /// Whether the client speaks HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.first.get() == Some(*b"PRI")
    }

    /// Whether that read found that nothing is under way and nothing has arrived.
    pub(super) fn is_idle(&self) -> bool {
        self.nothing.get() && !self.asked.get()
    }
}

/// A request whose response has not been handed over whole.
pub(super) struct Open(Rc<Seen>);

impl Open {
    /// The service has answered, and waits for no body any more.
    pub(super) fn answered(&self) {
        self.0.body.set(false);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}

/// A stream that tells what it has seen, and fails a write in which the peer takes nothing for `patience`.
///
/// Closing it waits up to `linger` for the peer to close too: if we were gone while something of the peer's had not been read, the kernel
/// would reset the connection, and the peer might never see the last response.
pub(super) struct Watched<S> {
    stream: S,
    seen: Rc<Seen>,
    patience: Duration,
    linger: Duration,
    heads: Option<Heads>,
    /// Since when the client has said nothing in the middle of a request's body.
    starved: Option<Pin<Box<Sleep>>>,
    stalled: Option<Pin<Box<Sleep>>>,
    lingering: Option<Pin<Box<Sleep>>>,
}

/// How long a head may take: from when we began to wait for it until it is complete. As long as it is not known which HTTP the client speaks, the preface of HTTP/2 counts
/// as one; after it there are no heads on which this side waits.
///
/// There is one timer for all heads of a connection. Who waits for a head only notes the time; where the timer ends for an earlier head, it is set anew.
struct Heads {
    within: Duration,
    /// Bytes of the preface that have arrived; None once there were others.
    preface: Option<usize>,
    timer: Pin<Box<Sleep>>,
    /// When the timer wakes the connection's task, once it does.
    wakes: Option<Instant>,
}

impl Heads {
    /// Whether there are none any more.
    fn are_over(&mut self, read: &[u8]) -> bool {
        let Some(matched) = self.preface else { return false };
        let rest = &PREFACE[matched..];
        let so_far = matched + read.len().min(rest.len());
        let same = if read.len() < rest.len() { rest.starts_with(read) } else { read.starts_with(rest) };
        self.preface = same.then_some(so_far);
        self.preface == Some(PREFACE.len())
    }

    /// Nothing more has arrived of the head that is waited for: whether its time is over.
    fn poll_over(&mut self, seen: &Seen, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        let begun = seen.waiting.get().unwrap_or(now);
        seen.waiting.set(Some(begun));
        // What the timer wakes is the task that is calling, now as before.
        if self.wakes.is_some_and(|then| now < then) {
            return Poll::Pending;
        }
        let end = begun + self.within;
        loop {
            self.wakes = Some(self.timer.deadline());
            ready!(self.timer.as_mut().poll(cx));
            if self.timer.deadline() >= end {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(end);
        }
    }
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, seen: Rc<Seen>, patience: Duration, linger: Duration) -> Self {
        Self { stream, seen, patience, linger, heads: None, starved: None, stalled: None, lingering: None }
    }

    /// Fails a read when a head is not complete after `time`, or the client says nothing for so long in the middle of a body. Each request is to be told to [`Seen::begin`].
    pub(super) fn heads_within(mut self, time: Duration) -> Self {
        self.heads = Some(Heads { within: time, preface: Some(0), timer: Box::pin(sleep(time)), wakes: None });
        self
    }

    /// Looks at a write's outcome: progress stops the clock, waiting starts it.
    fn after_write(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if outcome.is_ready() {
            self.stalled = None;
            self.seen.asked.set(false);
            return outcome;
        }
        let patience = self.patience;
        let clock = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(clock.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + AsFd + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, into);
        if let Some(read) = into.filled().get(before..).filter(|read| !read.is_empty()) {
            self.seen.asked.set(true);
            self.starved = None;
            if self.seen.first.get().is_none() {
                // Fewer than three bytes at once are no client's preface.
                self.seen.first.set(Some(read.first_chunk().copied().unwrap_or_default()));
            }
            if self.heads.as_mut().is_some_and(|heads| heads.are_over(read)) {
                self.heads = None;
            }
        } else if outcome.is_pending() && self.seen.look.take() {
            // The runtime may not have heard yet of what has arrived since it last asked.
            let nothing = recv(&self.stream, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT) == Err(Errno::AGAIN);
            self.seen.nothing.set(nothing);
        }
        let this = &mut *self;
        if outcome.is_pending()
            && let Some(heads) = &mut this.heads
        {
            if this.seen.open.get() == 0 {
                ready!(heads.poll_over(&this.seen, cx));
            } else if this.seen.body.get() {
                // Nobody above counts this time either. Who answers without waiting for the body does not read.
                let clock = this.starved.get_or_insert_with(|| Box::pin(sleep(heads.within)));
                ready!(clock.as_mut().poll(cx));
            } else {
                return outcome;
            }
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        outcome
    }
}

impl<S: AsyncRead + AsyncWrite + AsFd + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.after_write(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        let outcome = if slices.iter().map(|slice| slice.len()).sum::<usize>() <= SMALL {
            WHOLE.with_borrow_mut(|whole| {
                whole.clear();
                slices.iter().for_each(|slice| whole.extend_from_slice(slice));
                stream.poll_write(cx, whole)
            })
        } else {
            stream.poll_write_vectored(cx, slices)
        };
        self.after_write(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        let this = &mut *self;
        // After a response hyper does not read again if it did so in vain while the service was at work.
        if this.seen.open.get() == 0
            && this.seen.waiting.get().is_none()
            && let Some(heads) = &mut this.heads
        {
            // What has just begun is not over; the next read, for which the timer sees to it, says when it is.
            let _ = heads.poll_over(&this.seen, cx);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            // Nothing has arrived that could be left unread.
            let linger = if self.seen.is_idle() { Duration::ZERO } else { self.linger };
            self.lingering = Some(Box::pin(sleep(linger)));
        }
        let this = &mut *self;
        while let Some(clock) = this.lingering.as_mut()
            && clock.as_mut().poll(cx).is_pending()
        {
            let mut bytes = [0; 4096];
            let mut into = ReadBuf::new(&mut bytes);
            if ready!(Pin::new(&mut this.stream).poll_read(cx, &mut into)).is_err() || into.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use tokio::io::AsyncReadExt;

    /// No clock here comes to its end: what is looked at is whether it runs.
    const LONG: Duration = Duration::from_secs(3600);

    type Ours = Watched<tokio::net::UnixStream>;

    /// Within a runtime, a watched end of a connection and the other end.
    fn with(test: impl AsyncFnOnce(Ours, Rc<Seen>, UnixStream)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (ours, theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            let (stream, seen) = (tokio::net::UnixStream::from_std(ours).unwrap(), Rc::new(Seen::default()));
            test(Watched::new(stream, seen.clone(), LONG, LONG).heads_within(LONG), seen, theirs).await;
        });
    }

    async fn waits_for_bytes(ours: &mut Ours) -> bool {
        poll_fn(|cx| {
            let mut bytes = [0; 8];
            Poll::Ready(Pin::new(&mut *ours).poll_read(cx, &mut ReadBuf::new(&mut bytes)).is_pending())
        })
        .await
    }

    #[test]
    fn a_write_that_goes_on_stops_the_clock_of_one_that_does_not() {
        with(async |mut ours, _, mut theirs| {
            ours.stream.writable().await.unwrap();
            let mut bytes = vec![0; 1 << 16];
            for _ in 0..1000 {
                let written = poll_fn(|cx| Poll::Ready(Pin::new(&mut ours).poll_write(cx, &bytes))).await;
                if written.is_pending() {
                    break;
                }
            }
            assert!(ours.stalled.is_some(), "the peer takes nothing");
            theirs.set_nonblocking(true).unwrap();
            while theirs.read(&mut bytes).is_ok_and(|n| n > 0) {}
            poll_fn(|cx| Pin::new(&mut ours).poll_write(cx, b"x")).await.unwrap();
            assert!(ours.stalled.is_none(), "slow is not deaf");
        });
    }

    #[test]
    fn a_body_is_waited_for_while_it_comes_and_until_it_is_answered() {
        with(async |mut ours, seen, mut theirs| {
            let open = seen.begin(true);
            assert!(waits_for_bytes(&mut ours).await && ours.starved.is_some());
            theirs.write_all(b"some").unwrap();
            ours.read_exact(&mut [0; 4]).await.unwrap();
            assert!(ours.starved.is_none(), "slow is not silent");
            open.answered();
            assert!(waits_for_bytes(&mut ours).await && ours.starved.is_none(), "there is nothing more to come");
        });
    }
}
