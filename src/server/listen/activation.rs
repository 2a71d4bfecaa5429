//! Sockets that the service manager opened and passes on (systemd's protocol, sd_listen_fds(3)): open before the server is, and across its restarts.
//!
//! `LISTEN_PID` says for whom they are, `LISTEN_FDS` how many there are from descriptor 3 on, `LISTEN_FDNAMES` how they are called. An address of the
//! server's takes a socket that was passed under its name (`systemd://name`), or one that is bound to the same address; what nobody takes is an error, for it
//! would be a port at which clients wait in vain.
#![forbid(unsafe_code)]

use super::address::{Address, Host};
use super::open::Listener;
use crate::sys::inherited;
use crate::{Error, Result};
use socket2::{Domain, Socket, Type};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

const CALL: &str = "taking over the sockets of LISTEN_FDS";
const VARIABLES: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];
/// Descriptors below are standard input, output and error.
const FIRST: i32 = 3;
/// More than anybody passes.
const MOST: i32 = 1024;

/// What was passed and not taken yet.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    sockets: Vec<(String, Listener)>,
}

/// Takes over what was passed to this process, and takes the variables out of the environment; nothing if nothing was passed, or to another process.
///
/// # Errors
/// [`Error::Activation`] says what is wrong with the variables or with one of the descriptors; [`Error::Threads`].
pub(crate) fn passed() -> Result<Passed> {
    let variable = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let [pid, count, names] = VARIABLES.map(variable);
    if pid.is_none() && count.is_none() {
        return Ok(Passed::default());
    }
    let names = announced(pid.as_deref(), count.as_deref(), names.as_deref(), std::process::id())?;
    // Whosever they are, they are not those of the programs that this one starts.
    inherited::forget_variables(CALL, &VARIABLES)?;
    let end = FIRST + i32::try_from(names.len()).unwrap_or(0);
    let mut sockets = Vec::new();
    for ((fd, name), number) in inherited::descriptors(CALL, end)?.into_iter().zip(names).zip(FIRST..) {
        sockets.push((name, recognised(fd).map_err(|why| wrong(format!("descriptor {number} {why}")))?));
    }
    Ok(Passed { sockets })
}

fn wrong(why: String) -> Error {
    Error::Activation { why }
}

/// The names of the descriptors that are announced to the process `me`.
fn announced(pid: Option<&str>, count: Option<&str>, names: Option<&str>, me: u32) -> Result<Vec<String>> {
    let number =
        |name: &str, text: &str| text.parse::<u32>().map_err(|_| wrong(format!("{name} is {text:?}, no number")));
    let pid = number("LISTEN_PID", pid.ok_or_else(|| wrong("LISTEN_FDS is set and LISTEN_PID is not".to_owned()))?)?;
    if pid != me {
        return Ok(Vec::new());
    }
    let count =
        number("LISTEN_FDS", count.ok_or_else(|| wrong("LISTEN_PID is set and LISTEN_FDS is not".to_owned()))?)?;
    if i64::from(count) > i64::from(MOST) {
        return Err(wrong(format!("LISTEN_FDS is {count}, allowed are 0..={MOST}")));
    }
    let count = count as usize;
    // As sd_listen_fds_with_names(3) has it.
    let Some(names) = names else { return Ok(vec!["unknown".to_owned(); count]) };
    let names: Vec<_> = if names.is_empty() { Vec::new() } else { names.split(':').map(str::to_owned).collect() };
    if names.len() != count {
        return Err(wrong(format!("LISTEN_FDNAMES has {} names for {count} descriptors", names.len())));
    }
    Ok(names)
}

/// What kind of socket it is; an error says what else it is.
fn recognised(fd: OwnedFd) -> Result<Listener, &'static str> {
    let socket = Socket::from(fd);
    let kind = socket.r#type().map_err(|_| "is no socket")?;
    let domain = socket.domain().map_err(|_| "is no socket")?;
    if kind == Type::STREAM && !socket.is_listener().unwrap_or(false) {
        return Err("is a socket that does not listen: it needs Accept=no");
    }
    let bound = socket.local_addr().map_err(|_| "has no address")?;
    let inet = || bound.as_socket().filter(|address| address.port() != 0).ok_or("is not bound to a port");
    let path = || bound.as_pathname().map(ToOwned::to_owned).ok_or("is not bound to a path");
    let address = match (domain, kind) {
        (Domain::IPV4 | Domain::IPV6, Type::STREAM) => inet().map(|at| Address::Tcp(Host::Ip(at.ip()), at.port()))?,
        (Domain::IPV4 | Domain::IPV6, Type::DGRAM) => inet().map(|at| Address::Udp(Host::Ip(at.ip()), at.port()))?,
        (Domain::UNIX, Type::STREAM) => Address::Unix(path()?),
        (Domain::UNIX, Type::DGRAM) => Address::UnixDatagram(path()?),
        _ => return Err("is of no kind that is served here (tcp, udp, unix stream, unix datagram)"),
    };
    socket.set_nonblocking(true).map_err(|_| "cannot be made non-blocking")?;
    // Its file is the service manager's.
    Ok(Listener::of(address, socket))
}

impl Passed {
    /// The sockets that were passed for `address`.
    pub(crate) fn take(&mut self, address: &Address) -> Vec<Listener> {
        let same = |name: &str, listener: &Listener| match (address, &listener.address) {
            (Address::Passed(asked), _) => asked == name,
            (Address::Tcp(host, port), Address::Tcp(..)) | (Address::Udp(host, port), Address::Udp(..)) => {
                let asked: Option<SocketAddr> = host.resolve(*port).ok();
                asked.is_some() && asked == listener.local_address()
            }
            (asked, bound) => asked == bound,
        };
        let (taken, left) = self.sockets.drain(..).partition::<Vec<_>, _>(|(name, listener)| same(name, listener));
        self.sockets = left;
        taken.into_iter().map(|(_, listener)| listener).collect()
    }

    /// # Errors
    /// [`Error::Activation`] names a socket that nobody took.
    pub(crate) fn all_taken(&self) -> Result<()> {
        match self.sockets.first() {
            None => Ok(()),
            Some((name, listener)) => {
                Err(wrong(format!("{} was passed as {name:?}, and no address in listen asks for it", listener.address)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::config::Config;
    use crate::server::listen::open::{Opening, open};

    fn names(pid: &str, count: &str, names: Option<&str>) -> Result<Vec<String>, String> {
        announced(Some(pid), Some(count), names, 7).map_err(|error| error.to_string())
    }

    #[test]
    fn the_variables_say_how_many_and_how_they_are_called() {
        assert_eq!(names("7", "2", None).unwrap(), ["unknown", "unknown"]);
        assert_eq!(names("7", "2", Some("web:")).unwrap(), ["web", ""]);
        assert!(names("7", "0", Some("")).unwrap().is_empty());
        assert!(names("8", "2", Some("of another process")).unwrap().is_empty());
    }

    #[test]
    fn variables_that_make_no_sense_are_named() {
        assert!(names("7", "two", None).unwrap_err().contains("LISTEN_FDS is \"two\""));
        assert!(names("me", "2", None).unwrap_err().contains("LISTEN_PID is \"me\""));
        assert!(names("7", "2", Some("one")).unwrap_err().contains("1 names for 2 descriptors"));
        assert!(names("7", "1025", None).unwrap_err().contains("0..=1024"));
        assert!(announced(None, Some("1"), None, 7).is_err() && announced(Some("7"), None, None, 7).is_err());
    }

    fn made(address: &str) -> Listener {
        open(&Address::parse(address).unwrap(), &Opening::of(&Config::default()).unwrap()).unwrap()
    }

    #[test]
    fn kinds_are_told_apart_and_what_does_not_listen_is_refused() {
        for scheme in ["tcp", "udp"] {
            // Containers often have no IPv6.
            let six = std::net::TcpListener::bind("[::1]:0").ok().map(|_| "[::1]");
            for host in ["127.0.0.1"].into_iter().chain(six) {
                let listener = made(&format!("{scheme}://{host}:0"));
                let again = recognised(listener.socket.try_clone().unwrap().into()).unwrap();
                assert_eq!(again.address, listener.address);
            }
        }
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        bound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        assert!(recognised(bound.into()).unwrap_err().contains("does not listen"));
        assert!(recognised(Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap().into()).unwrap_err().contains("port"));
        assert!(recognised(std::fs::File::open("/dev/null").unwrap().into()).unwrap_err().contains("no socket"));
        let (one, _other) = Socket::pair(Domain::UNIX, Type::DGRAM, None).unwrap();
        assert!(recognised(one.into()).unwrap_err().contains("not bound to a path"));
    }

    #[test]
    fn an_address_takes_what_is_its_own_and_the_rest_is_named() {
        let (one, two) = (made("tcp://127.0.0.1:0"), made("udp://127.0.0.1:0"));
        let (same, other) = (one.address.clone(), two.address.clone());
        let mut passed = Passed { sockets: vec![("web".into(), one), ("clock".into(), two)] };
        assert!(passed.take(&Address::parse("tcp://127.0.0.1:1").unwrap()).is_empty());
        assert_eq!(passed.take(&same)[0].address, same);
        assert!(passed.take(&same).is_empty(), "taken once");
        assert!(passed.all_taken().unwrap_err().to_string().contains(&format!("{other} was passed as \"clock\"")));
        assert_eq!(passed.take(&Address::parse("systemd://clock").unwrap()).len(), 1);
        passed.all_taken().unwrap();
    }
}
