//! How a server begins, or does not; settings that are read again; and what it tells its service manager.

#[path = "under_test/mod.rs"]
mod under_test;

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Command, ExitCode};

use rustix::process::Signal;
use under_test::{Notified, PATIENCE, Running, Scratch, Test, command, command_after, exists, is_gone, members, until};

const TESTS: &[Test] = &[
    ("a_worker_that_never_becomes_ready_ends_the_server", never_ready),
    ("a_worker_that_panics_at_start_ends_the_server", never_ready_panics),
    ("a_worker_that_hangs_at_start_ends_the_server", never_ready_hangs),
    ("a_worker_whose_successor_fails_at_start_is_tried_again", tried_again),
    ("settings_that_are_wrong_are_named", wrong_settings),
    ("what_is_taken_is_named_and_nothing_is_started", taken),
    ("hup_reads_the_settings_again", hup),
    ("hup_with_a_bad_file_changes_nothing", bad_hup),
    ("winch_opens_the_log_again", winch),
    ("a_daemon_is_ready_when_its_starter_returns", daemon),
    ("a_daemon_that_cannot_start_says_why", bad_daemon),
    ("the_service_manager_is_told", notify),
    ("more_processes_than_descriptors_allow_are_refused", crowded),
    ("sockets_of_the_service_manager_are_served_across_restarts", activated),
];

fn main() -> ExitCode {
    under_test::main(TESTS)
}

/// It must end by itself with status 1, having said why in one line of its own; that line.
#[track_caller]
fn refused(settings: &[(&str, &str)], arguments: &[&str]) -> String {
    let mut server = Running::by(&mut command(settings, arguments));
    assert_eq!(server.wait().code(), Some(1));
    assert!(members(server.pid()).is_empty());
    assert_eq!(server.told.until_the_end().len(), 0, "nothing was started");
    let log = server.log.until_the_end();
    assert_eq!(log.len(), 1, "{log:#?}");
    log[0].clone()
}

const TCP: &str = "--listen=tcp://127.0.0.1:0";

fn never_ready() {
    let mut server = Running::by(&mut command(&[("workers", "1")], &[TCP, "--fault=error:worker_start"]));
    assert_eq!(server.wait().code(), Some(1));
    let log = server.log.until_the_end();
    let last = log.last().unwrap();
    assert_eq!(last, "gave up: no worker ever became ready, and one place failed 5 times in a row");
    let count = |part: &str| log.iter().filter(|line| line.contains(part)).count();
    assert_eq!(count("worker_start: failing: as it should"), 5, "{log:#?}");
    assert_eq!(count("left with status 1: starting the next one in"), 4, "with a wait between: {log:#?}");
    assert_eq!(count("starting another"), 0, "no manager is started again: {log:#?}");
    let told = server.told.until_the_end();
    assert_eq!(told.iter().filter(|line| line.starts_with("manager_start")).count(), 1);
    let again: Vec<i64> =
        told.iter().filter_map(|line| line.strip_prefix("again 0 ")).map(|wait| wait.parse().unwrap()).collect();
    assert!(again.len() == 5 && again[4] == -1, "after the last death none is started: {again:?}");
    assert!(again[0] > 0 && again[..4].is_sorted_by(|one, next| 2 * one <= *next + 1), "{again:?}");
    assert!(!told.iter().any(|line| line == "all are ready"));
    assert!(members(server.pid()).is_empty());
}

fn never_ready_panics() {
    let folder = Scratch::new();
    let settings = [("workers", "2"), ("pid_file", &folder.text("pid"))];
    let listen = format!("--listen=unix://{}", folder.text("socket"));
    let mut server = Running::by(&mut command(&settings, &[&listen, "--fault=panic:worker_start"]));
    assert_eq!(server.wait().code(), Some(1));
    assert!(server.log.until_the_end().last().unwrap().starts_with("gave up: no worker ever became ready"));
    assert!(!exists(&folder.path("pid")) && !exists(&folder.path("socket")));
}

fn never_ready_hangs() {
    // More than a second in all: a manager that has lived that long would otherwise be replaced at once.
    let settings = [("workers", "1"), ("boot_deadline", "150ms")];
    let mut server = Running::by(&mut command(&settings, &[TCP, "--fault=hang:worker_start"]));
    let line = server.log.next("did not become ready in time");
    assert!(line.contains("worker 0 (pid "), "{line}");
    assert_eq!(server.wait().code(), Some(1));
    let log = server.log.until_the_end();
    assert!(log.last().unwrap().starts_with("gave up: no worker ever became ready"), "{log:#?}");
    assert_eq!(server.told.count("hanging 0 "), 5);
    assert_eq!(server.told.count("manager_start "), 1);
}

fn tried_again() {
    // The first one is well, all that follow are not: it is tried for as long as it takes, for others may serve.
    let mut server = Running::start(&[("workers", "1")], &["--fault=error:second_start"]);
    let pid = server.client().who().pid;
    under_test::send(pid, Signal::KILL);
    for _ in 0..3 {
        server.log.next("left with status 1: starting the next one in ");
    }
    assert!(server.child.try_wait().unwrap().is_none());
    server.stop();
}

fn wrong_settings() {
    for (setting, line) in [
        (("workers", "0"), "the setting workers is 0, allowed are 1..=1024"),
        (("workers", "many"), "the setting workers is \"many\", allowed are 1..=1024"),
        (("message_queue_bytes", "512M"), "the setting message_queue_bytes is 536870912, allowed are 64K..=256M"),
        (("wrokers", "1"), "there is no setting wrokers; did you mean workers?"),
        (("buffer_low_watermark", "900M"), "the setting buffer_low_watermark is "),
        (("listen", "tcp://nowhere"), "the address \"tcp://nowhere\" is not like "),
        (("user", "nobody-of-this-name"), "there is no user \"nobody-of-this-name\" on this machine"),
        (("group", "nobody-of-this-name"), "there is no group \"nobody-of-this-name\" on this machine"),
        (("pid_file", "/nowhere/at/all"), "the pid file \"/nowhere/at/all\": No such file"),
        (("log_file", "/nowhere/at/all"), "the log file \"/nowhere/at/all\": No such file"),
    ] {
        let said = refused(&[setting], &[TCP]);
        assert!(said.starts_with(line), "{said}");
    }
    let said = refused(&[], &[]);
    assert_eq!(said, "the server listens nowhere, and has no task workers and no processes of its own");
    let folder = Scratch::new();
    let file = format!("--config={}", folder.text("config"));
    assert!(refused(&[], &[TCP, &file]).starts_with("the config file "));
    folder.config("workers = 2\nworkers = 3\n");
    assert!(refused(&[], &[TCP, &file]).starts_with("the config is no TOML, line 2: "));
    folder.config("max_request = -1\n");
    assert_eq!(refused(&[], &[TCP, &file]), "the setting max_request is -1, allowed are 0..=4294967295");
}

fn taken() {
    let folder = Scratch::new();
    let pid_file = folder.text("pid");
    let settings = [("workers", "1"), ("pid_file", &*pid_file)];
    let socket = format!("--listen=unix://{}", folder.text("socket"));
    let mut first = Running::by(&mut command(&settings, &[TCP, &socket]));
    first.wait_ready();
    let address = format!("--listen=tcp://{}", first.address);
    let said = refused(&[], &[&address]);
    assert!(
        said.starts_with(&format!("cannot listen on tcp://{}: ", first.address)) && said.contains("in use"),
        "{said}"
    );
    let said = refused(&settings, &[TCP]);
    assert_eq!(said, format!("the pid file {pid_file:?} is that of a living server (pid {})", first.pid()));
    let said = refused(&[], &[&socket]);
    assert!(said.starts_with("cannot listen on unix://"), "{said}");
    assert_eq!(first.ask("echo undisturbed"), "undisturbed");
    assert!(exists(&folder.path("pid")) && exists(&folder.path("socket")));
    // All of its ports, or none.
    let other = format!("--listen=unix://{}", folder.text("other"));
    assert!(refused(&[], &[&other, &address]).contains("in use"));
    assert!(!exists(&folder.path("other")), "it was let go");
    first.stop();
    assert!(!exists(&folder.path("pid")) && !exists(&folder.path("socket")));
}

fn hup() {
    let folder = Scratch::new();
    let file = folder.config("workers = 1\nheartbeat_idle_time = '10s'\n");
    let mut server = Running::start(&[], &[&file]);
    let before = server.client().who().pid;
    folder.config("workers = 3\nheartbeat_idle_time = '50ms'\nstop_grace = '9s'\n");
    server.signal(Signal::HUP);
    let line = server.log.next("needs a restart");
    assert!(
        line.contains("what changed in stop_grace, workers needs")
            || line.contains("what changed in workers, stop_grace needs"),
        "{line}"
    );
    server.told.next("worker_stop ");
    let mut client = server.client();
    assert_ne!(client.who().pid, before);
    assert!(client.is_closed(), "after 50 ms");
    // Once more, to what it was.
    folder.config("workers = 1\nheartbeat_idle_time = '10s'\n");
    server.signal(Signal::HUP);
    server.told.next("worker_stop ");
    assert_eq!(server.log.count("needs a restart"), 1);
    assert_eq!(server.told.count("worker_start "), 3, "one worker, three times");
    server.stop();
}

fn bad_hup() {
    let folder = Scratch::new();
    let file = folder.config("workers = 1\n");
    let mut server = Running::start(&[], &[&file]);
    let before = server.client().who().pid;
    for (text, why) in [
        ("max_request = -1", "the setting max_request is -1"),
        ("workers = ", "the config is no TOML, line 1"),
        ("nonsense = 1", "there is no setting nonsense"),
    ] {
        folder.config(text);
        server.signal(Signal::HUP);
        let line = server.log.next("nothing is reloaded");
        assert!(line.contains(why), "{line}");
    }
    std::fs::remove_file(folder.path("config")).unwrap();
    server.signal(Signal::HUP);
    assert!(server.log.next("nothing is reloaded").contains("the config file"));
    assert_eq!(server.client().who().pid, before);
    assert_eq!(server.told.count("before_reload"), 0);
    server.stop();
}

fn winch() {
    let folder = Scratch::new();
    let log = folder.path("log");
    let settings = [("workers", "1"), ("log_file", log.to_str().unwrap())];
    let mut server = Running::by(&mut command(&settings, &[TCP]));
    server.told.next("all are ready");
    let text = std::fs::read_to_string(&log).unwrap();
    let ready = text.lines().find(|line| line.contains("ready: tcp://")).unwrap();
    server.address = ready.rsplit("://").next().unwrap().parse().unwrap();
    std::fs::rename(&log, folder.path("old")).unwrap();
    server.signal(Signal::WINCH);
    until("there is a new one", || exists(&log));
    // The worker goes on with the old one, or has heard of it too; its manager's lines are in the new one.
    until("the manager has opened it too", || {
        let manager = server.manager();
        let files = std::fs::read_dir(format!("/proc/{manager}/fd")).unwrap();
        !files.flatten().any(|file| std::fs::read_link(file.path()).is_ok_and(|to| to == folder.path("old")))
    });
    let pid = server.client().who().pid;
    let mut client = server.client();
    client.say("error");
    assert!(client.is_closed());
    until("the worker writes there too", || std::fs::read_to_string(&log).unwrap().contains("receive of connection"));
    under_test::send(pid, Signal::KILL);
    until("the manager too", || std::fs::read_to_string(&log).unwrap().contains("was killed by signal 9"));
    server.stop();
}

fn daemon() {
    let folder = Scratch::new();
    let (pid_file, log) = (folder.path("pid"), folder.path("log"));
    let socket = folder.path("socket");
    let settings = [
        ("workers", "1"),
        ("daemonize", "true"),
        ("pid_file", pid_file.to_str().unwrap()),
        ("log_file", log.to_str().unwrap()),
    ];
    let starter = command(&settings, &[&format!("--listen=unix://{}", socket.display())]).output().unwrap();
    assert!(starter.status.success(), "{starter:?}");
    let pid: i32 = std::fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
    let _end = Ended(pid);
    assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok());
    assert!(std::fs::read_to_string(&log).unwrap().contains("ready: unix://"));
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), std::path::Path::new("/"));
    let second = command(&settings, &[TCP]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("living server"), "{second:?}");
    under_test::send(pid, Signal::TERM);
    until("it has left", || !exists(&pid_file) && under_test::children(pid).is_empty());
    assert!(!exists(&socket));
    until("it says so", || std::fs::read_to_string(&log).unwrap().trim_end().ends_with("stopped"));
}

/// A daemon is in no group of ours.
struct Ended(i32);

impl Drop for Ended {
    fn drop(&mut self) {
        if !is_gone(self.0) {
            under_test::send(self.0, Signal::KILL);
        }
    }
}

fn bad_daemon() {
    let folder = Scratch::new();
    let log = folder.text("log");
    let settings = [("workers", "1"), ("daemonize", "true"), ("log_file", &*log)];
    let starter = command(&settings, &[TCP, "--fault=error:worker_start"]).output().unwrap();
    assert_eq!(starter.status.code(), Some(1));
    let said = String::from_utf8_lossy(&starter.stderr).into_owned();
    assert!(said.contains("gave up: no worker ever became ready") && said.lines().count() == 1, "{said}");
    let starter = command(&[("workers", "0"), settings[1]], &[TCP]).output().unwrap();
    assert_eq!(starter.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&starter.stderr), "the setting workers is 0, allowed are 1..=1024\n");
}

fn notify() {
    let folder = Scratch::new();
    let told = Notified::at(&folder.path("notify"));
    let next = || told.next();
    let file = folder.config("");
    let mut starting: Command = command(&[("workers", "1"), ("task_workers", "1")], &[TCP, &file]);
    let mut server = Running::by(starting.env("NOTIFY_SOCKET", folder.path("notify")));
    let ready = next();
    assert!(ready.starts_with(&format!("READY=1\nMAINPID={}\nSTATUS=tcp://127.0.0.1:", server.pid())), "{ready}");
    for signal in [Signal::HUP, Signal::USR1, Signal::USR2] {
        server.signal(signal);
        assert!(next().starts_with("RELOADING=1\nMONOTONIC_USEC="));
        assert_eq!(next(), ready);
    }
    // Also of a reload that does not come about.
    folder.config("nonsense");
    server.signal(Signal::HUP);
    assert!(next().starts_with("RELOADING=1"));
    assert_eq!(next(), ready);
    server.signal(Signal::TERM);
    assert_eq!(next(), "STOPPING=1");
    assert_eq!(server.wait().code(), Some(0));
    // The watchdog hears of it in time.
    let mut starting = command(&[("workers", "1")], &[TCP]);
    starting.env("NOTIFY_SOCKET", folder.path("notify")).env("WATCHDOG_USEC", "100000");
    let mut server = Running::by(&mut starting);
    until("it is alive", || next() == "WATCHDOG=1");
    until("it is alive", || next() == "WATCHDOG=1");
    server.signal(Signal::QUIT);
    assert_eq!(server.wait().code(), Some(0));
}

fn crowded() {
    let mut server = Running::by(&mut command_after("ulimit -n 400", &[("workers", "100")], &[TCP]));
    assert_eq!(server.wait().code(), Some(1));
    let log = server.log.until_the_end();
    let said = "the setting workers is too many, 100 processes in all, allowed are some 20 descriptors for each";
    assert!(log.len() == 1 && log[0].contains(said) && log[0].contains("(ulimit -n) is 400"), "{log:#?}");
}

fn activated() {
    let (tcp, udp) = (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let by_address = format!("--listen=udp://{}", udp.local_addr().unwrap());
    let asker = UdpSocket::bind("127.0.0.1:0").unwrap();
    asker.set_read_timeout(Some(PATIENCE)).unwrap();
    asker.connect(udp.local_addr().unwrap()).unwrap();
    for round in 0..2 {
        // The socket is there before the server is: who comes meanwhile waits.
        let mut early = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        early.write_all(b"echo early\n").unwrap();
        early.set_read_timeout(Some(PATIENCE)).unwrap();
        asker.send(b"early").unwrap();
        let sockets = [tcp.as_fd(), udp.as_fd()];
        let listen = ["--listen=systemd://lines", &by_address];
        let mut server = Running::activated(&sockets, "lines:clock", &[("workers", "2")], &listen);
        server.wait_ready();
        let mut answer = [0; 6];
        early.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"early\n", "{round}");
        let mut packet = [0; 100];
        let n = asker.recv(&mut packet).unwrap();
        assert!(packet[..n].starts_with(b"early "));
        drop(early);
        assert_eq!(server.address, tcp.local_addr().unwrap());
        let before = server.client().who().pid;
        server.signal(Signal::USR1);
        server.told.next("after_reload");
        until("another worker answers at the same socket", || server.client().who().pid != before);
        server.stop();
    }
}
