//! How a server comes into the world: daemons, pid files, socket activation, a log of several processes, and the spread of connections.
//!
//! What forks, or looks at its own environment, must have one thread, and libtest has more; so this file has its own `main`. A test starts this program again
//! in a role.

#[path = "served/mod.rs"]
mod served;
#[path = "single/mod.rs"]
mod single;

use commons::server::harness::{
    Spread, daemonize, log_from_processes, log_to_standard_error, open_all, spread, with_pid_file,
};
use commons::{Error, Result};
use rustix::process::Signal;
use served::{SOON, is_alive, send, until};
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::Duration;

const TESTS: &[single::Test] = &[
    ("the_starter_of_a_daemon_returns_when_it_is_ready", a_daemon_that_is_ready),
    ("the_starter_of_a_daemon_says_why_it_failed", daemons_that_fail),
    ("a_daemon_whose_starter_is_gone_ends", a_daemon_without_a_starter),
    ("a_pid_file_is_locked_while_its_server_lives_and_no_longer", pid_files),
    ("sockets_are_taken_over_from_the_service_manager", activation),
    ("lines_of_several_processes_are_whole", logs),
    ("a_standard_error_that_nobody_reads_makes_nobody_wait", deaf_standard_error),
    ("connections_are_spread_evenly", spreads),
];

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let Some(role) = arguments.first().and_then(|first| first.strip_prefix("--role=")) {
        return match play(role, &arguments[1..]) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                say(&mut std::io::stderr(), &error.to_string());
                ExitCode::FAILURE
            }
        };
    }
    single::run(TESTS)
}

fn say(to: &mut impl Write, line: &str) {
    let _ = to.write_all(format!("{line}\n").as_bytes()).and_then(|()| to.flush());
}

/// What this program does in a role. The arguments are paths and addresses.
fn play(role: &str, arguments: &[String]) -> Result<()> {
    let path = |at: usize| Path::new(&arguments[at]);
    let failed = |why: &'static str| Error::System { call: why, source: std::io::Error::other("as it should") };
    match role {
        // Ready, then works until it is told to end: its pid file is gone by then.
        "daemon" => daemonize(Some(path(1)), SOON, |ready| {
            with_pid_file(path(0), || {
                say(&mut std::io::stdout(), "to standard output");
                say(&mut std::io::stderr(), "to standard error");
                let _ = ready();
                until("the word to end", || !path(2).exists());
            })
        }),
        "daemon that fails" => daemonize(None, SOON, |_| Err(failed("opening the gates"))),
        "daemon that panics" => daemonize(Some(path(0)), SOON, |_| panic!("at the gates")),
        "daemon that dawdles" => daemonize(None, Duration::from_millis(100), |ready| {
            until("the starter is gone", || std::os::unix::process::parent_id() != 0 && !path(0).exists());
            // Whoever waited has given up: this is an error, and the file says that we have seen it.
            ready().inspect_err(|error| std::fs::write(path(1), error.to_string()).expect("write"))
        }),
        "pid file" => with_pid_file(path(0), || {
            say(&mut std::io::stdout(), "locked");
            until("the end of the test", || !path(1).exists());
        }),
        "sockets" => {
            for address in open_all(arguments)? {
                say(&mut std::io::stdout(), &address);
            }
            // What a program that we start finds in its environment.
            say(&mut std::io::stdout(), &format!("left: {:?}", std::env::var_os("LISTEN_FDS")));
            Ok(())
        }
        "log" => log_from_processes(path(0), 4, 500),
        "complain" => {
            let lost = log_to_standard_error(5000)?;
            say(&mut std::io::stdout(), &lost.to_string());
            Ok(())
        }
        "spread" => {
            let which: usize = arguments[0].parse().expect("a number");
            let how = [Spread::All, Spread::Exclusive, Spread::Each, Spread::Share][which];
            let stopped = arguments.get(2).is_some_and(|word| word == "stopped");
            let (counts, took) = spread(how, 4, 100, arguments[1] == "burst", stopped)?;
            say(&mut std::io::stderr(), &took.as_millis().to_string());
            say(&mut std::io::stdout(), &counts.iter().map(i64::to_string).collect::<Vec<_>>().join(" "));
            Ok(())
        }
        _ => Err(failed("no such role")),
    }
}

fn role(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command.arg(format!("--role={name}")).stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn ended(command: &mut Command) -> (bool, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("this program");
    (status.success(), text(&stdout), text(&stderr))
}

/// A folder of a test's own, gone when it ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("commons-launch-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).expect("a new folder");
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn a_daemon_that_is_ready() {
    let folder = Scratch::new("daemon");
    let (pid, log, stay) = (folder.path("pid"), folder.path("log"), folder.path("stay"));
    std::fs::write(&stay, "").expect("write");
    // The daemon ends when this file goes, with its folder: also when this test fails.
    let (good, out, err) = ended(role("daemon").args([&pid, &log, &stay]));
    assert_eq!((good, out.as_str(), err.as_str()), (true, "", ""), "the pipes are closed, so it holds none of them");
    let daemon: i32 = std::fs::read_to_string(&pid).expect("a pid file").trim().parse().expect("a pid");
    assert!(is_alive(daemon));
    assert_eq!(std::fs::read_to_string(&log).expect("a log"), "to standard output\nto standard error\n");
    let link = |name: &str| std::fs::read_link(format!("/proc/{daemon}/{name}")).expect("a link");
    assert_eq!((link("cwd"), link("fd/0"), link("fd/2")), ("/".into(), "/dev/null".into(), log.clone()));
    // pid, (name), state, parent, group, session, terminal
    let stat = std::fs::read_to_string(format!("/proc/{daemon}/stat")).expect("stat");
    let fields: Vec<i32> =
        stat.rsplit_once(") ").expect("a name").1.split(' ').skip(1).take(4).flat_map(str::parse).collect();
    let [_, group, session, terminal] = fields[..] else { panic!("{stat}") };
    assert_eq!(terminal, 0);
    assert!(group == session && session != daemon, "it leads no session, so that it never gets a terminal: {stat}");
    let (good, _, err) = ended(role("daemon").args([&pid, &log, &stay]));
    assert!(!good && err.contains("did not start") && err.contains(&format!("living server (pid {daemon})")), "{err}");
    assert_eq!(err.lines().count(), 1);
    std::fs::remove_file(&stay).expect("remove");
    until("the daemon ends", || !is_alive(daemon));
    assert!(!pid.exists());
}

fn daemons_that_fail() {
    let folder = Scratch::new("failing");
    let log = folder.path("log");
    let (good, _, err) = ended(&mut role("daemon that fails"));
    assert!(!good && err == "the daemon did not start: opening the gates: as it should\n", "{err}");
    let (good, _, err) = ended(role("daemon that panics").arg(&log));
    assert!(!good && err.contains("ended before it was ready") && err.lines().count() == 1, "{err}");
    assert!(std::fs::read_to_string(&log).expect("a log").contains("at the gates"));
}

fn a_daemon_without_a_starter() {
    let folder = Scratch::new("dawdling");
    let (stay, seen) = (folder.path("stay"), folder.path("seen"));
    std::fs::write(&stay, "").expect("write");
    let (good, _, err) = ended(role("daemon that dawdles").args([&stay, &seen]));
    assert!(!good && err.contains("not ready within 100ms"), "{err}");
    std::fs::remove_file(&stay).expect("remove");
    until("the daemon has seen it", || {
        std::fs::read_to_string(&seen).is_ok_and(|text| text.contains("has not waited"))
    });
}

fn pid_files() {
    let folder = Scratch::new("pid");
    let (pid, stay) = (folder.path("pid"), folder.path("stay"));
    std::fs::write(&stay, "").expect("write");
    for round in 0..3 {
        let mut server = role("pid file").args([&pid, &stay]).stdout(Stdio::piped()).spawn().expect("this program");
        let mut line = [0; 7];
        std::io::Read::read_exact(server.stdout.as_mut().expect("piped"), &mut line).expect("a line");
        let (good, _, err) = ended(role("pid file").args([&pid, &stay]));
        let says = format!("is that of a living server (pid {})", server.id());
        // Before the assertions, so that it is gone also when they fail.
        send(i32::try_from(server.id()).expect("a pid"), Signal::KILL);
        server.wait().expect("its end");
        assert!(!good && err.contains(&says) && err.lines().count() == 1, "{round}: {err}");
        assert!(pid.exists(), "left behind by the kill, and taken over by the next");
    }
    std::fs::remove_file(&stay).expect("remove");
    assert!(ended(role("pid file").args([&pid, &stay])).0);
    assert!(!pid.exists());
}

/// This program in the role of a server, as a service manager would start it: with these descriptors from 3 on, and these variables.
fn activated(sockets: &[&dyn AsFd], variables: &str, listen: &[&str]) -> (bool, String, String) {
    // A shell puts the descriptors where they belong; to it they come under the numbers that they have here.
    let copies: Vec<_> = sockets.iter().map(|socket| socket.as_fd().try_clone_to_owned().expect("a copy")).collect();
    for copy in &copies {
        rustix::io::fcntl_setfd(copy, rustix::io::FdFlags::empty()).expect("inherited");
    }
    let moves: String = copies.iter().zip(3..).map(|(copy, to)| format!("{to}<&{} ", copy.as_raw_fd())).collect();
    let script = format!("export LISTEN_PID=$$ {variables}; exec \"$0\" --role=sockets \"$@\" {moves}");
    let mut command = Command::new("bash");
    command.args(["-c", &script]).arg(std::env::current_exe().expect("a path")).args(listen).stdin(Stdio::null());
    ended(&mut command)
}

fn activation() {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let (web, clock) =
        (format!("tcp://{}", tcp.local_addr().expect("bound")), format!("udp://{}", udp.local_addr().expect("bound")));
    // By address and by name, in another order; and the variables are gone afterwards.
    let named = "LISTEN_FDS=2 LISTEN_FDNAMES=web:clock";
    for listen in [[web.as_str(), clock.as_str()], [web.as_str(), "systemd://clock"], ["systemd://web", clock.as_str()]]
    {
        let (good, out, err) = activated(&[&tcp, &udp], named, &listen);
        assert!(good && out == format!("{web}\n{clock}\nleft: None\n"), "{listen:?}: {out}{err}");
    }
    // What was not passed is opened; this one is taken.
    let (good, _, err) = activated(&[&udp], "LISTEN_FDS=1", &[&clock, &web]);
    assert!(!good && err.contains("in use") && err.lines().count() == 1, "{err}");
    for (sockets, variables, listen, why) in [
        (&[&tcp as &dyn AsFd, &udp][..], named, &[web.as_str()][..], "no address in listen asks for it"),
        (&[&tcp], "LISTEN_FDS=1 LISTEN_FDNAMES=a:b", &[&web], "2 names for 1 descriptors"),
        (&[&tcp], "LISTEN_FDS=many", &[&web], "no number"),
        (&[&tcp], "LISTEN_FDS=3", &[&web], "Bad file descriptor"),
        (&[&std::io::stdin()], "LISTEN_FDS=1", &[&web], "descriptor 3 is no socket"),
    ] {
        let (good, _, err) = activated(sockets, variables, listen);
        assert!(!good && err.contains(why) && err.lines().count() == 1, "{why}: {err}");
    }
    // Meant for somebody else: not even looked at.
    let (good, out, err) = activated(&[&tcp], "LISTEN_FDS=1 LISTEN_PID=1", &["tcp://127.0.0.1:0"]);
    assert!(good && out.starts_with("tcp://127.0.0.1:") && !out.contains(&web), "{out}{err}");
}

fn logs() {
    let folder = Scratch::new("logs");
    let log = folder.path("log");
    let (good, _, err) = ended(role("log").arg(&log));
    assert!(good, "{err}");
    let text = std::fs::read_to_string(&log).expect("a log");
    let mut next = [0; 4];
    for line in text.lines() {
        let (head, rest) = line.split_once("] ").expect("a head");
        let worker: usize = head
            .split("worker ")
            .nth(1)
            .and_then(|id| id.split('[').next())
            .expect("a worker")
            .parse()
            .expect("a number");
        let (number, filler) = rest.split_once(' ').expect("a number");
        assert_eq!(number.parse(), Ok(next[worker]), "in the order of each process");
        assert_eq!(filler, "x".repeat(100 + next[worker] % 500));
        next[worker] += 1;
    }
    assert_eq!(next, [500; 4]);
}

fn deaf_standard_error() {
    let mut server = role("complain").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("this program");
    // Not read before it has ended, which it could not if it waited.
    let mut status = None;
    until("it has ended", || {
        status = server.try_wait().expect("wait");
        status.is_some()
    });
    let Output { stdout, stderr, .. } = server.wait_with_output().expect("its output");
    let lost: usize = text(&stdout).trim().parse().expect("a number");
    let written = text(&stderr).lines().count();
    assert!(
        status.is_some_and(|status| status.success()) && written > 100 && lost > 100,
        "{written} written, {lost} lost"
    );
    assert_eq!(written + lost, 5000);
}

/// The most that one worker got, as a multiple of the mean.
fn most(how: usize, arrival: &str) -> f64 {
    let (good, out, err) = ended(role("spread").args([&how.to_string(), arrival]));
    assert!(good, "{err}");
    let counts: Vec<f64> = out.split_whitespace().map(|count| count.parse().expect("a number")).collect();
    assert_eq!((counts.len(), counts.iter().sum::<f64>()), (4, 100.0));
    counts.into_iter().fold(0.0, f64::max) / 25.0
}

fn spreads() {
    for arrival in ["burst", "drip"] {
        // A worker to which a busy machine gives no processor for long enough is passed over, and that is as it should be: so the median counts.
        let mut rounds = [0; 5].map(|_| most(3, arrival));
        rounds.sort_by(f64::total_cmp);
        assert!(rounds[2] <= 1.3, "{arrival}: one worker has {rounds:?} times the mean");
    }
    // One that is stopped gets nothing, and keeps nobody from being served.
    for arrival in ["burst", "drip"] {
        let (good, out, err) = ended(role("spread").args(["3", arrival, "stopped"]));
        assert!(good && out.starts_with("0 "), "{out}{err}");
        if std::env::var_os("COMMONS_LONG").is_some() {
            say(
                &mut std::io::stdout(),
                &format!("one of four stopped, {arrival}: {} in {} ms", out.trim(), err.trim()),
            );
        }
    }
    // The table in the essay of `server::listen`.
    if std::env::var_os("COMMONS_LONG").is_some() {
        for (how, name) in ["all", "exclusive", "each", "share"].iter().enumerate() {
            for arrival in ["burst", "drip"] {
                let mut rounds: Vec<_> = (0..20).map(|_| most(how, arrival)).collect();
                rounds.sort_by(f64::total_cmp);
                let bad = rounds.iter().filter(|most| **most > 1.3).count();
                let line = format!(
                    "{name:9} {arrival}: median {:.2}, worst {:.2}, {bad} of 20 above 1.3",
                    rounds[10], rounds[19]
                );
                say(&mut std::io::stdout(), &line);
            }
        }
    }
}
