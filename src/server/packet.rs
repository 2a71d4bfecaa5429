//! Datagrams: who sent them, and answering.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use socket2::{SockAddr, SockRef};
use tokio::net::{UdpSocket, UnixDatagram};
use tokio::time::{sleep, timeout};

use super::handler::Bytes;
use crate::{Error, Result};

/// How long an answer waits for room: a client of this machine that does not read would else keep the call for ever.
const PATIENCE: Duration = Duration::from_secs(1);

/// Between two tries to find room with such a client; first and later.
const AGAIN: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(64));

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peer {
    /// An address and a port.
    Inet(SocketAddr),
    /// A process of this machine, with the name of its socket if that has one.
    Unix(Option<PathBuf>),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Inet(address) => write!(f, "{address}"),
            Peer::Unix(Some(path)) => write!(f, "unix:{}", path.display()),
            Peer::Unix(None) => f.write_str("unix"),
        }
    }
}

/// A socket on which datagrams arrive.
pub(super) enum Datagrams {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

/// A datagram that arrived.
#[derive(Clone)]
pub struct Packet {
    /// Its bytes.
    pub data: Bytes,
    /// Who sent it.
    pub from: Peer,
    pub(super) socket: Rc<Datagrams>,
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packet").field("from", &self.from).field("bytes", &self.data.len()).finish()
    }
}

impl Packet {
    /// Sends a datagram back to who sent this one, waiting up to a second for room. Of a Unix socket the kernel keeps what a client has not read yet in the
    /// buffer of who sent it: one that reads none of its answers can keep those of others waiting.
    ///
    /// # Errors
    /// [`Error::NoAddress`] when the sender has none; [`Error::Timeout`]; [`Error::System`].
    pub async fn reply(&self, data: impl AsRef<[u8]>) -> Result<()> {
        let data = data.as_ref();
        let sent = async {
            let sent = match (&*self.socket, &self.from) {
                (Datagrams::Udp(socket), Peer::Inet(to)) => socket.send_to(data, to).await,
                (Datagrams::Unix(socket), Peer::Unix(Some(to))) => send_unix(socket, data, to).await,
                _ => return Err(Error::NoAddress),
            };
            sent.map(drop).map_err(Error::system("sendto"))
        };
        timeout(PATIENCE, sent).await.unwrap_or(Err(Error::Timeout { after: PATIENCE }))
    }
}

/// Whether there is room depends on who is to get it, and no readiness of our own socket tells: that of tokio would keep back the answers to all others once
/// one client does not read. So it is tried, later each time.
async fn send_unix(socket: &UnixDatagram, data: &[u8], to: &Path) -> io::Result<usize> {
    let (address, mut wait) = (SockAddr::unix(to)?, AGAIN.0);
    loop {
        match SockRef::from(socket).send_to(data, &address) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(wait).await,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            sent => return sent,
        }
        wait = (wait * 2).min(AGAIN.1);
    }
}

impl Datagrams {
    /// The next datagram, into `buffer`.
    pub(super) async fn next(&self, buffer: &mut [u8]) -> std::io::Result<(usize, Peer)> {
        match self {
            Datagrams::Udp(socket) => socket.recv_from(buffer).await.map(|(len, from)| (len, Peer::Inet(from))),
            Datagrams::Unix(socket) => {
                let (len, from) = socket.recv_from(buffer).await?;
                Ok((len, Peer::Unix(from.as_pathname().map(PathBuf::from))))
            }
        }
    }
}
