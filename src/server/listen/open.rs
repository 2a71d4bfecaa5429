//! Opening sockets.
#![forbid(unsafe_code)]

use super::address::{Address, Host};
use super::unix::{self, SocketFile};
use crate::server::config::Config;
use crate::sys::socket::{TcpOption, set_tcp_option};
use crate::{Error, Result};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Connections that wait in the kernel when nothing is set, at most.
const BACKLOG: u32 = 4096;

/// How to open sockets; of a [`Config`].
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    backlog: i32,
    unix_mode: Option<u32>,
    defer_accept: Duration,
    fastopen: u32,
}

impl Opening {
    /// # Errors
    /// [`Error::BadSetting`] when it is more than the kernel would give: it would cut it without a word.
    pub(crate) fn of(config: &Config) -> Result<Self> {
        let most = kernel_limit("somaxconn");
        let backlog = config.backlog.unwrap_or(u32::try_from(most).map_or(BACKLOG, |most| BACKLOG.min(most)));
        for (key, value, least, limit) in [
            ("backlog", backlog.into(), "1", "somaxconn"),
            ("tcp_fastopen", config.tcp_fastopen.into(), "0", "somaxconn"),
            ("kernel_receive_buffer", config.kernel_receive_buffer, "0 or 4K", "rmem_max"),
            ("kernel_send_buffer", config.kernel_send_buffer, "0 or 4K", "wmem_max"),
        ] {
            let most = kernel_limit(limit);
            if value > most {
                let allowed = format!("{least}..={most}, which is net.core.{limit}");
                return Err(Error::BadSetting { key: key.into(), value: value.to_string(), allowed });
            }
        }
        Ok(Self {
            backlog: backlog.cast_signed(),
            unix_mode: config.unix_mode,
            defer_accept: config.tcp_defer_accept,
            fastopen: config.tcp_fastopen,
        })
    }
}

/// What the kernel cuts such a number to; where it does not say, nothing is too much.
fn kernel_limit(name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/sys/net/core/{name}")).unwrap_or_default();
    text.trim().parse().unwrap_or(u64::MAX)
}

/// A socket that listens, or receives datagrams: never blocks, and is closed by `exec`.
#[derive(Debug)]
pub(crate) struct Listener {
    /// Where, with the real port.
    pub(crate) address: Address,
    pub(crate) socket: Socket,
    /// Its file, which goes with the last handle of the process that made it.
    pub(super) file: Option<SocketFile>,
    /// The process that closes it for all; 0: it is somebody else's.
    owner: u32,
}

impl Listener {
    /// A socket that somebody else has opened, and whose file is somebody else's.
    pub(super) fn of(address: Address, socket: Socket) -> Self {
        Self { address, socket, file: None, owner: 0 }
    }

    /// Whether connections come from it; else datagrams.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.address, Address::Tcp(..) | Address::Unix(..))
    }

    /// Ends it for all who hold it, if it is the calling process's: what a handler has forked may hold it too, and would keep the next server from its port.
    pub(crate) fn close(&self) {
        if self.owner == std::process::id() && self.is_stream() {
            // An error: there is nothing to end.
            let _ = self.socket.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Makes the calling process the one that closes it, and removes its file.
    pub(crate) fn adopt(&mut self) {
        if self.owner != 0 {
            self.owner = std::process::id();
        }
        if let Some(file) = &mut self.file {
            file.adopt();
        }
    }

    /// Of a TCP or UDP socket.
    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()?.as_socket()
    }
}

/// Opens one socket at `address`.
///
/// # Errors
/// [`Error::Listen`]: it is taken, or not this machine's, or not allowed; a host has no address.
pub(crate) fn open(address: &Address, how: &Opening) -> Result<Listener> {
    one(address, how, false).map_err(|source| refused(address, source))
}

/// Opens `n` sockets at one `address`, between which the kernel divides what arrives.
///
/// # Errors
/// As [`open`]; also when the port is another server's that would share it with us.
pub(crate) fn open_each(address: &Address, how: &Opening, n: usize) -> Result<Vec<Listener>> {
    let open_all = || {
        // One that asks for sharing is let in beside any other server of the same user that does too. One that does not ask is refused, so it goes first.
        drop(one(address, how, false)?);
        let mut real = address.clone();
        let mut all = Vec::with_capacity(n);
        for _ in 0..n {
            let listener = one(&real, how, true)?;
            // The first one has the kernel choose the port, the others take it.
            real = listener.address.clone();
            all.push(listener);
        }
        Ok(all)
    };
    open_all().map_err(|source| refused(address, source))
}

fn refused(address: &Address, source: io::Error) -> Error {
    Error::Listen { address: address.to_string(), source }
}

fn one(address: &Address, how: &Opening, shared: bool) -> io::Result<Listener> {
    let (socket, file, address) = match address {
        Address::Tcp(host, port) => {
            let socket = bound(host.resolve(*port)?, Type::STREAM, shared)?;
            if !how.defer_accept.is_zero() {
                let seconds = u32::try_from(how.defer_accept.as_secs()).unwrap_or(u32::MAX);
                set_tcp_option(&socket, TcpOption::DeferAccept, seconds)?;
            }
            if how.fastopen > 0 {
                set_tcp_option(&socket, TcpOption::FastOpen, how.fastopen)?;
            }
            let (host, port) = real(&socket, host)?;
            (socket, None, Address::Tcp(host, port))
        }
        Address::Udp(host, port) => {
            let socket = bound(host.resolve(*port)?, Type::DGRAM, shared)?;
            let (host, port) = real(&socket, host)?;
            (socket, None, Address::Udp(host, port))
        }
        Address::Unix(path) => {
            let (socket, file) = unix::bind(path, Type::STREAM, how.unix_mode, how.backlog)?;
            (socket, Some(file), address.clone())
        }
        Address::UnixDatagram(path) => {
            let (socket, file) = unix::bind(path, Type::DGRAM, how.unix_mode, how.backlog)?;
            (socket, Some(file), address.clone())
        }
        Address::Passed(_) => {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the service manager passed no socket of this name"));
        }
    };
    let listener = Listener { address, socket, file, owner: std::process::id() };
    if matches!(listener.address, Address::Tcp(..)) {
        listener.socket.listen(how.backlog)?;
    }
    Ok(listener)
}

fn bound(address: SocketAddr, kind: Type, shared: bool) -> io::Result<Socket> {
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    // Several processes wait at it: who comes second must find nothing rather than wait.
    socket.set_nonblocking(true)?;
    if kind == Type::STREAM {
        // Lets a restart take the port while old connections are in TIME_WAIT; one that is listened on stays busy. For UDP it would let anybody in.
        socket.set_reuse_address(true)?;
    }
    if address.is_ipv6() {
        // [::] and 0.0.0.0 are two addresses, whatever the machine is set to.
        socket.set_only_v6(true)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// The host as it was asked for, and the port as it is.
fn real(socket: &Socket, host: &Host) -> io::Result<(Host, u16)> {
    let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
    Ok((host.clone(), address.port()))
}

/// What is set on each connection that was accepted; on the listening socket it would be for later ones, and for all who share it.
#[derive(Clone, Debug)]
pub(crate) struct Tuning {
    nodelay: bool,
    keepalive: Option<TcpKeepalive>,
    user_timeout: Duration,
    receive: usize,
    send: usize,
}

impl Tuning {
    pub(crate) fn of(config: &Config) -> Self {
        let keepalive = config.tcp_keepalive.then(|| {
            let mut all = TcpKeepalive::new();
            if let Some(idle) = config.tcp_keepalive_idle {
                all = all.with_time(idle);
            }
            if let Some(interval) = config.tcp_keepalive_interval {
                all = all.with_interval(interval);
            }
            if let Some(count) = config.tcp_keepalive_count {
                all = all.with_retries(count);
            }
            all
        });
        Self {
            nodelay: config.tcp_nodelay,
            keepalive,
            user_timeout: config.tcp_user_timeout,
            receive: config.kernel_receive_buffer as usize,
            send: config.kernel_send_buffer as usize,
        }
    }

    /// # Errors
    /// What the kernel says; the connection goes on as it is, so this is something to log.
    pub(crate) fn apply(&self, connection: &impl std::os::fd::AsFd, tcp: bool) -> io::Result<()> {
        let connection = SockRef::from(connection);
        if self.receive > 0 {
            connection.set_recv_buffer_size(self.receive)?;
        }
        if self.send > 0 {
            connection.set_send_buffer_size(self.send)?;
        }
        if !tcp {
            return Ok(());
        }
        if self.nodelay {
            connection.set_tcp_nodelay(true)?;
        }
        if let Some(keepalive) = &self.keepalive {
            connection.set_tcp_keepalive(keepalive)?;
        }
        if !self.user_timeout.is_zero() {
            connection.set_tcp_user_timeout(Some(self.user_timeout))?;
        }
        Ok(())
    }
}
