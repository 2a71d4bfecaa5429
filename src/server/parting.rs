//! How a connection of HTTP/1.1 ends when its worker leaves, so that no request is lost.
//!
//! Every response says `Connection: close` from then on, and the connection is closed after it. What is left are connections on which nothing is under way. To
//! close one at once might meet a request that is on its way to us, which would be lost; so each has some time in which its client may ask once more, and what
//! is closed then has asked nothing for so long, and nothing has arrived.
#![forbid(unsafe_code)]

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

use super::watched::Seen;

/// How long a connection on which nothing is under way stays open when its worker leaves: a client that uses it often asks once more in that time, and is told
/// `Connection: close`; one that does not will hardly ask just when we close.
const LINGER: Duration = Duration::from_secs(1);

/// How long that is when a worker has `grace` to leave: most of it is for connections that have something under way, and what is closed when nine tenths of it
/// are over has to be gone before its end.
pub(super) fn linger(grace: Duration) -> Duration {
    (grace / 12).min(LINGER)
}

/// Sees `connection` to its end. It is told to `shut` once nothing has been under way on it for `linger`, and nothing has arrived.
pub(super) async fn part<C: Future>(
    mut connection: Pin<&mut C>,
    seen: &Seen,
    linger: Duration,
    shut: impl Fn(Pin<&mut C>),
) -> C::Output {
    loop {
        if let Ok(end) = timeout(linger, connection.as_mut()).await {
            return end;
        }
        let look = poll_fn(|cx| {
            seen.look();
            if let Poll::Ready(end) = connection.as_mut().poll(cx) {
                return Poll::Ready(Some(end));
            }
            // In the same breath, so that between the look and the end there is no turn of the loop. In the middle of a response that is being
            // written this ends the connection after it.
            if seen.is_idle() {
                shut(connection.as_mut());
            }
            Poll::Ready(None)
        });
        if let Some(end) = look.await {
            return end;
        }
    }
}
