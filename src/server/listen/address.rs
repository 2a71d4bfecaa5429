//! Addresses to listen on, as text.
#![forbid(unsafe_code)]

use crate::{Error, Result};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

/// The longest path that a socket's address holds, with its end.
const PATH: usize = 107;
const NAME: usize = 255;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// Streams over TCP.
    Tcp(Host, u16),
    /// Datagrams over UDP.
    Udp(Host, u16),
    /// Streams over a socket in the file system.
    Unix(PathBuf),
    /// Datagrams over one.
    UnixDatagram(PathBuf),
    /// What the service manager passes under this name, of whatever kind.
    Passed(String),
}

/// A machine's address, or a name for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Ip(IpAddr),
    Name(String),
}

impl Address {
    /// Reads an address; names are not looked up here.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let bad = |why| Error::BadAddress { address: text.chars().take(200).collect(), why };
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(bad("it has no scheme; tcp, udp, unix, unix-dgram and systemd are known"));
        };
        match scheme {
            "tcp" | "udp" => {
                let (host, port) = host_and_port(rest).map_err(bad)?;
                Ok(if scheme == "tcp" { Self::Tcp(host, port) } else { Self::Udp(host, port) })
            }
            "unix" => path(rest).map(Self::Unix).map_err(bad),
            "unix-dgram" => path(rest).map(Self::UnixDatagram).map_err(bad),
            // As systemd.socket(5) has it of FileDescriptorName=.
            "systemd" if rest.is_empty() || rest.len() > NAME => Err(bad("the name has 1 to 255 bytes")),
            "systemd" if !rest.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':') => {
                Err(bad("the name has other characters than ASCII without ':' and spaces"))
            }
            "systemd" => Ok(Self::Passed(rest.to_owned())),
            _ => Err(bad("its scheme is unknown; tcp, udp, unix, unix-dgram and systemd are known")),
        }
    }

    /// Whether several sockets can be bound to it at once.
    pub(crate) fn can_share_port(&self) -> bool {
        matches!(self, Self::Tcp(..) | Self::Udp(..))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) => write!(f, "tcp://{host}:{port}"),
            Self::Udp(host, port) => write!(f, "udp://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::UnixDatagram(path) => write!(f, "unix-dgram://{}", path.display()),
            Self::Passed(name) => write!(f, "systemd://{name}"),
        }
    }
}

impl Host {
    /// The address, looked up if it is a name; its first where it has several.
    pub(crate) fn resolve(&self, port: u16) -> io::Result<SocketAddr> {
        match self {
            Self::Ip(ip) => Ok(SocketAddr::new(*ip, port)),
            Self::Name(name) => (name.as_str(), port)
                .to_socket_addrs()?
                .next()
                .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Ip(ip) => write!(f, "{ip}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

fn host_and_port(text: &str) -> Result<(Host, u16), &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (ip, port) = rest.split_once(']').ok_or("the bracket of the IPv6 address is not closed")?;
            let ip = ip.parse::<Ipv6Addr>().map_err(|_| "what stands in brackets is no IPv6 address")?;
            (Host::Ip(ip.into()), port.strip_prefix(':').ok_or("the port is missing; 0 lets the kernel choose")?)
        }
        None => {
            let (host, port) = text.rsplit_once(':').ok_or("the port is missing; 0 lets the kernel choose")?;
            (self::host(host)?, port)
        }
    };
    // `parse` alone would take "+80".
    let plain = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| plain).ok_or("the port is no number in 0..=65535")?;
    Ok((host, port))
}

fn host(text: &str) -> Result<Host, &'static str> {
    if text.contains(':') {
        return Err("an IPv6 address stands in brackets, as in tcp://[::1]:9501");
    }
    if let Ok(ip) = text.parse() {
        return Ok(Host::Ip(ip));
    }
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    match text.len() {
        0 => Err("the host is missing; 0.0.0.0 and [::] stand for all addresses of this machine"),
        NAME.. => Err("the host's name is longer than 254 bytes"),
        _ if !text.bytes().all(letters) => Err("the host is neither an address nor a name"),
        // 256.0.0.1 and 127.1 are addresses to some resolvers, and not the ones that were meant.
        _ if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => Err("the host is no IPv4 address"),
        _ => Ok(Host::Name(text.to_ascii_lowercase())),
    }
}

fn path(text: &str) -> Result<PathBuf, &'static str> {
    match text.len() {
        0 => Err("the path is missing"),
        _ if !text.starts_with('/') => Err("the path is not absolute, as in unix:///run/x.sock"),
        _ if text.ends_with('/') => Err("the path ends in a slash"),
        _ if text.contains('\0') => Err("the path holds a zero byte"),
        len if len > PATH => Err("the path is longer than the 107 bytes that a socket's address holds"),
        _ => Ok(Path::new(text).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_shown_as_it_was() {
        for text in [
            "tcp://127.0.0.1:9501",
            "tcp://[::1]:0",
            "tcp://0.0.0.0:65535",
            "udp://[::]:53",
            "udp://localhost:1",
            "tcp://a-b.example.org:80",
            "unix:///run/x.sock",
            "unix-dgram:///tmp/with space:and colon",
            "systemd://web.socket",
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Address::parse("tcp://LocalHost:1").unwrap(), Address::parse("tcp://localhost:1").unwrap());
        let longest = format!("unix:///{}", "x".repeat(PATH - 1));
        assert_eq!(Address::parse(&longest).unwrap().to_string(), longest);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let (long, name) = (format!("unix:///{}", "x".repeat(PATH)), format!("tcp://{}:1", "x".repeat(300)));
        for (text, why) in [
            ("", "no scheme"),
            ("127.0.0.1:80", "no scheme"),
            ("http://127.0.0.1:80", "scheme is unknown"),
            ("TCP://127.0.0.1:80", "scheme is unknown"),
            ("tcp://", "port is missing"),
            ("tcp://127.0.0.1", "port is missing"),
            ("tcp://[::1]", "port is missing"),
            ("tcp://[::1:80", "not closed"),
            ("tcp://[127.0.0.1]:80", "no IPv6 address"),
            ("tcp://::1:80", "brackets"),
            ("tcp://:80", "host is missing"),
            ("tcp://*:80", "neither an address nor a name"),
            ("tcp://u@host:80", "neither an address nor a name"),
            ("tcp://256.0.0.1:80", "no IPv4 address"),
            ("tcp://127.1:80", "no IPv4 address"),
            ("tcp://127.0.0.1:65536", "0..=65535"),
            ("tcp://127.0.0.1:+80", "0..=65535"),
            ("tcp://127.0.0.1:", "0..=65535"),
            ("tcp://127.0.0.1:80/", "0..=65535"),
            (&name, "254 bytes"),
            ("unix://", "path is missing"),
            ("unix://run/x", "not absolute"),
            ("unix:///run/", "slash"),
            ("unix-dgram:///a\0b", "zero byte"),
            (&long, "107 bytes"),
            ("systemd://", "1 to 255"),
            ("systemd://a:b", "other characters"),
        ] {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
            assert_eq!(error.lines().count(), 1);
        }
    }

    #[test]
    fn whatever_is_read_is_read_again_from_what_it_shows() {
        let parts = [
            "tcp", "udp", "unix", "systemd", "://", ":", "/", "[", "]", "::", "1", "80", "65535", "a.b", "\0", "é", "@",
        ];
        arbtest::arbtest(|u| {
            let mut text = String::new();
            for _ in 0..u.int_in_range(0..=8)? {
                text.push_str(u.choose(&parts)?);
            }
            if let Ok(address) = Address::parse(&text) {
                assert_eq!(Address::parse(&address.to_string()).unwrap(), address, "{text:?}");
            }
            Ok(())
        })
        .budget_ms(100);
    }

    #[test]
    fn names_are_looked_up_and_addresses_are_not() {
        assert!(Host::Name("localhost".into()).resolve(7).unwrap().ip().is_loopback());
        assert_eq!(Host::Ip(IpAddr::from([9, 9, 9, 9])).resolve(7).unwrap(), "9.9.9.9:7".parse().unwrap());
        assert!(Host::Name("no-such-host.invalid".into()).resolve(7).is_err());
    }
}
