//! Telling the service manager how it goes (sd_notify(3)): ready, reloading, stopping, alive.
//!
//! One datagram a message, to the socket that NOTIFY_SOCKET names. Without it nothing is sent, and nothing is wrong. A message never waits.
#![forbid(unsafe_code)]

use crate::sys::clock;
use crate::{Error, Result};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to the service manager.
#[derive(Debug)]
pub(crate) struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Of this process's environment.
    ///
    /// # Errors
    /// [`Error::Activation`] says what is wrong with the variables.
    pub(crate) fn of_environment() -> Result<Self> {
        let variable = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Self::new(variable, std::process::id())
    }

    fn new(variable: impl Fn(&str) -> Option<String>, me: u32) -> Result<Self> {
        let wrong = |why: String| Error::Activation { why };
        let Some(name) = variable("NOTIFY_SOCKET") else { return Ok(Self { socket: None, watchdog: None }) };
        let address = match name.as_bytes() {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest),
            [b'/', ..] => SocketAddr::from_pathname(&name),
            _ => return Err(wrong(format!("NOTIFY_SOCKET is {name:?}, neither a path nor an abstract name like @x"))),
        };
        let address = address.map_err(|error| wrong(format!("NOTIFY_SOCKET is {name:?}: {error}")))?;
        let socket = UnixDatagram::unbound().map_err(Error::system("socket(AF_UNIX)"))?;
        socket.set_nonblocking(true).map_err(Error::system("making a socket non-blocking"))?;
        let number = |name: &str| match variable(name) {
            None => Ok(None),
            Some(text) => text.parse::<u64>().map(Some).map_err(|_| wrong(format!("{name} is {text:?}, no number"))),
        };
        // It may be meant for another process than this one.
        let mine = number("WATCHDOG_PID")?.is_none_or(|pid| pid == u64::from(me));
        let watchdog = number("WATCHDOG_USEC")?.filter(|usec| mine && *usec > 0).map(Duration::from_micros);
        Ok(Self { socket: Some((socket, address)), watchdog })
    }

    /// How often to say that we are alive: half of what the service manager allows, as it advises. `None`: it did not ask.
    pub(crate) fn alive_every(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// The server serves; signals go to the process `main`. Also the end of a reload.
    pub(crate) fn ready(&self, main: u32, status: &str) -> Result<()> {
        self.send(&format!("READY=1\nMAINPID={main}\nSTATUS={}", one_line(status)))
    }

    /// A reload begins, to be followed by [`ready`](Self::ready).
    pub(crate) fn reloading(&self) -> Result<()> {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", clock::now() / 1000))
    }

    /// The server begins to stop.
    pub(crate) fn stopping(&self) -> Result<()> {
        self.send("STOPPING=1")
    }

    /// The server is alive.
    pub(crate) fn alive(&self) -> Result<()> {
        self.send("WATCHDOG=1")
    }

    fn send(&self, message: &str) -> Result<()> {
        let Some((socket, address)) = &self.socket else { return Ok(()) };
        loop {
            match socket.send_to_addr(message.as_bytes(), address) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => return sent.map(drop).map_err(Error::system("telling the service manager")),
            }
        }
    }
}

/// Each line is a message of its own, so that a text must not bring any.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::testing::Scratch;

    fn of(variables: &[(&str, &str)]) -> Result<Notifier> {
        Notifier::new(
            |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()),
            42,
        )
    }

    fn next(manager: &UnixDatagram) -> String {
        let mut message = [0; 500];
        let n = manager.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..n]).into_owned()
    }

    #[test]
    fn all_messages_arrive_at_a_path_and_at_an_abstract_name() {
        let folder = Scratch::new();
        let path = folder.path("notify");
        let name = format!("commons-test-{}", std::process::id());
        let abstracted = SocketAddr::from_abstract_name(&name).unwrap();
        for (manager, variable) in [
            (UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap().to_owned()),
            (UnixDatagram::bind_addr(&abstracted).unwrap(), format!("@{name}")),
        ] {
            manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let notifier = of(&[("NOTIFY_SOCKET", &variable)]).unwrap();
            notifier.ready(7, "serving\nREADY=0").unwrap();
            assert_eq!(next(&manager), "READY=1\nMAINPID=7\nSTATUS=serving READY=0");
            let before = clock::now() / 1000;
            notifier.reloading().unwrap();
            let usec: u64 = next(&manager).strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse().unwrap();
            assert!((before..=clock::now() / 1000).contains(&usec));
            notifier.stopping().unwrap();
            notifier.alive().unwrap();
            assert_eq!([next(&manager), next(&manager)], ["STOPPING=1", "WATCHDOG=1"]);
        }
    }

    #[test]
    fn without_the_variable_nothing_happens() {
        let notifier = of(&[("WATCHDOG_USEC", "1000")]).unwrap();
        notifier.ready(1, "").unwrap();
        notifier.stopping().unwrap();
        assert_eq!(notifier.alive_every(), None);
        // Whatever there is, it is read without a panic.
        drop(Notifier::of_environment());
    }

    #[test]
    fn the_watchdog_is_ours_or_another_s() {
        let with = |more: &[(&str, &str)]| {
            let all: Vec<_> = [("NOTIFY_SOCKET", "/run/x")].iter().chain(more).copied().collect();
            of(&all).map(|notifier| notifier.alive_every()).map_err(|error| error.to_string())
        };
        assert_eq!(with(&[]), Ok(None));
        assert_eq!(with(&[("WATCHDOG_USEC", "3000000")]), Ok(Some(Duration::from_millis(1500))));
        assert_eq!(
            with(&[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "42")]),
            Ok(Some(Duration::from_millis(1500)))
        );
        assert_eq!(with(&[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "43")]), Ok(None));
        assert_eq!(with(&[("WATCHDOG_USEC", "0")]), Ok(None));
        assert!(with(&[("WATCHDOG_USEC", "soon")]).unwrap_err().contains("WATCHDOG_USEC is \"soon\""));
    }

    #[test]
    fn a_manager_that_is_gone_or_deaf_is_an_error_and_no_wait() {
        assert!(of(&[("NOTIFY_SOCKET", "vsock:2:1")]).unwrap_err().to_string().contains("neither a path"));
        assert!(of(&[("NOTIFY_SOCKET", &format!("/{}", "x".repeat(200)))]).is_err());
        let folder = Scratch::new();
        let path = folder.path("notify");
        let notifier = of(&[("NOTIFY_SOCKET", path.to_str().unwrap())]).unwrap();
        assert!(notifier.alive().is_err(), "nobody there");
        let _deaf = UnixDatagram::bind(&path).unwrap();
        assert!((0..100_000).any(|_| notifier.alive().is_err()), "its queue is never full");
    }
}
