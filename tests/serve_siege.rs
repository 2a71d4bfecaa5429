//! Attacks on a server's life: signals at the wrong time and by the thousand, processes that are stopped, ports that compete, what a handler leaves behind, and
//! handlers that panic wherever they can.

#[path = "under_test/mod.rs"]
mod under_test;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use under_test::faults::HOOKS;
use under_test::{Notified, PATIENCE, Running, Scratch, Test, command, exists, members, send, until};

const TESTS: &[Test] = &[
    ("a_port_that_nobody_uses_takes_no_room_from_another", room),
    ("all_sockets_of_one_name_are_served_by_all", activated),
    ("settings_that_were_read_again_outlive_the_manager", settings_last),
    ("a_reload_in_which_the_manager_died_ends_too", reload_ends),
    ("a_signal_at_the_very_end_leaves_nothing", last_signal),
    ("a_signal_at_the_very_beginning_leaves_nothing", first_signal),
    ("all_signals_at_once_are_one_end", all_signals),
    ("a_storm_of_reloads_is_two_of_them", storm),
    ("system_calls_that_are_interrupted_go_on", interrupts),
    ("what_a_handler_has_forked_keeps_nobody_from_the_port", leaked),
    ("panics_of_plain_calls_harm_nobody", || hooks("panic")),
    ("panics_whose_end_panics_too_harm_nobody", bombs),
    ("a_client_that_takes_no_datagrams_holds_up_nobody", deaf),
    ("a_worker_for_each_request_loses_none", one_each),
    ("a_manager_that_is_stopped_is_ended_all_the_same", stopped_manager),
];

fn main() -> ExitCode {
    under_test::main(TESTS)
}

const ONE: &[(&str, &str)] = &[("workers", "1")];
const TCP: &str = "--listen=tcp://127.0.0.1:0";

/// Where it listens, in the order in which it was told to.
fn addresses(server: &mut Running) -> Vec<SocketAddr> {
    let ready = server.log.next("ready: ");
    let all = ready.split("tcp://").skip(1);
    all.map(|part| part.split(',').next().unwrap_or_default().parse().expect("an address")).collect()
}

fn room() {
    let mut server = Running::by(&mut command(&[("workers", "1"), ("max_connections", "1")], &[TCP, TCP, TCP]));
    for address in addresses(&mut server).into_iter().rev() {
        server.address = address;
        assert_eq!(server.ask("echo in"), "in");
    }
    let mut held = server.client();
    assert_eq!(held.ask("echo held"), "held");
    let mut waits = server.client();
    waits.say("echo at last");
    waits.stream().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(waits.try_line().is_err(), "one at a time, over all ports");
    waits.stream().set_read_timeout(Some(PATIENCE)).unwrap();
    drop(held);
    assert_eq!(waits.line(), "at last");
    drop(waits);
    server.stop();
}

fn activated() {
    let sockets = || [0; 2].map(|_| OwnedFd::from(TcpListener::bind("127.0.0.1:0").expect("a port")));
    // One for each worker it would be, were they sockets of one address.
    for workers in ["1", "2", "3"] {
        let settings = [("workers", workers)];
        let mut server = Running::activated(&sockets(), "web:web", &settings, &["--listen=systemd://web"]);
        let all = addresses(&mut server);
        assert_eq!(all.len(), 2);
        for address in all {
            server.address = address;
            for _ in 0..4 {
                assert_eq!(server.ask("echo in"), "in");
            }
        }
        server.stop();
    }
}

fn settings_last() {
    let folder = Scratch::new();
    let file = folder.config("workers = 1\n");
    let mut server = Running::start(&[], &[&file]);
    folder.config("workers = 1\nheartbeat_idle_time = '50ms'\n");
    server.signal(Signal::HUP);
    server.told.next("worker_stop ");
    send(server.manager(), Signal::KILL);
    server.told.next("manager_start ");
    server.told.next("worker_start ");
    let mut client = server.client();
    assert_eq!(client.ask("echo x"), "x");
    client.stream().set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    assert!(client.is_closed(), "after 50 ms");
    server.stop();
}

fn reload_ends() {
    let folder = Scratch::new();
    let told = Notified::at(&folder.path("notify"));
    let mut starting = command(ONE, &[TCP]);
    let mut server = Running::by(starting.env("NOTIFY_SOCKET", folder.path("notify")));
    let ready = told.next();
    assert!(ready.starts_with("READY=1"), "{ready}");
    server.wait_ready();
    let manager = server.manager();
    send(manager, Signal::STOP);
    server.signal(Signal::USR1);
    assert!(told.next().starts_with("RELOADING=1"));
    send(manager, Signal::KILL);
    assert_eq!(told.next(), ready);
    server.stop();
}

fn last_signal() {
    let folder = Scratch::new();
    let settings = [("workers", "1"), ("pid_file", &folder.text("pid"))];
    let listen = format!("--listen=unix://{}", folder.text("socket"));
    let mut server = Running::start(&settings, &[&listen, "--fault=slow:shutdown"]);
    server.signal(Signal::TERM);
    server.told.next("shutdown");
    server.told.next("shutdown");
    (0..5).for_each(|_| server.signal(Signal::TERM));
    assert_eq!(server.wait().code(), Some(0));
    assert!(server.log.next("shutdown took ").ends_with(" s, in which this process did nothing else"));
    assert!(!exists(&folder.path("pid")) && !exists(&folder.path("socket")));
}

fn first_signal() {
    let folder = Scratch::new();
    let settings = [("workers", "1"), ("pid_file", &folder.text("pid"))];
    // Whoever holds its lock keeps a server from making a socket in a directory.
    std::fs::create_dir(folder.path("inner")).unwrap();
    let lock = std::fs::File::open(folder.path("inner")).unwrap();
    flock(lock.as_fd(), FlockOperation::LockExclusive).unwrap();
    let (first, second) =
        (format!("--listen=unix://{}", folder.text("socket")), format!("--listen=unix://{}/s", folder.text("inner")));
    let mut server = Running::by(&mut command(&settings, &[&first, &second]));
    until("it has begun", || exists(&folder.path("socket")));
    server.signal(Signal::TERM);
    drop(lock);
    assert_eq!(server.wait().code(), Some(0));
    assert!(!exists(&folder.path("pid")) && !exists(&folder.path("socket")) && !exists(&folder.path("inner/s")));
    assert!(members(server.pid()).is_empty());
}

fn all_signals() {
    let folder = Scratch::new();
    let settings = [("workers", "2"), ("task_workers", "1"), ("pid_file", &folder.text("pid"))];
    for busy in [false, true] {
        let mut server = Running::start(&settings, &[]);
        if busy {
            server.signal(Signal::USR1);
            server.told.next("before_reload");
        }
        for signal in [Signal::USR1, Signal::HUP, Signal::TERM, Signal::USR2, Signal::WINCH, Signal::CHILD] {
            server.signal(signal);
        }
        assert_eq!(server.wait().code(), Some(0));
        assert!(!exists(&folder.path("pid")) && members(server.pid()).is_empty());
        assert_eq!(server.told.count("worker_error"), 0);
    }
}

fn storm() {
    let mut server = Running::start(&[("workers", "2")], &[]);
    for at in 0..1000 {
        server.signal([Signal::USR1, Signal::HUP, Signal::USR2][at % 3]);
        if at % 100 == 0 {
            assert_eq!(server.ask("echo still here"), "still here");
        }
    }
    server.told.next("after_reload");
    until("it comes to rest", || {
        let told = |server: &mut Running, what: &str| server.told.count(what);
        told(&mut server, "before_reload") == told(&mut server, "after_reload")
            && told(&mut server, "worker_start ") == told(&mut server, "worker_stop ") + 2
    });
    assert!(server.told.count("worker_start ") < 60, "a place forks once in 50 ms at most");
    assert_eq!(server.told.count("worker_error"), 0);
    server.stop();
}

fn interrupts() {
    let settings = [("workers", "2"), ("task_workers", "1")];
    let mut server = Running::start(&settings, &["--fault=interrupts"]);
    let mut client = server.client();
    assert_eq!(client.ask("wait 20000 double 4"), "ok: 8");
    client.say("big 4000000");
    assert!(client.takes(4_000_000));
    assert_eq!(client.ask("large 300000"), "ok: 300000 true");
    assert_eq!(client.ask("after 1 20"), "set");
    server.told.next("fired 1");
    drop(client);
    server.signal(Signal::USR1);
    server.told.next("after_reload");
    let (_, who) = server.client_of(0);
    send(who.pid, Signal::KILL);
    server.told.next("worker_error 0");
    assert_eq!(server.ask("echo x"), "x");
    server.stop();
}

fn leaked() {
    let mut server = Running::start(ONE, &[]);
    let child: i32 = server.ask("leak").parse().expect("a pid");
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(members(server.pid()), [child]);
    // As a server would.
    let again = format!("--listen=tcp://{}", server.address);
    let mut next = Running::by(&mut command(ONE, &[&again]));
    next.wait_ready();
    assert_eq!(next.ask("echo mine"), "mine");
    next.stop();
}

fn hooks(kind: &str) {
    let settings = [("workers", "1"), ("task_workers", "1")];
    let mut server = Running::start(&settings, &[&format!("--fault={kind}:hooks")]);
    let manager = server.manager();
    let (client, who) = server.client_of(0);
    drop(client);
    send(who.pid, Signal::KILL);
    server.told.next("worker_error ");
    server.signal(Signal::USR1);
    server.told.next("after_reload");
    assert_eq!((server.ask("echo x"), server.manager()), ("x".to_owned(), manager));
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let log = server.log.until_the_end();
    for call in HOOKS {
        let said = log.iter().filter(|line| line.contains(&format!("] {call}: panicked: "))).count();
        assert_eq!(said, 1, "{call}: {log:#?}");
    }
}

fn bombs() {
    hooks("bomb");
    for call in ["connect", "receive", "close", "worker_exit", "worker_stop"] {
        let mut server = Running::start(ONE, &[&format!("--fault=bomb:{call}")]);
        let mut client = server.client();
        client.say("close");
        assert!(client.is_over());
        drop(client);
        if call.starts_with("worker") {
            server.signal(Signal::TERM);
        }
        server.log.next("panicked: without words");
        assert_eq!(server.log.count("killed by") + server.log.count("left with"), 0);
        server.stop();
    }
    // One that cannot begin is as dead as any other.
    let mut server = Running::by(&mut command(ONE, &[TCP, "--fault=bomb:worker_start"]));
    assert_eq!(server.wait().code(), Some(1));
    assert!(server.log.until_the_end().last().unwrap().starts_with("gave up: no worker ever became ready"));
}

fn deaf() {
    let folder = Scratch::new();
    let path = folder.path("socket");
    let mut server = Running::by(&mut command(ONE, &[&format!("--listen=unix-dgram://{}", path.display())]));
    server.log.next("ready: ");
    let client = |name: &str| {
        let socket = UnixDatagram::bind(folder.path(name)).unwrap();
        socket.connect(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    let other = client("other");
    let answered = || {
        let (mut answer, began) = ([0; 100], Instant::now());
        other.send(b"and me").unwrap();
        let n = other.recv(&mut answer).unwrap();
        assert!(answer[..n].starts_with(b"and me "));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    };
    // More than its own queue holds, and more than there are calls for.
    let deaf = UnixDatagram::bind(folder.path("deaf")).unwrap();
    (0..1500).for_each(|_| assert!(deaf.send_to(b"hear me", &path).is_ok()));
    answered();
    // What is sent to one that is connected has no queue of its own, but fills the kernel's buffer for all answers; while it is there, and not for longer.
    let connected = client("connected");
    (0..500).for_each(|_| assert!(connected.send(b"hear me").is_ok()));
    drop(connected);
    answered();
    let began = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(server.log.count("did not leave in time"), 0);
}

fn one_each() {
    let settings = [("workers", "1"), ("max_request", "1"), ("task_workers", "1"), ("task_max_request", "1")];
    let mut server = Running::start(&settings, &[]);
    until("both were replaced twice", || {
        let clients: Vec<_> = (0..6).map(|_| server.client()).collect();
        std::thread::scope(|scope| {
            for mut client in clients {
                scope.spawn(move || assert_eq!(client.ask("wait 20000 double 4"), "ok: 8"));
            }
        });
        server.told.count("worker_stop 0") > 1 && server.told.count("worker_stop 1") > 1
    });
    assert_eq!(server.told.count("worker_error"), 0);
    server.stop();
}

/// Workers serve on; and a stop is a stop, when the manager's time is over.
fn stopped_manager() {
    let start = |grace: &str| {
        let server = Running::start(&[("workers", "1"), ("stop_grace", grace)], &[]);
        send(server.manager(), Signal::STOP);
        assert_eq!(server.ask("echo x"), "x");
        server
    };
    let (mut gently, mut at_once) = (start("100ms"), start("1h"));
    gently.signal(Signal::TERM);
    at_once.signal(Signal::QUIT);
    for server in [&mut gently, &mut at_once] {
        assert_eq!(server.wait().code(), Some(0));
        assert!(members(server.pid()).is_empty());
    }
    assert!(gently.log.next("the manager (pid ").contains("did not leave in time: killing it"));
}
