//! A whole server under load, to which everything happens that happens to servers: processes are killed (workers, task workers, the manager), stopped and
//! continued, renewed; forks fail; descriptors run out; the disk is full. It always answers again within a second, no task is unaccounted for, and nothing is
//! left when it is over.
//!
//! `COMMONS_CHAOS_SECS` says how long, a minute unless it does; `COMMONS_CHAOS_SEED` repeats the dice.

#![allow(clippy::disallowed_types, reason = "threads of this test count together; nothing is shared between processes")]

mod fleet;
mod served;
mod single;

use commons::server::{Handler, Task, Worker};
use fleet::harm::{self, Disk, role, set_limit};
use fleet::load::{self, Seen};
use fleet::{Fleet, lasting, left_in, names_in, page, setting};
use rustix::process::{Resource, Signal, getrlimit};
use served::{Client, is_alive, send, until};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::process::ExitCode;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

const TESTS: &[single::Test] = &[
    ("it_always_answers_again_and_leaves_nothing", chaos),
    ("a_master_that_is_killed_under_load_leaves_nothing", master_killed),
    ("a_server_that_was_ready_is_not_given_up", never_given_up),
    ("a_worker_without_descriptors_goes_on_with_what_it_has", want),
];

const WORKERS: u64 = 3;
const TASK_WORKERS: u64 = 2;
const CLIENTS: usize = 16;
/// In which it has to answer again, whatever has happened.
const AGAIN: Duration = Duration::from_secs(1);
/// Descriptors that every process of the server has more of, and waits for fewer of at once: below that the kernel refuses to wait at all.
const FEW: u64 = 6;
/// Kinds of what happens, some of them more often than others.
const DECK: u64 = 19;
fn main() -> ExitCode {
    let play = |role: &str| {
        let folder = std::env::var("FLEET_FOLDER").expect("a folder");
        if role == "stranger" {
            harm::become_stranger();
        }
        page::builder()?
            .listen_with(&format!("unix://{folder}/socket"), Nothing)?
            .workers(if std::env::args().nth(1).as_deref() == Some("alone") { 1 } else { WORKERS as u32 })
            .task_workers(TASK_WORKERS as u32)
            .with(|config| config.pid_file(format!("{folder}/pid")).log_file(format!("{folder}/disk/log")))
            .with(|config| config.reload_grace(Duration::from_secs(3)).stop_grace(Duration::from_secs(3)))
            .run(Fickle(format!("{folder}/broken").into()))
    };
    fleet::role(play).unwrap_or_else(|| single::run(TESTS))
}

/// Who cannot begin while this file is there.
struct Fickle(std::path::PathBuf);

impl Handler for Fickle {
    async fn worker_start(&self, _: &Worker) -> commons::Result<()> {
        if self.0.exists() { Err(commons::Error::Closed) } else { Ok(()) }
    }

    async fn pipe_message(&self, worker: &Worker, from: usize, data: Vec<u8>) -> commons::Result<()> {
        page::Backwards.pipe_message(worker, from, data).await
    }

    fn task(&self, worker: &Worker, task: &Task) -> commons::Result<Vec<u8>> {
        page::Backwards.task(worker, task)
    }
}

/// Who listens at the unix socket.
struct Nothing;

impl Handler for Nothing {}

/// What is in force for a while, and how it is undone.
enum Undo {
    Continue(i32),
    Limit(i32, Resource),
    Free,
}

struct Chaos<'a> {
    fleet: &'a Fleet,
    disk: &'a Disk,
    dice: fleet::dice::Dice,
    seed: u64,
    /// One at a time: else all workers might be stopped at once, and nobody left to answer.
    in_force: Option<(Instant, Undo)>,
    /// The manager, and since when it has been seen.
    manager: (i32, Instant),
    seen: BTreeSet<i32>,
    deeds: BTreeMap<&'static str, u64>,
    /// What is to come, shuffled: so that a short run has something of everything.
    deck: Vec<u64>,
    /// Who asked for poison, and waits.
    poisoned: VecDeque<Client>,
    longest: Duration,
}

impl Chaos<'_> {
    fn did(&mut self, what: &'static str) -> bool {
        *self.deeds.entry(what).or_default() += 1;
        true
    }

    /// A process that serves in these places.
    fn one_of(&mut self, places: std::ops::Range<u64>) -> Option<i32> {
        let all = self.fleet.stats().serving(places);
        let all: Vec<_> = all.into_iter().filter(|pid| is_alive(*pid)).collect();
        all.get(self.dice.roll(all.len().max(1) as u64) as usize).copied()
    }

    /// A signal to one that is this server's at this instant: what has died meanwhile may be anybody by now.
    fn hit(&self, pid: i32, signal: Signal) -> bool {
        let ours = self.fleet.all().contains(&pid);
        if ours {
            send(pid, signal);
        }
        ours
    }

    fn for_a_while(&mut self, undo: Undo) -> Instant {
        let until = Instant::now() + Duration::from_millis(20 + self.dice.roll(380));
        self.in_force = Some((until, undo));
        until
    }

    fn undo(&mut self, at_once: bool) {
        if self.in_force.as_ref().is_none_or(|(until, _)| !at_once && *until > Instant::now()) {
            return;
        }
        match self.in_force.take() {
            Some((_, Undo::Continue(pid))) => _ = self.hit(pid, Signal::CONT),
            Some((_, Undo::Limit(pid, what))) => _ = set_limit(pid, what, getrlimit(what).current),
            Some((_, Undo::Free)) => self.rotate(),
            None => {}
        }
    }

    /// As who rotates logs does it.
    fn rotate(&mut self) {
        self.disk.free();
        self.fleet.keep("disk/log");
        self.fleet.signal(Signal::WINCH);
        self.did("logs rotated");
    }

    fn turn(&mut self) {
        self.undo(false);
        self.seen.extend(self.fleet.all());
        if let Some(manager) = self.fleet.manager().filter(|manager| *manager != self.manager.0) {
            self.manager = (manager, Instant::now());
        }
        let calm = self.in_force.is_none();
        let (workers, tasks) = (0..WORKERS, WORKERS..WORKERS + TASK_WORKERS);
        // A manager that is killed within its first second is an early death, after which its master waits.
        let ripe = calm && self.manager.1.elapsed() > Duration::from_millis(1500);
        if self.deck.is_empty() {
            self.deck = (0..DECK).collect();
        }
        let card = self.dice.roll(self.deck.len() as u64) as usize;
        let whole = self.fleet.stats().serving(workers.clone()).len() as u64;
        let dealt = match self.deck[card] {
            0..3 if calm && whole > 1 => self.kill(workers, "workers killed"),
            3..5 => self.kill(tasks, "task workers killed"),
            5 if ripe => self.hit(self.manager.0, Signal::KILL) && self.did("managers killed"),
            6 if ripe && whole == WORKERS => {
                let all = self.fleet.stats().serving(workers);
                let hit = all.into_iter().filter(|pid| self.hit(*pid, Signal::KILL)).count();
                hit > 0 && self.did("all workers killed at once")
            }
            card @ 7..12 if calm => self.stop(card - 7),
            12 if calm => self.starve(Resource::Nproc, self.manager.0, "managers that could not fork"),
            13 if calm => self.starve(Resource::Nofile, self.manager.0, "managers without descriptors"),
            14 if calm => {
                let worker = self.one_of(workers);
                worker.is_some_and(|pid| self.starve(Resource::Nofile, pid, "workers without descriptors"))
            }
            15 if calm && self.disk.mounted => {
                self.disk.fill();
                self.for_a_while(Undo::Free);
                self.did("full disks")
            }
            16 => {
                self.fleet.signal(Signal::USR1);
                self.did("reloads")
            }
            17 => {
                self.fleet.signal(Signal::USR2);
                self.did("reloads of task workers")
            }
            18 => self.poison(),
            // Where nothing may be mounted.
            15 if !self.disk.mounted => true,
            _ => false,
        };
        if dealt {
            self.deck.swap_remove(card);
        }
        self.answers_again();
        std::thread::sleep(Duration::from_millis(20 + self.dice.roll(120)));
    }

    fn kill(&mut self, places: std::ops::Range<u64>, what: &'static str) -> bool {
        let victim = self.one_of(places);
        victim.is_some_and(|pid| self.hit(pid, Signal::KILL) && self.did(what))
    }

    fn stop(&mut self, whom: u64) -> bool {
        let (what, victim) = match whom {
            0 => ("masters stopped", Some(self.fleet.master())),
            1 => ("managers stopped", Some(self.manager.0)),
            2 => ("task workers stopped", self.one_of(WORKERS..WORKERS + TASK_WORKERS)),
            _ => ("workers stopped", self.one_of(0..WORKERS)),
        };
        victim.is_some_and(|pid| {
            if !self.hit(pid, Signal::STOP) {
                return false;
            }
            let until = self.for_a_while(Undo::Continue(pid));
            // On time also when this test itself waits for an answer of the one that is stopped.
            std::thread::spawn(move || {
                std::thread::sleep(until.saturating_duration_since(Instant::now()));
                send(pid, Signal::CONT);
            });
            self.did(what)
        })
    }

    /// No processes, or no descriptors, for a while; for the manager while it has to replace somebody.
    fn starve(&mut self, what: Resource, pid: i32, deed: &'static str) -> bool {
        if !set_limit(pid, what, Some(if what == Resource::Nofile { FEW } else { 0 })) {
            return false;
        }
        self.for_a_while(Undo::Limit(pid, what));
        if pid == self.manager.0 && self.fleet.stats().serving(0..WORKERS).len() as u64 == WORKERS {
            self.kill(0..WORKERS, "workers killed");
        }
        self.did(deed)
    }

    /// A task of which every worker dies that tries it: lost, after its attempts.
    fn poison(&mut self) -> bool {
        let client = Client::within(self.fleet.address, AGAIN);
        // Whoever breaks off has asked for nothing; so it waits, and those who have waited for long enough go.
        let asked =
            client.and_then(|mut client| client.write("GET /task/poison HTTP/1.1\r\nHost: x\r\n\r\n").map(|()| client));
        let Ok(client) = asked else { return false };
        self.poisoned.push_back(client);
        if self.poisoned.len() > 16 {
            self.poisoned.pop_front();
        }
        self.did("poisoned tasks")
    }

    fn answers_again(&mut self) {
        let waited = load::answered_within(self.fleet.address, AGAIN);
        let Some(waited) = waited else {
            panic!("COMMONS_CHAOS_SEED={}: no answer for {AGAIN:?}, after {:?}", self.seed, self.deeds);
        };
        self.longest = self.longest.max(waited);
    }
}

struct Stop<'a>(&'a Seen);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

const PATHS: &[&str] = &["/", "/task/abc", "/", "/stats", "/task/slow", "/pid", "/task/abcdefghijklmnopqrstuvwxyz"];

fn chaos() {
    let seconds = Duration::from_secs(setting("COMMONS_CHAOS_SECS", 60));
    let seed = setting("COMMONS_CHAOS_SEED", std::process::id().into());
    lasting(seconds);
    let shm = names_in("/dev/shm");
    let disk = Disk::new();
    let mut fleet = Fleet::start_in(disk.folder(), role(), &[]);
    let loaded = Seen::default();
    let (deeds, longest, mut pids) = std::thread::scope(|scope| {
        let _stop = Stop(&loaded);
        load::start(scope, CLIENTS, fleet.address, PATHS, &loaded);
        let manager = (fleet.manager().expect("it is there"), Instant::now());
        let mut chaos = Chaos {
            fleet: &fleet,
            disk: &disk,
            dice: fleet::dice::Dice::new(seed),
            seed,
            in_force: None,
            manager,
            seen: BTreeSet::new(),
            deeds: BTreeMap::new(),
            deck: Vec::new(),
            poisoned: VecDeque::new(),
            longest: Duration::ZERO,
        };
        let began = Instant::now();
        while began.elapsed() < seconds {
            chaos.turn();
        }
        chaos.undo(true);
        chaos.answers_again();
        (chaos.deeds, chaos.longest, chaos.seen)
    });
    until("all places are filled, and all is at rest", || {
        let now = fleet.stats();
        now.serving(0..WORKERS + TASK_WORKERS).len() as u64 == WORKERS + TASK_WORKERS
            && now.those("leaving", 0..WORKERS + TASK_WORKERS).is_empty()
            && now.number("connections") == 1
            && now.of_tasks("queued") + now.of_tasks("running") + now.of_tasks("undelivered") == 0
    });
    let figures = fleet.stats();
    single::println(&format!(
        "  COMMONS_CHAOS_SEED={seed}, {seconds:?}: {deeds:?}; the longest silence {longest:?}; {}",
        loaded.words()
    ));
    single::println(&format!("  {}", figures.0));
    assert_eq!(loaded.failed.load(SeqCst), 0, "{}", loaded.words());
    assert_eq!(figures.of_tasks("accepted"), figures.of_tasks("finished") + figures.of_tasks("lost"));
    assert!(figures.of_tasks("finished") >= loaded.done.load(SeqCst), "less than clients were told");
    assert!(figures.of_tasks("lost") >= loaded.lost.load(SeqCst));
    assert!(figures.number("requests") >= loaded.answered.load(SeqCst), "less than were answered");
    assert!(figures.number("accepted") >= loaded.turned_away.load(SeqCst));
    pids.extend(fleet.all());
    let address = fleet.address;
    fleet.signal(Signal::TERM);
    assert_eq!(fleet.leave().code(), Some(0), "{}", fleet.log());
    nothing_is_left(&fleet, &pids, &shm);
    assert!(Client::within(address, AGAIN).is_err());
    assert!(deeds.values().sum::<u64>() >= seconds.as_secs() * 3, "too little happened: {deeds:?}");
}

fn nothing_is_left(fleet: &Fleet, pids: &BTreeSet<i32>, shm: &BTreeSet<std::ffi::OsString>) {
    until("no process is left", || !pids.iter().any(|pid| is_alive(*pid)));
    assert_eq!(fleet.folder.names(), ["disk", "log"]);
    assert!(left_in("/dev/shm", shm).is_empty());
}

/// The manager stops what there is, and takes away what is on the disk.
fn master_killed() {
    let shm = names_in("/dev/shm");
    let disk = Disk::new();
    let mut fleet = Fleet::start_in(disk.folder(), role(), &[]);
    assert_eq!(fleet.folder.names(), ["disk", "log", "pid", "socket"]);
    let loaded = Seen::default();
    std::thread::scope(|scope| {
        let _stop = Stop(&loaded);
        load::start(scope, CLIENTS, fleet.address, PATHS, &loaded);
        until("there is load", || loaded.answered.load(SeqCst) > 200);
        let pids = fleet.all();
        fleet.signal(Signal::KILL);
        fleet.leave();
        nothing_is_left(&fleet, &pids, &shm);
    });
    assert!(fleet.log().contains("the master is gone: stopping"), "{}", fleet.log());
}

/// What waits in it has what it needs to wait with, and goes on all the while.
fn want() {
    let disk = Disk::new();
    let fleet = Fleet::start_in(disk.folder(), role(), &["alone"]);
    let mut client = fleet.connect();
    let number = |client: &mut Client, path: &str| client.get(path).text().parse::<i32>().expect("a number");
    let worker = number(&mut client, "/pid");
    assert_eq!(number(&mut client, "/told"), 0);
    assert!(set_limit(worker, Resource::Nofile, Some(FEW)));
    for _ in 0..5 {
        assert_eq!((client.get("/tell").status, client.get("/task/abc").status), (200, 200));
    }
    until("all messages have arrived", || number(&mut client, "/told") == 5);
    assert!(!fleet.log().contains("held up"), "{}", fleet.log());
    assert!(set_limit(worker, Resource::Nofile, getrlimit(Resource::Nofile).current));
    assert_eq!((client.get("/tell").status, number(&mut client, "/pid")), (200, worker));
    until("the next one too", || number(&mut client, "/told") == 6);
}

/// A manager that follows another one, and of whose workers none can begin, gives up; not so its master, for it has been ready before.
fn never_given_up() {
    let disk = Disk::new();
    let mut fleet = Fleet::start_in(disk.folder(), role(), &["alone"]);
    std::fs::write(fleet.folder.path("broken"), "").expect("a file");
    send(fleet.manager().expect("it is there"), Signal::KILL);
    until("two managers have given up", || {
        assert!(fleet.left().is_none(), "it has left: {}", fleet.log());
        fleet.log().matches("and with it all workers").count() == 3
    });
    std::fs::remove_file(fleet.folder.path("broken")).expect("it is there");
    assert_eq!(fleet.get("/").status, 200);
    fleet.signal(Signal::TERM);
    assert_eq!(fleet.leave().code(), Some(0), "{}", fleet.log());
}
