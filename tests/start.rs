//! What only a process with a single thread can show: the library's server, started by a program of our own.
//!
//! libtest always runs tests in threads, so this file has its own `main`: it starts itself again in a role, and that
//! process has one thread.

mod served;
mod single;

use commons::Error;
use commons::server::counters::{Notice, Options};
use rustix::process::{Pid, Signal, WaitOptions, waitpid};
use served::{Client, SOON};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const TESTS: &[single::Test] = &[
    ("a_program_of_its_own_serves_and_goes_on_afterwards", serves),
    ("a_second_thread_is_refused_and_its_end_forgives", threads),
    ("another_process_than_the_binder_is_refused", wrong_process),
];

fn main() -> ExitCode {
    if let Some(role) = std::env::args().nth(1).as_deref().and_then(|first| first.strip_prefix("--role=")) {
        return ExitCode::from(play(role));
    }
    single::run(TESTS)
}

/// What this program does when it is started in a role; 0 when all was as it should be.
fn play(role: &str) -> u8 {
    let options = Options::default().port(0).workers(2).grace(Duration::from_secs(2));
    let server = options.bind().expect("a port");
    match role {
        "serve" => {
            let result = server.run(|notice| {
                if let Notice::Started { address, workers, .. } = &notice {
                    single::println(&format!("{address} {}", workers.len()));
                }
            });
            // The program has its signals and children back: SIGTERM would end it here, and a child is its own to wait for.
            let status = Command::new("true").status().expect("a child");
            u8::from(!(result.is_ok() && status.success()))
        }
        "threads" => {
            let (stop, stopped) = mpsc::channel::<()>();
            let other = thread::spawn(move || stopped.recv().is_err());
            let refused = matches!(server.run(|_| {}), Err(Error::Threads { threads: 2, call: "Counters::run" }));
            drop(stop);
            let ended = other.join().is_ok();
            u8::from(!(refused && ended))
        }
        "wrong process" => {
            #[allow(unsafe_code)]
            // SAFETY: this process has one thread, so the child may do all that its parent may.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                let refused = matches!(server.run(|_| {}), Err(Error::WrongProcess { .. }));
                std::process::exit(i32::from(!refused));
            }
            let status = waitpid(Pid::from_raw(pid), WaitOptions::empty()).expect("wait").expect("an end").1;
            u8::from(status.exit_status() != Some(0))
        }
        _ => 99,
    }
}

/// This program in a role; killed when the test ends.
struct Player(Child);

impl Player {
    fn start(role: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("a path"));
        Self(command.arg(format!("--role={role}")).stdout(Stdio::piped()).spawn().expect("this program"))
    }

    fn code(&mut self) -> Option<i32> {
        let mut status = None;
        served::until("the program ends", || {
            status = self.0.try_wait().expect("wait");
            status.is_some()
        });
        status.and_then(|status| status.code())
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serves() {
    let mut player = Player::start("serve");
    let (sender, line) = mpsc::channel();
    let stdout = player.0.stdout.take().expect("piped");
    thread::spawn(move || {
        let mut text = String::new();
        let mut stdout = BufReader::new(stdout);
        let _ = stdout.read_line(&mut text);
        let _ = sender.send(text);
        let _ = stdout.read_to_string(&mut String::new());
    });
    let line = line.recv_timeout(SOON).expect("a line");
    let (address, workers) = line.trim().split_once(' ').expect("address and workers");
    assert_eq!(workers, "2");
    let address = address.parse().expect("an address");
    for _ in 0..3 {
        assert_eq!(Client::connect(address).expect("connect").get("/").status, 200);
    }
    served::send(i32::try_from(player.0.id()).expect("a pid"), Signal::TERM);
    assert_eq!(player.code(), Some(0));
    assert!(Client::connect(address).is_err());
}

fn threads() {
    assert_eq!(Player::start("threads").code(), Some(0));
}

fn wrong_process() {
    assert_eq!(Player::start("wrong process").code(), Some(0));
}
