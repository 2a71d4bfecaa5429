//! Datagrams: who sent them, and answering.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;

use tokio::net::{UdpSocket, UnixDatagram};

use super::handler::Bytes;
use crate::{Error, Result};

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
    /// Sends a datagram back to who sent this one.
    ///
    /// # Errors
    /// [`Error::NoAddress`] when the sender has none; [`Error::System`].
    pub async fn reply(&self, data: impl AsRef<[u8]>) -> Result<()> {
        let data = data.as_ref();
        let sent = match (&*self.socket, &self.from) {
            (Datagrams::Udp(socket), Peer::Inet(to)) => socket.send_to(data, to).await,
            (Datagrams::Unix(socket), Peer::Unix(Some(to))) => socket.send_to(data, to).await,
            _ => return Err(Error::NoAddress),
        };
        sent.map(drop).map_err(Error::system("sendto"))
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
