//! Settings by what they do to a running server: who its processes are, where they run, what they are called, how they share a port; and what is refused when all
//! is known that bears on it.

#[path = "under_test/mod.rs"]
mod under_test;

use std::collections::BTreeSet;
use std::process::ExitCode;

use commons::process::Cpus;
use rustix::process::Signal;
use under_test::{Running, Scratch, Test, children, command, command_after, members, until};

const TESTS: &[Test] = &[
    ("each_worker_runs_on_one_processor", pinned),
    ("processes_are_called_by_their_title", titled),
    ("a_socket_for_each_worker", sockets),
    ("workers_are_who_they_were_told_to_be", dressed),
    ("only_what_matters_enough_is_logged", quiet),
    ("what_is_allowed_is_taken", extremes),
    ("the_environment_counts_over_the_file", sources),
    ("no_more_connections_than_descriptors_are_promised", promised),
    ("what_is_read_again_must_fit_to_what_stays", mixed),
    ("a_server_need_not_listen", deaf),
    ("processes_have_a_limit", many),
];

fn main() -> ExitCode {
    under_test::main(TESTS)
}

const TCP: &str = "--listen=tcp://127.0.0.1:0";
const TWO: &[(&str, &str)] = &[("workers", "2")];

/// It ends with status 1, having said why in one line; that line.
#[track_caller]
fn refused(mut server: Running) -> String {
    assert_eq!(server.wait().code(), Some(1));
    assert!(members(server.pid()).is_empty());
    assert_eq!(server.told.until_the_end().len(), 0, "nothing was started");
    let log = server.log.until_the_end();
    assert_eq!(log.len(), 1, "{log:#?}");
    log[0].clone()
}

/// What follows `head` in a process's status.
fn status(pid: i32, head: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(head)).unwrap();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn pinned() {
    let all = Cpus::allowed().unwrap();
    let of = |server: &Running, worker: usize| status(server.client_of(worker).1.pid, "Cpus_allowed_list:");
    let settings = [TWO, &[("cpu_affinity", "true")]].concat();
    let server = Running::start(&settings, &[]);
    for worker in 0..2 {
        assert_eq!(of(&server, worker), all.nth(worker).to_string());
    }
    assert_eq!(status(server.manager(), "Cpus_allowed_list:"), all.to_string());
    server.stop();
    let text = |cpus: &[usize]| cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let (first, rest) = all.list().split_first().unwrap();
    if !rest.is_empty() {
        let server = Running::start(&[&settings[..], &[("cpu_affinity_ignore", &first.to_string())]].concat(), &[]);
        for worker in 0..2 {
            assert_eq!(of(&server, worker), rest[worker % rest.len()].to_string());
        }
        server.stop();
    }
    let none = text(all.list());
    let said = refused(Running::by(&mut command(&[&settings[..], &[("cpu_affinity_ignore", &none)]].concat(), &[TCP])));
    let head =
        format!("the setting cpu_affinity_ignore is [{}], allowed are lists that leave one", none.replace(',', ", "));
    assert!(said.starts_with(&head) && said.ends_with(&format!("which are {all}")), "{said}");
}

fn titled() {
    let settings = [TWO, &[("task_workers", "1"), ("title", "shop")]].concat();
    let server = Running::start(&settings, &["--user=idle"]);
    let name = |pid: i32| status(pid, "Name:");
    assert_eq!((name(server.pid()), name(server.manager())), ("shop: master".into(), "shop: manager".into()));
    let names: BTreeSet<_> = children(server.manager()).into_iter().map(name).collect();
    // Of a longer name the short one holds 15 bytes; the long one is whole where the kernel allows it.
    let all = ["shop: worker 0", "shop: worker 1", "shop: task work", "shop: idle"];
    assert_eq!(names, all.map(str::to_owned).into());
    server.stop();
}

fn sockets() {
    // In the table of sockets: one that listens (0A) at this port.
    let listening = |server: &Running| {
        let at = format!(" 0100007F:{:04X} 00000000:0000 0A ", server.address.port());
        std::fs::read_to_string("/proc/net/tcp").unwrap().lines().filter(|line| line.contains(&at)).count()
    };
    for (setting, sockets) in [("false", 1), ("true", 2)] {
        let mut server = Running::start(&[TWO, &[("reuse_port", setting)]].concat(), &[]);
        assert_eq!(listening(&server), sockets);
        let pids = [0, 1].map(|worker| server.client_of(worker).1.pid);
        server.signal(Signal::USR1);
        server.told.next("after_reload");
        until("both are others", || !pids.contains(&server.client().who().pid));
        assert_eq!(listening(&server), sockets);
        server.stop();
    }
    let folder = Scratch::new();
    let unix = format!("--listen=unix://{}", folder.text("socket"));
    let said = refused(Running::by(&mut command(&[("reuse_port", "true")], &[&unix])));
    assert_eq!(said, "the setting reuse_port is true, allowed are only with a tcp or udp address to listen on");
}

fn dressed() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let folder = Scratch::new();
    let (log, root) = (folder.text("log"), folder.text(""));
    let settings = [("workers", "1"), ("user", "nobody"), ("group", "4242"), ("chroot", &root), ("log_file", &log)];
    let mut server = Running::by(&mut command(&settings, &[TCP, "--user=idle"]));
    server.told.next("all are ready");
    let text = || std::fs::read_to_string(&log).unwrap();
    let ready = text();
    let ready = ready.lines().find(|line| line.contains("ready: tcp://")).unwrap();
    server.address = ready.rsplit("://").next().unwrap().parse().unwrap();
    let workers = children(server.manager());
    assert_eq!(workers.len(), 2);
    for pid in workers {
        assert_eq!((status(pid, "Uid:"), status(pid, "Gid:")), (["65534"; 4].join(" "), ["4242"; 4].join(" ")));
        let seen = std::fs::read_link(format!("/proc/{pid}/root")).unwrap();
        assert_eq!(seen, folder.0.canonicalize().unwrap());
    }
    for pid in [server.pid(), server.manager()] {
        assert_eq!(status(pid, "Uid:"), ["0"; 4].join(" "), "it has to signal the others");
    }
    // It cannot open the log again where it is, and goes on with the old one; its successor inherits the new one.
    std::fs::rename(&log, folder.path("old")).unwrap();
    server.signal(Signal::WINCH);
    let old = || std::fs::read_to_string(folder.path("old")).unwrap();
    until("it says so", || {
        old().contains("worker 0[") && old().contains("cannot reopen the log, going on with the old file")
    });
    server.signal(Signal::USR1);
    server.told.next("after_reload");
    let mut client = server.client();
    client.say("error");
    assert!(client.is_closed());
    until("it writes there", || text().contains("receive of connection"));
    server.stop();
}

fn quiet() {
    for (level, lines) in [("error", 0), ("none", 0)] {
        let mut server = Running::by(&mut command(&[("workers", "1"), ("log_level", level)], &[TCP]));
        server.told.next("all are ready");
        let worker = children(server.manager())[0];
        under_test::send(worker, Signal::KILL);
        server.told.next("worker_error 0 ");
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
        assert_eq!(server.log.until_the_end().len(), lines, "of a death there is a warning");
    }
    let mut server = Running::start(&[("workers", "1"), ("log_level", "debug")], &[]);
    assert!(server.log.count(" debug ") > 0);
    server.stop();
}

/// The least and the most of each range, as far as it does not depend on the machine: a range is a promise that such a server starts, and serves.
fn extremes() {
    let both = [
        ("task_attempts", "1", "31"),
        ("task_queue_bytes", "64K", "128M"),
        ("message_queue_bytes", "64K", "256M"),
        ("max_request", "0", "4294967295"),
        ("max_request_grace", "0", "4294967295"),
        ("task_max_request", "0", "4294967295"),
        ("task_max_request_grace", "0", "4294967295"),
        ("heartbeat_idle_time", "0", "1d"),
        ("send_timeout", "10ms", "1d"),
        ("socket_buffer_size", "4K", "1G"),
        ("buffer_high_watermark", "1", "1G"),
        ("kernel_receive_buffer", "4K", "0"),
        ("kernel_send_buffer", "4K", "0"),
        ("backlog", "1", "128"),
        ("tcp_keepalive", "true", "true"),
        ("tcp_keepalive_idle", "1", "32767"),
        ("tcp_keepalive_interval", "1", "32767"),
        ("tcp_keepalive_count", "1", "127"),
        ("tcp_user_timeout", "1s", "1d"),
        ("tcp_defer_accept", "0", "3600"),
        ("tcp_fastopen", "0", "128"),
        ("stop_grace", "2s", "1h"),
        ("reload_grace", "2s", "1d"),
        ("boot_deadline", "5s", "1h"),
        ("title", "x", "exactly-sixty-four-bytes-long-this-title-is-and-no-byte-longer-x"),
    ];
    for most in [false, true] {
        let settings: Vec<_> =
            both.iter().map(|(key, least, more)| (*key, if most { *more } else { *least })).collect();
        let mut server = Running::start(&[&settings[..], &[("workers", "1"), ("task_workers", "1")]].concat(), &[]);
        let mut client = server.client();
        assert_eq!(client.ask("wait 20000 double 2"), "ok: 4");
        assert_eq!(client.ask("say 0 x"), "ok: sent");
        server.told.next("message 0 0 said ");
        assert_eq!(server.log.count("cannot set"), 0);
        drop(client);
        server.stop();
    }
}

fn sources() {
    let folder = Scratch::new();
    let file = folder.config("workers = 0\ntask_workers = 3\n");
    let said = refused(Running::by(&mut command(&[("workers", "1025")], &[TCP, &file])));
    assert_eq!(said, "the setting workers is 1025, allowed are 1..=1024");
    let server = Running::start(&[("workers", "1")], &[&file]);
    assert_eq!(children(server.manager()).len(), 4);
    server.stop();
    // Both count over what the program says; and what it says last is what it says.
    let server = Running::start(&[], &["--base"]);
    assert_eq!(children(server.manager()).len(), 5);
    server.stop();
    folder.config("task_workers = 1\n");
    let server = Running::start(&[("workers", "1")], &["--base", &file]);
    assert_eq!(children(server.manager()).len(), 2);
    server.stop();
}

fn promised() {
    // By the limit alone there would be 236; what all processes share takes some of them.
    let asked = |n: &str| {
        let settings = [("workers", "1"), ("max_connections", n)];
        Running::by(&mut command_after("ulimit -n 300", &settings, &[TCP]))
    };
    let said = refused(asked("236"));
    let most = said.strip_prefix("the setting max_connections is 236, allowed are 1..=").expect(&said);
    let (most, rest) = most.split_once(' ').unwrap();
    assert!(rest.starts_with("with 1 workers and a limit of 300 open files (ulimit -n) for each, of which "), "{said}");
    let mut server = asked(most);
    server.wait_ready();
    assert_eq!(server.ask("echo x"), "x");
    server.stop();
}

fn mixed() {
    let folder = Scratch::new();
    let file = folder.config("workers = 2\nmax_connections = 10\n");
    let mut server = Running::start(&[], &[&file]);
    folder.config("workers = 1\nmax_connections = 1\n");
    server.signal(Signal::HUP);
    let line = server.log.next("nothing is reloaded");
    // The workers stay two, each of which has one connection at least.
    assert!(line.contains("the setting max_connections is 1, allowed are 2..="), "{line}");
    folder.config("workers = 1\nmax_connections = 2\n");
    server.signal(Signal::HUP);
    assert!(server.log.next("needs a restart").contains("what changed in workers needs"));
    server.told.next("after_reload");
    server.stop();
}

fn deaf() {
    for (settings, argument) in
        [([("workers", "1"), ("task_workers", "1")], ""), ([("workers", "1"), ("title", "x")], "--user=idle")]
    {
        let mut server = Running::by(&mut command(&settings, &[argument]));
        server.wait_ready();
        server.stop();
    }
}

fn many() {
    let said = refused(Running::by(&mut command(&[("workers", "1024"), ("task_workers", "1024")], &[TCP])));
    assert_eq!(said, "the number of processes is 2048, allowed are 1..=1365");
}
