//! The examples, each with a real client: `socat`, or a few lines of Rust where something has to happen in between.

#[path = "under_test/mod.rs"]
mod under_test;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use under_test::{PATIENCE, Running, Scratch, Test, children, println, send, until};

const TESTS: &[Test] = &[
    ("echo_sends_back_what_it_gets", echo),
    ("the_udp_clock_tells_the_time", udp_clock),
    ("the_chat_keeps_its_history_though_its_workers_die", chat),
    ("the_tasks_are_done_though_their_worker_is_killed", tasks),
];

fn main() -> ExitCode {
    under_test::main(TESTS)
}

/// An example, built as this test was: `cargo test --test examples` builds none by itself, and would run those of some other day.
fn example(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let this = std::env::current_exe().expect("this program");
        let profile = this.parent().and_then(Path::parent).expect("target/PROFILE/deps");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--examples", "--target-dir"]).arg(profile.parent().expect("target"));
        if profile.ends_with("release") {
            build.arg("--release");
        }
        let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo");
        assert!(built.success(), "the examples do not build");
        profile.join("examples")
    });
    folder.join(name)
}

#[track_caller]
fn start(name: &str, address: &str) -> Running {
    let mut command = Command::new(example(name));
    command.arg(address).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut server = Running::by(&mut command);
    server.wait_ready();
    server
}

fn has_socat() -> bool {
    let there = Command::new("socat").arg("-V").output().is_ok();
    if !there {
        println("  skipped: there is no socat on this machine (apt-get install socat)");
    }
    there
}

/// What socat prints that is given this.
#[track_caller]
fn socat(address: &str, input: &[u8]) -> Vec<u8> {
    let mut socat = Command::new("socat")
        .args(["-t10", "-T20", "-", address])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("socat");
    let mut stdin = socat.stdin.take().expect("piped");
    let input = input.to_vec();
    let writing = std::thread::spawn(move || stdin.write_all(&input));
    let output = socat.wait_with_output().expect("socat ends");
    let _ = writing.join();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

fn echo() {
    if !has_socat() {
        return;
    }
    let mut server = start("echo", "tcp://127.0.0.1:0");
    let address = format!("TCP:{}", server.address);
    assert_eq!(socat(&address, b"hello"), b"hello");
    let long: Vec<u8> = (0..2_000_000_u32).map(|at| (at % 251) as u8).collect();
    assert_eq!(socat(&address, &long), long);
    server.signal(Signal::USR1);
    server.log.next("reloaded");
    assert_eq!(socat(&address, b"hello again"), b"hello again");
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let last = server.told.next("pieces were sent back");
    let pieces: u64 = last.split(' ').next().unwrap().parse().unwrap();
    assert!(pieces >= 3, "those of all workers, the old ones too: {last}");
}

fn udp_clock() {
    if !has_socat() {
        return;
    }
    let server = start("udp_clock", "udp://127.0.0.1:0");
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let before = now();
    let mut socat = Command::new("socat")
        .args(["-t10", "-", &format!("UDP:{}", server.address)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    socat.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    let mut line = String::new();
    BufReader::new(socat.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let _ = socat.kill();
    let _ = socat.wait();
    let told: u128 = line.trim().parse().unwrap();
    assert!((before..=now()).contains(&told), "{told}");
    server.stop();
}

struct Guest(BufReader<UnixStream>);

impl Guest {
    fn new(socket: &Path) -> Guest {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Guest(BufReader::new(stream))
    }

    fn say(&mut self, line: &str) {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    #[track_caller]
    fn line(&mut self) -> String {
        let mut heard = String::new();
        assert!(self.0.read_line(&mut heard).unwrap() > 0, "it is closed");
        heard.trim_end().to_owned()
    }

    #[track_caller]
    fn hears(&mut self, line: &str) {
        assert_eq!(self.line(), line);
    }
}

fn chat() {
    let folder = Scratch::new();
    let socket = folder.path("chat");
    let mut server = start("chat", &format!("unix://{}", socket.display()));
    // The first of each is taken by one of the two workers, the next by the one that has fewer.
    let mut guests: Vec<_> = (0..6).map(|_| Guest::new(&socket)).collect();
    let workers = children(server.manager());
    assert_eq!(workers.len(), 2);
    // Only who has been taken hears what is said; history would bring it too, once.
    for at in 0..6 {
        guests[at].say(&format!("line {at}"));
        guests.iter_mut().for_each(|guest| guest.hears(&format!("line {at}")));
    }
    if has_socat() {
        // A newcomer is told what was said, by a socat that leaves when its input has ended.
        let heard = socat(&format!("UNIX-CONNECT:{}", socket.display()), b"");
        assert_eq!(heard, b"line 0\nline 1\nline 2\nline 3\nline 4\nline 5\n");
    }
    // One worker dies, and its guests with it; the others go on, and nothing that was said is lost.
    send(workers[0], Signal::KILL);
    server.log.next("was killed by signal 9");
    server.log.next("is ready");
    let mut newcomer = Guest::new(&socket);
    (0..6).for_each(|at| newcomer.hears(&format!("line {at}")));
    newcomer.say("after the death");
    newcomer.hears("after the death");
    let mut there = 0;
    for guest in &mut guests {
        let mut line = String::new();
        if guest.0.read_line(&mut line).is_ok_and(|n| n > 0) {
            assert_eq!(line, "after the death\n");
            there += 1;
        }
    }
    assert!((1..6).contains(&there), "{there} guests of the worker that lives");
    // Both workers are renewed. Who is with one that leaves hears who is with its successor, and is heard.
    server.signal(Signal::USR1);
    until("both are renewed", || {
        newcomer.say("are you there?");
        newcomer.hears("are you there?");
        server.log.count("reloaded") > 0
    });
    let mut late = Guest::new(&socket);
    late.say("to all");
    while late.line() != "to all" {}
    newcomer.hears("to all");
    newcomer.say("to you");
    newcomer.hears("to you");
    late.hears("to you");
    drop(late);
    let mut rest = Vec::new();
    drop(guests);
    newcomer.0.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
    assert!(newcomer.0.read_to_end(&mut rest).is_ok() && rest.is_empty());
    server.stop();
    assert!(!socket.exists());
}

fn tasks() {
    let mut server = start("tasks", "tcp://127.0.0.1:0");
    if has_socat() {
        let factors = socat(&format!("TCP:{}", server.address), b"12\n1000003\nnonsense\n97\n");
        assert_eq!(factors, b"2 2 3\n1000003\nnot a number below 2^64\n97\n");
    }
    let workers = children(server.manager());
    let used = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(11)?.parse::<u64>().ok()).unwrap_or_default()
    };
    let before: Vec<_> = workers.iter().map(|pid| (*pid, used(*pid))).collect();
    // Some seconds of work; whose, shows its use of the processor.
    let mut client = BufReader::new(TcpStream::connect(server.address).unwrap());
    client.get_ref().set_read_timeout(Some(PATIENCE * 2)).unwrap();
    client.get_mut().write_all(b"3000000000000037\n").unwrap();
    let mut busy = None;
    until("one of them is busy", || {
        busy = before.iter().find(|(pid, used_before)| used(*pid) > used_before + 10).map(|(pid, _)| *pid);
        busy.is_some()
    });
    send(busy.unwrap(), Signal::KILL);
    server.log.next("task worker");
    let mut line = String::new();
    client.read_line(&mut line).unwrap();
    let product: u64 = line.split_whitespace().map(|factor| factor.parse::<u64>().unwrap()).product();
    assert_eq!(product, 3_000_000_000_000_037, "{line}");
    drop(client);
    server.stop();
}
