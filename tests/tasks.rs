//! Tasks between processes that are killed at random: senders, task workers, and the managers that look after the dead. Every accepted task is finished, or
//! reported lost after its attempts; its sender is answered once; the ledger says exactly that; nothing is left in the vaults. COMMONS_CHAOS_SECS says how
//! long, COMMONS_CHAOS_SEED repeats the dice.

mod common;
mod fuse;
mod ledger;

use std::time::{Duration, Instant};

use common::dice::Dice;
use common::{Child, Exit, die, in_child, note, sleep_for_ever, until};
use commons::harness::crew::{Answer, Ledger, Roll, Sender, Task, TaskQueue, TaskSize, Tenancy};
use commons::{Error, recover};
use fuse::{BURNT, risk};
use ledger::{Numbers, setting};
use rustix::process::Signal;

const SENDERS: usize = 3;
const WORKERS: usize = 3;
const SWEEPERS: usize = 1;
const LIVES: usize = SENDERS + WORKERS + SWEEPERS;
const ATTEMPTS: u32 = 2;
const SOON: Duration = Duration::from_millis(20);

/// Tasks of one sender's slot, over all its lives.
const MOST: u64 = 1 << 20;

/// What is known of a task: counts of eight bits each in one number, and who handed it in.
const TRIED: u64 = 1;
const ACCEPTED: u64 = 2;
const RUNS: u32 = 8;
const ENDING: u32 = 16;
const ENDED: u32 = 24;
const GOOD: u32 = 32;
const BAD: u32 = 40;
const LIFE: u32 = 48;

/// What a task asks for.
const WORK: u64 = 0;
const FAIL: u64 = 1;
const POISON: u64 = 2;
const LEAVE: u64 = 3;

struct World {
    roll: Roll,
    queue: TaskQueue,
    tasks: Numbers,
    /// Stop handing in; stop altogether; the next number of each sender; things that must not be.
    signs: Numbers,
    /// Whether senders die too.
    mortal: bool,
}

const STOP: usize = 0;
const END: usize = 1;
const NEXT: usize = 2;
const AGAIN: usize = NEXT + SENDERS;

fn count(word: u64, at: u32) -> u64 {
    word >> at & 0xff
}

fn length(dice: &mut Dice) -> usize {
    match dice.roll(24) {
        0 => dice.roll(200_000) as usize,
        1..=8 => 1000 + dice.roll(200) as usize,
        _ => dice.roll(200) as usize,
    }
}

/// Who and the how-many-eth, what is asked for, how long the result is to be, and bytes that say that it is whole.
fn write(cell: u64, ask: u64, result: usize, len: usize) -> Vec<u8> {
    let mut data = Vec::with_capacity(24 + len);
    for word in [cell, ask, result as u64] {
        data.extend_from_slice(&word.to_le_bytes());
    }
    data.resize(24 + len, cell as u8);
    data
}

fn read(data: &[u8]) -> (u64, u64, usize) {
    let word = |at: usize| u64::from_le_bytes(data[at..at + 8].try_into().unwrap());
    let cell = word(0);
    assert!(data[24..].iter().all(|byte| *byte == cell as u8), "a task is torn: {} bytes", data.len());
    (cell, word(8), word(16) as usize)
}

fn outcome(cell: u64, len: usize) -> Vec<u8> {
    let mut data = cell.to_le_bytes().to_vec();
    data.resize(8 + len, !cell as u8);
    data
}

impl World {
    fn new(size: TaskSize, mortal: bool) -> World {
        let roll = Roll::new(SENDERS).unwrap();
        let queue = TaskQueue::new(&roll, size).unwrap();
        World { roll, queue, tasks: Numbers::new(SENDERS * MOST as usize), signs: Numbers::new(AGAIN + 1), mortal }
    }

    fn spawn(&self, who: usize, seed: u64) -> Child {
        in_child(|| match who {
            0..SENDERS => self.send(who, seed),
            _ if who < SENDERS + WORKERS => self.work(seed),
            _ => self.sweep(seed),
        })
    }

    fn said(&self, sign: usize) -> bool {
        self.signs.get(sign) != 0
    }

    fn send(&self, me: usize, seed: u64) {
        let tenancy = self.roll.attach(me as u32).unwrap();
        let sender = self.queue.sender(&tenancy).unwrap();
        let mut dice = Dice::new(seed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut known = Known { world: self, life: tenancy.address().generation, open: Vec::new() };
        while !self.said(STOP) {
            for _ in 0..dice.roll(12) {
                self.submit(me, &sender, &mut known, &mut dice, &runtime);
            }
            let came = match dice.roll(3) {
                0 => sender.try_recv().unwrap(),
                1 => {
                    runtime.block_on(async { tokio::time::timeout(SOON, sender.recv()).await.ok() }).map(Result::unwrap)
                }
                _ => self.risk(&mut dice, 60, || self.wait(&sender)),
            };
            came.into_iter().for_each(|answer| known.book(answer));
            while let Some(answer) = self.risk(&mut dice, 30, || sender.try_recv()).unwrap() {
                known.book(answer);
            }
        }
        // Answered, all of them, or killed first.
        while sender.unanswered() > 0 {
            self.wait(&sender).into_iter().for_each(|answer| known.book(answer));
        }
        assert!(known.open.is_empty(), "nobody answers {:?}", known.open);
    }

    /// A sender's risk.
    fn risk<R>(&self, dice: &mut Dice, micros: u64, f: impl FnOnce() -> R) -> R {
        if self.mortal && !self.said(STOP) { risk(dice, 6, micros, f) } else { f() }
    }

    fn wait(&self, sender: &Sender) -> Option<Answer> {
        match sender.recv_timeout(SOON) {
            Ok(answer) => Some(answer),
            Err(Error::Timeout { .. }) => None,
            Err(other) => panic!("{other}"),
        }
    }

    fn submit(
        &self,
        me: usize,
        sender: &Sender,
        known: &mut Known<'_>,
        dice: &mut Dice,
        runtime: &tokio::runtime::Runtime,
    ) {
        let n = self.signs.get(NEXT + me);
        assert!(n < MOST, "the ledger has no room for so many");
        self.signs.set(NEXT + me, n + 1);
        let cell = me as u64 * MOST + n;
        let ask = match dice.roll(200) {
            0 => POISON,
            1..4 => LEAVE,
            4..8 => FAIL,
            _ => WORK,
        };
        let data = write(cell, ask, length(dice), length(dice));
        self.tasks.add(cell as usize, TRIED | known.life << LIFE);
        let submitted = match dice.roll(4) {
            0 => self.risk(dice, 100, || sender.try_submit(&data)),
            1 => runtime.block_on(async {
                let submit = sender.submit(&data);
                tokio::time::timeout(SOON, submit).await.unwrap_or(Err(Error::Timeout { after: SOON }))
            }),
            _ => self.risk(dice, 100, || sender.submit_timeout(&data, SOON)),
        };
        match submitted {
            Ok(id) => {
                self.tasks.add(cell as usize, ACCEPTED);
                known.open.push((id, cell));
            }
            Err(Error::Full { .. } | Error::Timeout { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }

    fn work(&self, seed: u64) {
        let worker = self.queue.worker();
        let mut dice = Dice::new(seed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        while !self.said(END) {
            let taken = match dice.roll(4) {
                0 => worker.try_take().unwrap(),
                1 => {
                    runtime.block_on(async { tokio::time::timeout(SOON, worker.take()).await.ok() }).map(Result::unwrap)
                }
                _ => match risk(&mut dice, 6, 50, || worker.take_timeout(SOON)) {
                    Ok(task) => Some(task),
                    Err(Error::Timeout { .. }) => None,
                    Err(other) => panic!("{other}"),
                },
            };
            if let Some(task) = taken {
                self.run(task, &mut dice);
            }
        }
    }

    fn run(&self, task: Task, dice: &mut Dice) {
        let (cell, ask, len) = read(task.data());
        let at = cell as usize;
        // What has its outcome is not run again.
        if count(self.tasks.get(at), ENDED) > 0 {
            self.signs.add(AGAIN, 1);
        }
        self.tasks.add(at, 1 << RUNS);
        if dice.roll(8) == 0 {
            std::thread::sleep(Duration::from_micros(dice.roll(3000)));
        }
        match ask {
            POISON => die(),
            LEAVE if task.tries() < ATTEMPTS => drop(task),
            FAIL => {
                self.tasks.add(at, 1 << ENDING);
                risk(dice, 6, 80, || task.fail("it could not")).unwrap();
                self.tasks.add(at, 1 << ENDED);
            }
            _ => {
                let result = outcome(cell, len);
                self.tasks.add(at, 1 << ENDING);
                risk(dice, 6, 150, || task.finish(&result)).unwrap();
                self.tasks.add(at, 1 << ENDED);
            }
        }
    }

    /// Managers die as well, in the middle of looking after the dead.
    fn sweep(&self, seed: u64) {
        let mut dice = Dice::new(seed);
        while !self.said(END) {
            risk(&mut dice, 4, 50, || self.queue.sweep()).unwrap();
            std::thread::sleep(Duration::from_micros(dice.roll(500)));
        }
    }

    fn all(&self) -> impl Iterator<Item = u64> {
        let cells = (0..SENDERS as u64).flat_map(|who| (0..self.signs.get(NEXT + who as usize)).map(move |n| (who, n)));
        cells.map(|(who, n)| self.tasks.get((who * MOST + n) as usize))
    }
}

/// What a sender's life knows of its tasks.
struct Known<'w> {
    world: &'w World,
    life: u64,
    open: Vec<(commons::TaskId, u64)>,
}

impl Known<'_> {
    fn book(&mut self, answer: Answer) {
        let at = self.open.iter().position(|(id, _)| *id == answer.id).expect("an answer to what was asked, once");
        let (id, cell) = self.open.swap_remove(at);
        assert_eq!((id.generation(), u64::from(id.slot())), (self.life, cell / MOST));
        match answer.result {
            Ok(result) => {
                assert!(result == outcome(cell, result.len() - 8), "another one's result, or a torn one");
                self.world.tasks.add(cell as usize, 1 << GOOD);
            }
            Err(Error::TaskFailed { why, .. }) => {
                assert_eq!(why, "it could not");
                self.world.tasks.add(cell as usize, 1 << GOOD);
            }
            Err(Error::TaskLost { id: lost, attempts }) => {
                assert_eq!((lost, attempts), (id, ATTEMPTS));
                self.world.tasks.add(cell as usize, 1 << BAD);
            }
            Err(other) => panic!("{other}"),
        }
    }
}

/// Kills whom `victims` names until the time is over, has the rest answered, and judges. Poison kills task workers in any case.
fn chaos(victims: &[usize]) {
    let _alone = common::alone();
    let seconds = Duration::from_secs(setting("COMMONS_CHAOS_SECS", 3));
    let seed = setting("COMMONS_CHAOS_SEED", std::process::id().into());
    note(&format!("COMMONS_CHAOS_SEED={seed}"));
    let world = World::new(
        TaskSize { tasks: 24, attempts: ATTEMPTS, unanswered: 16, large: 4, bytes: 1 << 20 },
        victims.contains(&0),
    );
    let mut dice = Dice::new(seed);
    let mut lives: Vec<Option<Child>> = (0..LIVES).map(|who| Some(world.spawn(who, dice.roll(1 << 40)))).collect();
    let (mut kills, begun) = ([0_u64; LIVES], Instant::now());
    let mut progress = (0, Instant::now());
    while lives.iter().any(Option::is_some) {
        std::thread::sleep(Duration::from_micros(dice.roll(2000)));
        let over = begun.elapsed() > seconds;
        if over && !world.said(STOP) {
            world.signs.set(STOP, 1);
        }
        let ledger = world.queue.ledger();
        let at_rest = lives[..SENDERS].iter().all(Option::is_none) && ledger.queued + ledger.running == 0;
        if at_rest && ledger.undelivered == 0 {
            world.signs.set(END, 1);
        }
        let moved = ledger.finished + ledger.lost + lives.iter().flatten().count() as u64;
        if progress.0 != moved {
            progress = (moved, Instant::now());
        }
        assert!(progress.1.elapsed() < Duration::from_secs(20), "seed {seed}: nothing moves: {ledger:?}");
        for (who, life) in lives.iter_mut().enumerate() {
            let Some(child) = life else { continue };
            let chosen = !over && victims.contains(&who) && dice.roll(20) == 0;
            if chosen && !child.is_zombie() {
                if dice.roll(5) == 0 {
                    // One that is stopped is alive: nothing is taken from it, and the others go on.
                    child.signal(Signal::STOP);
                    std::thread::sleep(Duration::from_micros(dice.roll(40_000)));
                    child.cont();
                } else {
                    child.kill();
                }
            }
            if !child.is_zombie() {
                continue;
            }
            match dice.roll(12) {
                0..4 => {
                    recover(child.pid()).unwrap();
                    world.queue.sweep().unwrap();
                }
                // A zombie for a while, of whom nobody has told.
                4 => std::thread::sleep(Duration::from_micros(dice.roll(25_000))),
                _ => {}
            }
            *life = match child.wait() {
                Exit::Code(0) => None,
                Exit::Signal(9 | BURNT) => {
                    kills[who] += 1;
                    Some(world.spawn(who, dice.roll(1 << 40)))
                }
                other => panic!("seed {seed}: {who} ended with {other:?}: {}", child.said()),
            };
        }
    }
    judge(&world, &kills, begun.elapsed());
}

fn judge(world: &World, kills: &[u64; LIVES], time: Duration) {
    // Answers that the dead did not fetch are nobody's; their successors throw them away, and sweep up what the dead were about to hand in.
    for slot in 0..SENDERS {
        drop(world.queue.sender(&world.roll.attach(slot as u32).unwrap()).unwrap());
    }
    world.queue.sweep().unwrap();
    let ledger = world.queue.ledger();
    let sum = |what: &dyn Fn(u64) -> u64| world.all().map(what).sum::<u64>();
    let (tried, accepted) = (sum(&|task| task & TRIED), sum(&|task| (task & ACCEPTED) >> 1));
    let (good, bad) = (sum(&|task| count(task, GOOD)), sum(&|task| count(task, BAD)));
    let again = sum(&|task| count(task, RUNS).saturating_sub(1));
    let (senders, workers) = (kills[..SENDERS].iter().sum::<u64>(), kills[SENDERS..LIVES - 1].iter().sum::<u64>());
    note(&format!(
        "{tried} tasks in {:.1} s, {accepted} accepted for sure, {good} answered, {bad} lost, {again} runs more than tasks; killed: {senders} senders, \
         {workers} task workers, {} managers; {ledger:?}",
        time.as_secs_f64(),
        kills[LIVES - 1]
    ));
    assert_eq!(ledger.accepted, ledger.finished + ledger.lost, "{ledger:?}");
    assert_eq!((ledger.queued, ledger.running, ledger.undelivered, ledger.large), (0, 0, 0, (0, 0)), "{ledger:?}");
    assert!((accepted..=accepted + senders).contains(&ledger.accepted), "{accepted} for sure, {senders} killed");
    assert_eq!(world.signs.get(AGAIN), 0, "what had its outcome was run again");
    for task in world.all() {
        let (answers, runs) = (count(task, GOOD) + count(task, BAD), count(task, RUNS));
        assert!(answers <= 1, "answered {answers} times: {task:x}");
        assert!(runs <= ATTEMPTS.into(), "tried {runs} times: {task:x}");
        // Lost is what nobody finished, and answered is what somebody was about to finish.
        assert!(count(task, BAD) == 0 || count(task, ENDED) == 0, "lost, and finished: {task:x}");
        assert!(count(task, GOOD) == 0 || count(task, ENDING) > 0, "answered by nobody: {task:x}");
        if senders == 0 && task & ACCEPTED != 0 {
            assert_eq!(answers, 1, "accepted, and never answered: {task:x}");
        }
    }
    if senders == 0 {
        assert_eq!((ledger.accepted, ledger.finished, ledger.lost), (accepted, good, bad), "the ledger is not exact");
    }
    assert!(accepted > 200 && workers > 20 && again > 5, "too little happened to prove anything");
}

/// With senders that live, every figure is known exactly.
#[test]
fn every_task_is_answered_once_whichever_task_worker_or_manager_dies() {
    chaos(&[SENDERS, SENDERS + 1, SENDERS + 2, LIVES - 1]);
}

#[test]
fn nothing_is_lost_or_left_when_senders_die_too() {
    let everybody: Vec<_> = (0..LIVES).collect();
    chaos(&everybody);
}

/// A payload handed in by one that is dead by now, run by one that was forked after its death, once more after that one's death.
#[test]
fn a_large_task_outlives_its_sender_and_its_first_worker() {
    let roll = Roll::new(2).unwrap();
    let queue = TaskQueue::new(&roll, TaskSize::default()).unwrap();
    let ran = Numbers::new(2);
    let payload: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7) as u8).collect();
    let sent = |tenancy: &Tenancy| queue.sender(tenancy).unwrap().try_submit(&payload).unwrap();
    in_child(|| _ = sent(&roll.attach(1).unwrap())).join();
    assert_eq!((queue.ledger().queued, queue.ledger().large), (1, (1, 3_000_000)));
    let mut first = in_child(|| {
        let task = queue.worker().try_take().unwrap().expect("it is there");
        assert!(task.data() == payload);
        ran.add(0, 1);
        die();
    });
    assert_eq!(first.wait(), Exit::Signal(9));
    assert_eq!(ran.get(0), 1);
    in_child(|| {
        let task = queue.worker().take_timeout(Duration::from_secs(5)).unwrap();
        assert!(task.data() == payload && task.tries() == 2 && task.id().to_string() == "1.1.1");
        task.finish(&payload[..2_000_000]).unwrap();
    })
    .join();
    let ledger: Ledger = queue.ledger();
    assert_eq!((ledger.accepted, ledger.finished, ledger.lost, ledger.large), (1, 1, 0, (0, 0)));
}

/// A manager that is alone with the dead: what was tried too often is told to its sender with no task worker there.
#[test]
fn a_manager_tells_of_what_is_lost() {
    let roll = Roll::new(1).unwrap();
    let size = TaskSize { attempts: 1, ..TaskSize::default() };
    let queue = TaskQueue::new(&roll, size).unwrap();
    let sender = queue.sender(&roll.attach(0).unwrap()).unwrap();
    let id = sender.try_submit(b"impossible").unwrap();
    let mut worker = in_child(|| {
        let _task = queue.worker().try_take().unwrap().expect("it is there");
        die();
    });
    worker.until_dead();
    assert!(sender.try_recv().unwrap().is_none());
    recover(worker.pid()).unwrap();
    worker.wait();
    queue.sweep().unwrap();
    let answer = sender.recv_timeout(SOON).unwrap();
    assert!(matches!(answer.result, Err(Error::TaskLost { id: lost, attempts: 1 }) if lost == id && answer.id == id));
    until("the ledger says so", || (queue.ledger().lost, queue.ledger().finished) == (1, 0));
}

/// A task worker without a descriptor left gives the task back, and that was no try.
#[test]
fn a_large_task_waits_for_a_descriptor() {
    let roll = Roll::new(1).unwrap();
    let queue = TaskQueue::new(&roll, TaskSize { attempts: 1, ..TaskSize::default() }).unwrap();
    let sender = queue.sender(&roll.attach(0).unwrap()).unwrap();
    sender.try_submit(&[7; 100_000]).unwrap();
    in_child(|| {
        let worker = queue.worker();
        let files = common::all_descriptors();
        for _ in 0..3 {
            assert!(matches!(worker.try_take(), Err(Error::System { .. })));
        }
        drop(files);
        let task = worker.take_timeout(Duration::from_secs(5)).unwrap();
        assert_eq!((task.tries(), task.data()), (1, &[7; 100_000][..]));
        task.finish(b"done").unwrap();
    })
    .join();
    assert_eq!(sender.recv_timeout(SOON).unwrap().result.unwrap(), b"done");
    assert_eq!((queue.ledger().finished, queue.ledger().large), (1, (0, 0)));
}

/// Dead senders, in whose slots nobody follows, have fetched nothing: that takes no room from those who live.
#[test]
fn large_answers_for_the_dead_take_no_room() {
    let roll = Roll::new(3).unwrap();
    let queue = TaskQueue::new(&roll, TaskSize { large: 4, ..TaskSize::default() }).unwrap();
    let unfetched = |slot: u32| {
        let sender = queue.sender(&roll.attach(slot).unwrap()).unwrap();
        for _ in 0..2 {
            sender.try_submit(b"much").unwrap();
            queue.worker().try_take().unwrap().expect("it is there").finish(&[1; 50_000]).unwrap();
        }
        sleep_for_ever();
    };
    let senders = [in_child(|| unfetched(1)), in_child(|| unfetched(2))];
    until("all lockers are theirs", || queue.ledger().large == (4, 200_000));
    senders.iter().for_each(Child::kill);
    let sender = queue.sender(&roll.attach(0).unwrap()).unwrap();
    sender.try_submit(b"much").unwrap();
    in_child(|| {
        let task = queue.worker().take_timeout(Duration::from_secs(5)).unwrap();
        task.finish(&[2; 50_000]).unwrap();
    })
    .join();
    assert_eq!(sender.recv_timeout(SOON).unwrap().result.unwrap(), [2; 50_000]);
    assert_eq!(queue.ledger().large, (0, 0));
}

/// A sender is stopped while it holds the end of the queue. Who hands in a task from an event loop waits for it, and its loop goes on.
#[test]
fn who_is_stopped_in_the_middle_of_the_queue_starves_nobodys_loop() {
    let roll = Roll::new(2).unwrap();
    let queue = TaskQueue::new(&roll, TaskSize::default()).unwrap();
    let own = roll.attach(1).unwrap();
    let sender = queue.sender(&own).unwrap();
    let mut busy = in_child(|| {
        let tenancy = roll.attach(0).unwrap();
        let (sender, worker) = (queue.sender(&tenancy).unwrap(), queue.worker());
        loop {
            let _ = sender.try_submit_quietly(b"dig");
            if let Ok(Some(task)) = worker.try_take() {
                let _ = task.finish(b"done");
            }
        }
    });
    until("it works", || queue.ledger().finished > 100);
    // There is always room; so what is refused for want of it meets a lock that is held.
    until("it is stopped in the middle of handing one in", || {
        busy.stop();
        let stuck = matches!(sender.try_submit_quietly(b"mine"), Err(Error::Full { .. }));
        if !stuck {
            busy.cont();
        }
        stuck
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let over = std::sync::mpsc::channel::<()>();
    let longest = std::thread::scope(|scope| {
        let ((over, waits), busy) = (over, &busy);
        // A loop that stands still does not get so far as to let it go on.
        scope.spawn(move || waits.recv_timeout(Duration::from_secs(5)).map_err(|_| busy.cont()));
        let longest = runtime.block_on(turned(busy, &sender));
        drop(over);
        longest
    });
    assert!(longest < Duration::from_millis(150), "the loop stood still for {longest:?}");
    // What was refused meanwhile has left no record taken.
    busy.kill();
    busy.until_dead();
    recover(busy.pid()).unwrap();
    busy.wait();
    let worker = queue.worker();
    while let Some(task) = worker.try_take().unwrap() {
        task.finish(b"done").unwrap();
    }
    let room = (0..).take_while(|_| sender.try_submit_quietly(b"mine").is_ok()).count();
    assert_eq!(room, TaskSize::default().tasks);
}

/// The longest turn of a loop in which a task is handed in, until `stopped` goes on and it is.
async fn turned(stopped: &Child, sender: &Sender) -> Duration {
    let turns = async {
        let (mut longest, began) = (Duration::ZERO, Instant::now());
        while began.elapsed() < Duration::from_millis(300) {
            let from = Instant::now();
            tokio::time::sleep(Duration::from_millis(1)).await;
            longest = longest.max(from.elapsed());
        }
        stopped.cont();
        longest
    };
    let (longest, submitted) = tokio::join!(turns, sender.submit_quietly(b"mine"));
    submitted.unwrap();
    longest
}

/// A task worker is stopped while it reads a large payload. Its ticket is not in the queue any more by then: there, what it has in hand keeps the room of all that comes later.
#[test]
fn who_is_stopped_with_a_large_task_in_hand_takes_no_room_from_the_others() {
    let roll = Roll::new(1).unwrap();
    let queue = TaskQueue::new(&roll, TaskSize { tasks: 2, ..TaskSize::default() }).unwrap();
    let sender = queue.sender(&roll.attach(0).unwrap()).unwrap();
    let reader = in_child(|| {
        let worker = queue.worker();
        while let Ok(task) = worker.take_timeout(Duration::from_secs(5)) {
            task.finish(b"").unwrap();
        }
    });
    let (own, payload) = (queue.worker(), vec![7; 8 << 20]);
    let others = || {
        let done = |task: commons::Result<Option<Task>>| {
            task.is_ok_and(|task| task.is_some_and(|task| task.finish(b"").is_ok()))
        };
        let one = |_| sender.try_submit_quietly(b"small").is_ok() && done(own.try_take());
        // More than the queue has tickets.
        (0..200).all(one)
    };
    let stuck = (0..6).filter(|_| {
        sender.try_submit_quietly(&payload).unwrap();
        // Not `until`, which sleeps: it may be over by then.
        let end = Instant::now() + Duration::from_secs(5);
        while queue.ledger().queued > 0 && Instant::now() < end {
            std::thread::yield_now();
        }
        reader.stop();
        let free = others();
        reader.cont();
        until("all is done", || queue.ledger().running == 0 && queue.ledger().queued == 0);
        !free
    });
    // Between two instructions it may be stopped, too, where it has both.
    assert!(stuck.count() < 3);
}
