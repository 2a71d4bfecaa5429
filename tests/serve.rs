//! Connections: what the handler is called for and in what order, what a client that does not read costs, and what goes wrong in a call.

#[path = "under_test/mod.rs"]
mod under_test;

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use under_test::client::Client;
use under_test::{Running, Scratch, Test, until};

const TESTS: &[Test] = &[
    ("connect_then_receive_then_close", order),
    ("a_long_greeting_is_written_while_connect_is_under_way", greeting),
    ("the_next_bytes_wait_until_the_call_has_ended", one_call_at_a_time),
    ("what_was_sent_before_close_arrives", close_after_send),
    ("a_close_loses_nothing_though_the_client_still_sends", close_while_the_client_sends),
    ("a_client_that_does_not_read_fills_its_own_buffer_only", full_buffer),
    ("a_send_gives_up_after_send_timeout", send_timeout),
    ("a_client_that_never_reads_does_not_outlive_the_idle_time", stuck_when_closing),
    ("senders_of_one_connection_do_not_mix", senders),
    ("pause_and_resume", pause),
    ("pause_from_outside_a_call", pause_later),
    ("errors_and_panics_end_the_connection_not_the_process", faults_in_receive),
    ("errors_and_panics_of_other_calls_end_those_calls", faults_elsewhere),
    ("idle_connections_are_closed", idle),
    ("no_more_than_max_connections", max_connections),
    ("datagrams_are_answered", packets),
    ("datagrams_of_unix_sockets_are_answered", unix_packets),
];

fn main() -> ExitCode {
    under_test::main(TESTS)
}

fn order() {
    let mut server = Running::start(&[("workers", "1")], &[]);
    let mut client = server.client();
    assert_eq!(client.ask("echo hello"), "hello");
    let id = client.ask("who");
    let here = client.stream().local_addr().unwrap();
    assert_eq!(client.ask("peer"), here.to_string());
    drop(client);
    let connect = server.told.next("connect ");
    let name = connect.strip_prefix("connect ").unwrap().to_owned();
    server.told.next(&format!("receive {name} echo hello"));
    server.told.next(&format!("received {name}"));
    server.told.next(&format!("receive {name} who"));
    assert_eq!(server.told.next("close "), format!("close {name} false"), "closed is not open, {id}");
    // A half-closed client is answered.
    let mut half = server.client();
    half.say("slow 20");
    half.stream().shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(half.line(), "waited");
    assert!(half.is_closed());
    server.stop();
}

fn greeting() {
    let server = Running::start(&[("workers", "1"), ("socket_buffer_size", "4096")], &["--fault=greets"]);
    let mut client = server.client();
    assert_eq!(client.line(), "x".repeat(3000) + &"y".repeat(3000));
    assert_eq!(client.ask("echo hello"), "hello");
    drop(client);
    server.stop();
}

fn one_call_at_a_time() {
    let mut server = Running::start(&[("workers", "1")], &[]);
    let mut client = server.client();
    client.say("slow 60");
    server.told.next("slow");
    client.say("echo later");
    let mut other = server.client();
    assert_eq!(other.ask("echo meanwhile"), "meanwhile", "other connections do not wait");
    assert_eq!((client.line(), client.line()), ("waited".to_owned(), "later".to_owned()));
    server.told.next("echo later");
    let told = server.told.all();
    let at = |part: &str| told.iter().position(|line| line.contains(part)).unwrap();
    drop((client, other));
    assert!(at("echo meanwhile") < at("received") && at("received") < at("echo later"), "{told:#?}");
    server.stop();
}

fn close_after_send() {
    let server = Running::start(&[("workers", "1")], &[]);
    let mut client = server.client();
    client.say("close");
    assert_eq!(client.line(), "bye");
    assert!(client.is_closed());
    // More than the kernel takes at once.
    let mut client = server.client();
    client.say("big 4000000\nclose");
    assert!(client.takes(4_000_000));
    assert_eq!(client.line(), "bye");
    drop(client);
    server.stop();
}

fn close_while_the_client_sends() {
    let mut server = Running::start(&[("workers", "1")], &[]);
    let mut client = narrow(&server);
    client.say("big 300000\nclose");
    server.told.next("received");
    // What nobody reads any more: were the socket let go with it unread, the kernel would throw away what it still has for us.
    client.stream().write_all(&[b'x'; 1000]).unwrap();
    assert!(client.takes(300_000));
    assert_eq!(client.line(), "bye");
    assert!(client.is_closed());
    drop(client);
    server.stop();
}

/// Settings under which little fills a connection's buffer.
const SMALL: &[(&str, &str)] = &[
    ("workers", "1"),
    ("socket_buffer_size", "100000"),
    ("buffer_high_watermark", "80000"),
    ("buffer_low_watermark", "20000"),
    ("kernel_send_buffer", "4096"),
];

/// A client whose kernel takes little, so that what it does not read stays with the server.
fn narrow(server: &Running) -> Client {
    let mut client = server.client();
    rustix::net::sockopt::set_socket_recv_buffer_size(client.stream(), 16384).unwrap();
    client
}

fn full_buffer() {
    let mut server = Running::start(SMALL, &[]);
    let mut client = narrow(&server);
    client.say("big 100001");
    assert!(server.told.next("sent ").contains("error: the message has 100001 bytes, at most 100000"));
    // Each is queued at once until nothing goes to the kernel any more.
    let (mut pieces, before) = (0, server.told.count("sent "));
    while server.told.count("buffer_full ") == 0 {
        assert!(pieces < 2000, "it takes all");
        client.say("big 50000");
        pieces += 1;
        until("it is queued, or waits", || {
            server.told.count("buffer_full ") > 0 || server.told.count("sent ") == before + pieces
        });
    }
    // These do not fit.
    (0..3).for_each(|_| client.say("big 50000"));
    let sent = (pieces + 3) * 50_000;
    // The call waits; the client's own next command does too, another client's does not.
    let mut other = server.client();
    assert_eq!(other.ask("echo free"), "free");
    other.say("stats");
    assert!(other.line().contains("connections=2"));
    assert!(client.takes(sent), "all of it arrives");
    server.told.next("buffer_empty ");
    client.say("try 100001");
    assert!(server.told.next("tried ").contains("100001 bytes"));
    let full = (0..2000).any(|_| {
        client.say("try 50000");
        server.told.next("tried ").contains("error: full")
    });
    assert!(full, "a try_send that says so");
    assert_eq!(other.ask("echo free"), "free");
    drop(client);
    server.told.next("close ");
    server.stop();
}

fn send_timeout() {
    let settings = [SMALL, &[("send_timeout", "50ms")]].concat();
    let mut server = Running::start(&settings, &[]);
    let mut client = narrow(&server);
    let began = Instant::now();
    // One after the other, in one call each, until one has waited.
    let failed = (0..2000).any(|_| {
        client.try_say("big 50000").is_err() || server.told.next("sent ").contains("error: timed out after 50ms")
    });
    assert!(failed && began.elapsed() >= Duration::from_millis(50));
    assert!(server.told.next("close ").ends_with("false"));
    assert!(client.is_over());
    assert_eq!(server.ask("echo still here"), "still here");
    server.stop();
}

fn stuck_when_closing() {
    let settings = [SMALL, &[("heartbeat_idle_time", "60ms")]].concat();
    let mut server = Running::start(&settings, &[]);
    let mut client = narrow(&server);
    // As much as the kernel takes, and a buffer full; then nothing is read, and nothing said.
    for _ in 0..200 {
        client.say("try 50000");
        if server.told.next("tried ").contains("error: full") {
            break;
        }
    }
    server.told.next("close ");
    until("it is not counted any more", || server.ask("stats").contains("connections=1"));
    server.stop();
}

fn senders() {
    let mut server = Running::start(SMALL, &[]);
    let mut client = narrow(&server);
    let (senders, each) = (4, 60);
    client.say(&format!("rush {senders} {each}"));
    server.told.next("buffer_full");
    let mut next = vec![0; senders];
    for _ in 0..senders * each {
        let line = client.line();
        let words: Vec<_> = line.split(' ').collect();
        let (sender, at): (usize, usize) = (words[0].parse().unwrap(), words[1].parse().unwrap());
        assert_eq!(next[sender], at, "in order from each");
        assert_eq!(words[2].len(), 1 + (at * 37 + sender * 11) % 4000, "and whole");
        next[sender] += 1;
    }
    drop(client);
    server.stop();
}

fn pause() {
    let mut server = Running::start(&[("workers", "1"), ("heartbeat_idle_time", "40ms")], &[]);
    let mut client = server.client();
    let began = Instant::now();
    assert_eq!(client.ask("pause 150"), "paused");
    client.say("echo after");
    assert_eq!(client.line(), "after");
    assert!(began.elapsed() >= Duration::from_millis(150), "{:?}", began.elapsed());
    server.told.next("echo after");
    let told = server.told.all();
    let at = |part: &str| told.iter().position(|line| line.contains(part)).unwrap();
    assert!(at("resumed") < at("echo after"), "{told:#?}");
    server.stop();
}

fn pause_later() {
    let mut server = Running::start(&[("workers", "1")], &[]);
    let mut client = server.client();
    let id = client.who().id;
    assert_eq!(client.ask("pauselater 1"), "soon");
    server.told.next("paused");
    client.say("echo unheard");
    // Somebody else's round trips: time in which it could have been read.
    let mut other = server.client();
    (0..20).for_each(|_| assert_eq!(other.ask("echo x"), "x"));
    assert_eq!(server.told.count("unheard"), 0, "nothing is read while it is paused");
    // A paused one can be sent to, and closed.
    assert_eq!(other.ask(&format!("sendto {id} hello")), "ok: sent");
    assert_eq!(client.line(), "hello");
    assert_eq!(other.ask(&format!("closeid {id}")), "ok: closed");
    assert!(client.is_over());
    drop((client, other));
    server.stop();
}

fn faults_in_receive() {
    let mut server = Running::start(&[("workers", "1")], &[]);
    let pid = server.client().who().pid;
    for (command, why) in [("error", "failing: as it should"), ("panic", "panicked: told to")] {
        let mut client = server.client();
        let mut other = server.client();
        assert_eq!(other.ask("echo before"), "before");
        client.say(command);
        assert!(client.is_closed(), "{command}");
        let line = server.log.next("receive of connection ");
        assert!(line.contains(why) && line.contains("127.0.0.1:"), "{line}");
        server.told.next("close ");
        assert_eq!(other.ask("echo after"), "after");
        assert_eq!(other.who().pid, pid, "the process goes on");
    }
    server.stop();
}

fn faults_elsewhere() {
    for (fault, commands, line) in [
        ("error:connect", &["echo x"][..], "connect of connection "),
        ("panic:connect", &["echo x"], "connect of connection "),
        ("panic:close", &["close"], "close of connection "),
        ("error:close", &["close"], "close of connection "),
        ("panic:buffer_full", &["try 90000"], "buffer_full of connection "),
        ("panic:buffer_empty", &["try 90000"], "buffer_empty of connection "),
        ("error:pipe_message", &["message 0 0 1 1"], "pipe_message from process 0"),
        ("panic:pipe_message", &["message 0 0 1 1"], "pipe_message from process 0"),
        ("panic:finish", &["task double 1"], "finish of task "),
        ("error:finish", &["task double 1"], "finish of task "),
        ("panic:worker_exit", &[], "worker_exit: panicked: "),
        ("error:worker_stop", &[], "worker_stop: failing"),
        ("panic:worker_stop", &[], "worker_stop: panicked: "),
    ] {
        let settings = [SMALL, &[("task_workers", "1")]].concat();
        let mut server = Running::start(&settings, &[&format!("--fault={fault}")]);
        let mut client = server.client();
        for command in commands {
            let _ = client.try_say(command);
        }
        if commands.is_empty() {
            server.signal(rustix::process::Signal::TERM);
        } else if fault.ends_with(":connect") {
            assert!(client.is_over(), "{fault}: the connection ends");
        }
        server.log.next(line);
        if commands.is_empty() {
            assert_eq!(server.wait().code(), Some(0), "{fault}");
            continue;
        }
        drop(client);
        assert_eq!(server.log.count("was killed by"), 0);
        assert_eq!(server.log.count("left with"), 0, "{fault}: no process dies of it");
        server.stop();
    }
}

fn idle() {
    let server = Running::start(&[("workers", "1"), ("heartbeat_idle_time", "80ms")], &[]);
    let (mut quiet, mut busy) = (server.client(), server.client());
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(200) {
        assert_eq!(busy.ask("echo x"), "x");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(quiet.is_closed());
    // A call that takes longer is not idle.
    assert_eq!(busy.ask("slow 150"), "waited");
    let began = Instant::now();
    assert!(busy.is_closed());
    assert!(began.elapsed() >= Duration::from_millis(60));
    server.stop();
}

fn max_connections() {
    let server = Running::start(&[("workers", "2"), ("max_connections", "3")], &[]);
    let mut all: Vec<_> = (0..3).map(|_| server.client()).collect();
    all.iter_mut().for_each(|client| assert_eq!(client.ask("echo in"), "in"));
    let mut fourth = server.client();
    fourth.say("echo at last");
    fourth.stream().set_read_timeout(Some(Duration::from_millis(150))).unwrap();
    assert!(fourth.try_line().is_err(), "it waits");
    assert!(all[0].ask("stats").contains("connections=3"));
    all.remove(0);
    fourth.stream().set_read_timeout(Some(under_test::PATIENCE)).unwrap();
    // The place that was freed is that of one worker; the other one may have to leave it to it.
    assert_eq!(fourth.line(), "at last");
    drop((all, fourth));
    server.stop();
}

fn packets() {
    let mut server = Running::by(&mut under_test::command(&[("workers", "2")], &["--listen=udp://127.0.0.1:0"]));
    server.wait_ready();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server.address).unwrap();
    socket.set_read_timeout(Some(under_test::PATIENCE)).unwrap();
    let mut buffer = [0; 100];
    for at in 0..20 {
        socket.send(format!("packet {at}").as_bytes()).unwrap();
        let n = socket.recv(&mut buffer).unwrap();
        assert!(buffer[..n].starts_with(format!("packet {at} ").as_bytes()));
    }
    server.stop();
}

fn unix_packets() {
    let folder = Scratch::new();
    let path = folder.path("server");
    let listen = format!("--listen=unix-dgram://{}", path.display());
    let mut server = Running::by(&mut under_test::command(&[("workers", "2")], &[&listen]));
    server.wait_ready();
    let socket = UnixDatagram::bind(folder.path("client")).unwrap();
    socket.connect(&path).unwrap();
    socket.set_read_timeout(Some(under_test::PATIENCE)).unwrap();
    let mut buffer = [0; 40_000];
    let mut pids = BTreeSet::new();
    for at in 0..100 {
        // Datagrams wait in the socket, which stays.
        if at == 20 {
            server.signal(Signal::USR1);
        }
        if at == 60 {
            server.told.next("after_reload");
        }
        let packet = [format!("packet {at} ").as_bytes(), &vec![b'x'; at * 300]].concat();
        socket.send(&packet).unwrap();
        let n = socket.recv(&mut buffer).unwrap();
        assert!(buffer[..n].starts_with(&packet), "{at}");
        let pid: i32 = std::str::from_utf8(&buffer[packet.len() + 1..n]).unwrap().parse().unwrap();
        pids.insert((at >= 60, pid));
    }
    let of =
        |renewed: bool| pids.iter().filter(|(new, _)| *new == renewed).map(|(_, pid)| *pid).collect::<BTreeSet<_>>();
    assert!(!of(true).is_empty() && !of(false).is_empty(), "{pids:?}");
    // One who has no name cannot be answered, which is told; all else goes on.
    UnixDatagram::unbound().unwrap().send_to(b"from nobody", &path).unwrap();
    assert!(server.log.next("packet from unix").contains("the sender of the datagram has no address"));
    socket.send(b"still there").unwrap();
    let n = socket.recv(&mut buffer).unwrap();
    assert!(buffer[..n].starts_with(b"still there "));
    server.stop();
    assert!(!path.exists());
}
