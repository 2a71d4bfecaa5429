use super::address::Address;
use super::open::{Listener, Opening, Tuning, open, open_each};
use crate::server::Config;
use crate::server::testing::Scratch;
use crate::{Error, Result};
use rustix::fs::{FlockOperation, flock};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

fn at(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn how() -> Opening {
    Opening::of(&Config::default()).unwrap()
}

fn opened(text: &str) -> Listener {
    open(&at(text), &how()).unwrap()
}

#[track_caller]
fn refusal<T: std::fmt::Debug>(result: Result<T>, part: &str) {
    let error = result.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Listen { .. }) && text.contains(part) && text.lines().count() == 1, "{text}");
}

fn is_nonblocking(socket: &Socket) -> bool {
    socket.accept().is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Containers often have none.
fn has_ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

fn port(listener: &Listener) -> u16 {
    listener.local_address().unwrap().port()
}

#[test]
fn tcp_is_served_and_a_second_server_is_refused() {
    for host in ["127.0.0.1", "[::1]", "localhost"].into_iter().filter(|host| has_ipv6() || !host.starts_with('[')) {
        let listener = opened(&format!("tcp://{host}:0"));
        assert_eq!(listener.address, at(&format!("tcp://{host}:{}", port(&listener))));
        assert!(listener.is_stream() && is_nonblocking(&listener.socket));
        let mut client = TcpStream::connect(listener.local_address().unwrap()).unwrap();
        client.write_all(b"x").unwrap();
        drop(client);
        let (connection, _) = listener.socket.accept().unwrap();
        let mut text = String::new();
        TcpStream::from(connection).read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
        refusal(open(&listener.address, &how()), "in use");
        refusal(open_each(&listener.address, &how(), 2), "in use");
        // A connection of the old server is in TIME_WAIT now, and the port is free all the same.
        let address = listener.address.clone();
        drop(listener);
        drop(open(&address, &how()).unwrap());
    }
    refusal(open(&at("tcp://192.0.2.1:0"), &how()), "192.0.2.1");
    refusal(open(&at("tcp://no-such-host.invalid:0"), &how()), "no-such-host.invalid");
    refusal(open(&at("systemd://web"), &how()), "passed no socket");
}

#[test]
fn all_addresses_of_one_family_are_not_those_of_the_other() {
    if !has_ipv6() {
        return;
    }
    let six = opened("tcp://[::]:0");
    let four = open(&at(&format!("tcp://0.0.0.0:{}", port(&six))), &how()).unwrap();
    assert_eq!(port(&four), port(&six));
}

#[test]
fn udp_is_served_and_a_second_server_is_refused() {
    let listener = opened("udp://127.0.0.1:0");
    assert!(!listener.is_stream());
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"tick", listener.local_address().unwrap()).unwrap();
    let socket = UdpSocket::from(listener.socket.try_clone().unwrap());
    socket.set_nonblocking(false).unwrap();
    let mut bytes = [0; 9];
    assert_eq!(socket.recv(&mut bytes).unwrap(), 4);
    refusal(open(&listener.address, &how()), "in use");
    refusal(open_each(&listener.address, &how(), 2), "in use");
}

#[test]
fn a_socket_for_each_shares_one_port_and_keeps_other_servers_out() {
    for scheme in ["tcp", "udp"] {
        let all = open_each(&at(&format!("{scheme}://127.0.0.1:0")), &how(), 3).unwrap();
        assert!(all.iter().all(|listener| port(listener) == port(&all[0])) && port(&all[0]) > 0);
        refusal(open(&all[0].address, &how()), "in use");
        refusal(open_each(&all[0].address, &how(), 3), "in use");
        let again = all[0].address.clone();
        drop(all);
        assert_eq!(open_each(&again, &how(), 2).unwrap().len(), 2);
    }
}

#[test]
fn what_the_kernel_would_cut_is_refused() {
    let more = |config: Config, n: u64, key: &str| match key {
        "backlog" => config.backlog(n as u32),
        "tcp_fastopen" => config.tcp_fastopen(n as u32),
        "kernel_receive_buffer" => config.kernel_receive_buffer(n),
        _ => config.kernel_send_buffer(n),
    };
    for (key, limit, all) in [
        ("backlog", "somaxconn", 65_535),
        ("tcp_fastopen", "somaxconn", 65_535),
        ("kernel_receive_buffer", "rmem_max", 256 << 20),
        ("kernel_send_buffer", "wmem_max", 256 << 20),
    ] {
        // Some are told to the machine's own network alone.
        let text = std::fs::read_to_string(format!("/proc/sys/net/core/{limit}")).unwrap_or_default();
        let Some(most) = text.trim().parse().ok().filter(|most| *most < all) else { continue };
        Opening::of(&more(Config::default(), most, key)).unwrap();
        let config = more(Config::default(), most + 1, key);
        config.validate().unwrap();
        let error = Opening::of(&config).unwrap_err().to_string();
        let head = format!("the setting {key} is {}, allowed are ", most + 1);
        assert!(
            error.starts_with(&head) && error.ends_with(&format!("..={most}, which is net.core.{limit}")),
            "{error}"
        );
    }
}

#[test]
fn so_many_connections_wait_as_the_backlog_says() {
    // One place in the queue, and the kernel's one more: a third connection is not completed.
    let listener = open(&at("tcp://127.0.0.1:0"), &Opening::of(&Config::default().backlog(1)).unwrap()).unwrap();
    let address = listener.local_address().unwrap();
    let wait = Duration::from_millis(200);
    let clients: Vec<_> = (0..4).map(|_| TcpStream::connect_timeout(&address, wait)).collect();
    assert_eq!(clients.iter().filter(|client| client.is_ok()).count(), 2);
}

#[test]
fn what_is_set_for_connections_is_set_on_them_and_not_on_the_listener() {
    let toml = "tcp_keepalive = true\ntcp_keepalive_idle = 77\ntcp_keepalive_interval = 7\ntcp_keepalive_count = 3\n\
                tcp_user_timeout = '1234ms'\nkernel_receive_buffer = '16K'\nkernel_send_buffer = '16K'\n\
                tcp_defer_accept = 1\ntcp_fastopen = 5";
    let config = Config::from_toml(toml).unwrap();
    let listener = open(&at("tcp://127.0.0.1:0"), &Opening::of(&config).unwrap()).unwrap();
    let before = listener.socket.recv_buffer_size().unwrap();
    let mut client = TcpStream::connect(listener.local_address().unwrap()).unwrap();
    client.write_all(b"shown when there is data").unwrap();
    listener.socket.set_nonblocking(false).unwrap();
    let connection = OwnedFd::from(listener.socket.accept().unwrap().0);
    Tuning::of(&config).apply(&connection, true).unwrap();
    let seen = SockRef::from(&connection);
    assert!(seen.tcp_nodelay().unwrap() && seen.keepalive().unwrap());
    assert_eq!(seen.tcp_keepalive_time().unwrap().as_secs(), 77);
    assert_eq!(seen.tcp_keepalive_interval().unwrap().as_secs(), 7);
    assert_eq!(seen.tcp_keepalive_retries().unwrap(), 3);
    assert_eq!(seen.tcp_user_timeout().unwrap().unwrap().as_millis(), 1234);
    // The kernel doubles it for what it needs itself.
    assert_eq!(seen.recv_buffer_size().unwrap(), 32 * 1024);
    assert_eq!(listener.socket.recv_buffer_size().unwrap(), before);
    assert!(!listener.socket.keepalive().unwrap());
    let (one, _other) = UnixStream::pair().unwrap();
    Tuning::of(&config).apply(&one, false).unwrap();
}

#[test]
fn unix_sockets_are_served_with_their_mode_and_go_with_the_server() {
    let folder = Scratch::new();
    let path = folder.path("x.sock");
    let config = Config::default().unix_mode(0o620);
    let stream = open(&at(&format!("unix://{}", path.display())), &Opening::of(&config).unwrap()).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o620);
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"x").unwrap();
    assert!(stream.socket.accept().is_ok() && is_nonblocking(&stream.socket));
    drop(stream);
    assert!(!path.exists());
    let datagrams = opened(&format!("unix-dgram://{}", path.display()));
    let client = UnixDatagram::unbound().unwrap();
    client.send_to(b"tick", &path).unwrap();
    assert_eq!(UnixDatagram::from(datagrams.socket.try_clone().unwrap()).recv(&mut [0; 9]).unwrap(), 4);
    drop(datagrams);
    assert!(!path.exists());
}

#[test]
fn a_path_where_somebody_lives_is_refused_whatever_kind_he_is_of() {
    let folder = Scratch::new();
    let path = folder.path("x.sock");
    let kinds = ["unix", "unix-dgram"];
    for living in kinds {
        let theirs = opened(&format!("{living}://{}", path.display()));
        for ours in kinds {
            refusal(open(&at(&format!("{ours}://{}", path.display())), &how()), "in use");
        }
        assert!(path.exists());
        drop(theirs);
    }
    // One whose queue is full is not dead either.
    let full =
        open(&at(&format!("unix://{}", path.display())), &Opening::of(&Config::default().backlog(1)).unwrap()).unwrap();
    let knock = |path: &Path| {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.connect(&SockAddr::unix(path).unwrap()).map(|()| socket)
    };
    let crowd: Vec<_> = (0..10).map(|_| knock(&path)).collect();
    assert!(crowd.iter().any(Result::is_err));
    refusal(open(&at(&format!("unix://{}", path.display())), &how()), "in use");
    drop(full);
}

#[test]
fn a_stale_file_is_taken_over_and_other_files_are_left_alone() {
    let folder = Scratch::new();
    let path = folder.path("x.sock");
    let address = format!("unix://{}", path.display());
    // std removes nothing: as after a kill.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    drop(opened(&address));
    drop(UnixDatagram::bind(&path).unwrap());
    drop(opened(&address));
    assert!(!path.exists());
    std::fs::write(&path, "precious").unwrap();
    refusal(open(&at(&address), &how()), "no socket");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_file(&path).unwrap();
    // A link is no socket, even if it leads to one.
    std::os::unix::fs::symlink(folder.path("elsewhere"), &path).unwrap();
    refusal(open(&at(&address), &how()), "no socket");
    refusal(open(&at("unix:///no/such/folder/x"), &how()), "No such file");
}

#[test]
fn a_file_that_is_another_s_by_now_stays() {
    let folder = Scratch::new();
    let path = folder.path("x.sock");
    let address = format!("unix://{}", path.display());
    let ours = opened(&address);
    std::fs::remove_file(&path).unwrap();
    let theirs = opened(&address);
    drop(ours);
    assert!(UnixStream::connect(&path).is_ok());
    drop(theirs);
    assert!(!path.exists());
}

#[test]
fn of_many_servers_that_find_a_stale_file_at_once_one_gets_the_path() {
    let folder = Scratch::new();
    let path = folder.path("x.sock");
    for _ in 0..20 {
        drop(UnixListener::bind(&path).unwrap());
        let address = at(&format!("unix://{}", path.display()));
        let results: Vec<_> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(|| open(&address, &how()))).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
        assert!(UnixStream::connect(&path).is_ok());
        drop(results);
        assert!(!path.exists());
    }
}

#[test]
fn between_the_knock_and_the_removal_nobody_else_comes() {
    let folder = Scratch::new();
    let path = folder.path("x.sock");
    let address = at(&format!("unix://{}", path.display()));
    drop(UnixListener::bind(&path).unwrap());
    // We are in the middle of taking the path over, and so another one waits.
    let directory = std::fs::File::open(&folder.0).unwrap();
    flock(&directory, FlockOperation::LockExclusive).unwrap();
    let (told, done) = channel();
    std::thread::scope(|scope| {
        scope.spawn(|| told.send(open(&address, &how()).map(drop)));
        assert!(done.recv_timeout(Duration::from_millis(100)).is_err());
        std::fs::remove_file(&path).unwrap();
        let theirs = UnixListener::bind(&path).unwrap();
        flock(&directory, FlockOperation::Unlock).unwrap();
        refusal(done.recv_timeout(Duration::from_secs(20)).unwrap(), "in use");
        drop(theirs);
    });
    assert!(path.exists(), "theirs, and not ours to remove");
}

#[test]
fn another_process_s_copy_removes_nothing_until_it_adopts() {
    let folder = Scratch::new();
    let path = folder.path("x.sock");
    let address = format!("unix://{}", path.display());
    for adopts in [false, true] {
        let mut listener = opened(&address);
        // As it looks in a forked child.
        listener.file.as_mut().unwrap().owner += 1;
        if adopts {
            listener.adopt();
        }
        drop(listener);
        assert_eq!(path.exists(), !adopts);
    }
}
