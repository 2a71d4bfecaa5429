//! Options of a socket that neither rustix nor socket2 sets.
#![allow(unsafe_code)]

use rustix::fd::{AsFd, AsRawFd};
use std::io;
use std::mem::size_of;

/// An option of a listening TCP socket, whose value is a number.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TcpOption {
    /// Seconds for which a connection without data is not shown to who accepts.
    DeferAccept,
    /// Connections that may wait with data in their first packet.
    FastOpen,
}

/// Sets it.
pub(crate) fn set_tcp_option(socket: &impl AsFd, option: TcpOption, value: u32) -> io::Result<()> {
    let name = match option {
        TcpOption::DeferAccept => libc::TCP_DEFER_ACCEPT,
        TcpOption::FastOpen => libc::TCP_FASTOPEN,
    };
    let value: libc::c_int = value.try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the descriptor is open as long as it is borrowed; the value is a c_int, as both options want it, and outlives the call.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
