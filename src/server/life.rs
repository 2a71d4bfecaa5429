//! A process's life: boot, work, leave. Workers, task workers and the user's processes differ in what they do in the middle.
//!
//! ```text
//!   fork ─▶ name, processor, user ─▶ own signals ─▶ runtime ─▶ worker_start ─▶ "ready" ─▶ ports / tasks / body
//!                                                                                │ SIGTERM
//!   exit 0 ◀─ worker_stop ◀─ nothing under way ◀─ worker_exit, exiting() ◀───────┘
//! ```
//!
//! The manager blocked SIGTERM before the fork, and it stays blocked here: it is read from a descriptor of the process's own, so one that arrives during
//! the boot is found when the loop starts.
//!
//! Who leaves waits for its connections, its spawned futures and the answers to its tasks; shortly before its time is over it says what it still waits for.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fd::{AsFd, OwnedFd};
use rustix::process::Signal;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::spawn_local;

use super::board::{Count, State};
use super::calls::{Calls, guarded, guarded_now};
use super::config::Config;
use super::config::check::open_files;
use super::conn::serve::Manners;
use super::conn::{Conn, Marks};
use super::handle::{self, WorkerHandle};
use super::land::Land;
use super::listen::accept::SHORTAGE_WAIT;
use super::listen::open::Tuning;
use super::mail::Mail;
use super::parting::linger;
use super::ports::{self, Terms};
use super::timers::Timers;
use super::worker::{Inner, LOOK, Worker};
use crate::process::crew::{Member, ORPHAN, Post, Role};
use crate::process::word::What;
use crate::sys::fork::seal_structures;
use crate::sys::ready::watch as watch_fd;
use crate::sys::signal::{SignalFd, SignalSet};
use crate::{Error, Result};

/// It left as it was asked to.
const LEFT: i32 = 0;
/// It could not boot.
const NOT_BOOTED: i32 = 1;

/// Runs a process; returns its exit status.
pub(super) fn live(land: &Rc<Land>, post: Post) -> i32 {
    let mouth = post.mouth.clone();
    begin(land, post).unwrap_or_else(|error| {
        mouth.say(&What::Trouble(format!("cannot start: {error}")));
        NOT_BOOTED
    })
}

fn begin(land: &Rc<Land>, post: Post) -> Result<i32> {
    let Member { role, index, slot, .. } = post.member;
    land.board.move_in(slot);
    let name = land.name(role, index);
    land.log.become_role(name.as_str());
    dress(land, &name, index)?;
    // A change of user clears the request; and the parent may have died meanwhile.
    if !post.die_with_parent()? {
        return Ok(ORPHAN);
    }
    seal_structures();
    let asked = SignalFd::new(&SignalSet::of(&[Signal::TERM]))?;
    let told = SignalFd::new(&SignalSet::of(&[Signal::WINCH, Signal::USR1]))?;
    // In one step: were SIGTERM unblocked for an instant, one that is already pending would end us right there.
    post.mask.make_mask()?;
    runtime()?.block_on(async {
        let (leave, leaving) = watch::channel(false);
        let worker = worker(land, &post, leaving)?;
        let (asked, life) = (watch_fd(asked.into())?, watch_fd(post.lifeline)?);
        spawn_local(heed(worker.clone(), told)?);
        tokio::select! {
            biased;
            // Nothing is ever written into the lifeline: readable means end of file, or a broken descriptor.
            _ = life.readable() => Ok(ORPHAN),
            code = work(land, &worker, &asked, &leave) => code,
        }
    })
}

/// Opens the log again when the manager passes WINCH on; asks to be renewed when somebody wants this one process to be, and so sends it USR1.
fn heed(worker: Worker, signals: SignalFd) -> Result<impl Future<Output = ()>> {
    let copy = signals.as_fd().try_clone_to_owned().map_err(Error::system("duplicating a signalfd"))?;
    let watched = watch_fd(copy)?;
    Ok(async move {
        while let Ok(mut ready) = watched.readable().await {
            while let Ok(Some(signal)) = signals.next() {
                match signal {
                    Signal::USR1 => worker.renew(),
                    _ => worker.inner.land.log.reopen(),
                }
            }
            ready.clear_ready();
        }
    })
}

/// What runs all that a process does, on its one thread.
pub(super) fn runtime() -> Result<LocalRuntime> {
    let local = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    local.map_err(Error::system("tokio runtime"))
}

/// What a process makes of itself. Those that look into /proc come first, for the new root may have none.
fn dress(land: &Land, name: &str, index: usize) -> Result<()> {
    if let Some(cpus) = &land.cpus {
        cpus.nth(index).confine()?;
    }
    land.show_title(name)?;
    land.privileges.assume()
}

fn worker(land: &Rc<Land>, post: &Post, leaving: watch::Receiver<bool>) -> Result<Worker> {
    let member = post.member;
    let slot = u32::try_from(member.slot).map_err(|_| super::board::no_place(member.slot, 0))?;
    let tenancy = land.lines.attach(slot)?;
    let heap = land.heap(member.slot).ok_or_else(|| super::board::no_place(member.slot, 0))?;
    let config = land.config.borrow();
    let lot = RandomState::new().hash_one(std::process::id());
    let enough = match member.role {
        Role::Worker => config.max_request_by_lot(lot),
        Role::Task => config.task_max_request_by_lot(lot),
        Role::User => None,
    };
    let handle = handle::Inner {
        id: member.id,
        board: land.board.clone(),
        tasks: land.tasks.clone(),
        mail: Mail::new(land.places_bus.clone(), land.lines_bus.clone(), member.id, &tenancy)?,
        sender: land.tasks.as_ref().map(|tasks| tasks.sender(&tenancy)).transpose()?,
        tenancy,
        leaving,
    };
    let inner = Inner {
        member,
        mouth: post.mouth.clone(),
        land: land.clone(),
        handle: WorkerHandle { inner: Arc::new(handle) },
        timers: Timers::new(heap)?,
        conns: RefCell::default(),
        number: Cell::new(0),
        under_way: Cell::new(0),
        less: Notify::new(),
        requests: Cell::new(0),
        enough,
    };
    Ok(Worker { inner: Rc::new(inner) })
}

async fn work(land: &Rc<Land>, worker: &Worker, asked: &AsyncFd<OwnedFd>, leave: &watch::Sender<bool>) -> Result<i32> {
    let (calls, member) = (&land.calls, worker.inner.member);
    let started = worker.call(guarded(calls.worker_start(worker))).await;
    if let Err(why) = started {
        worker.complain(format_args!("worker_start: {why}"));
        return Ok(NOT_BOOTED);
    }
    run_beside(worker, calls);
    match member.role {
        Role::Worker => {
            let terms = terms(land, member.index);
            for port in land.ports.borrow().iter() {
                spawn_local(ports::open(port, worker, &terms)?);
            }
        }
        Role::Task => {
            let (land, of) = (land.clone(), worker.clone());
            worker.spawn(async move { keep_up(&of, "tasks", async || run_tasks(&land, &of).await).await });
        }
        Role::User => worker.spawn(run_body(land.clone(), worker.clone(), leave.clone())),
    }
    land.board.say(member.slot, State::Serving);
    worker.inner.mouth.say(&What::Ready);
    let mut ended = leave.subscribe();
    tokio::select! {
        biased;
        _ = asked.readable() => {}
        // A user's process whose body has ended.
        _ = ended.wait_for(|leaving| *leaving) => {}
    }
    land.board.say(member.slot, State::Leaving);
    leave.send_replace(true);
    if let Err(why) = worker.call(guarded(calls.worker_exit(worker))).await {
        worker.complain(format_args!("worker_exit: {why}"));
    }
    // Spoken before the end, for who is killed says nothing.
    let late = tokio::select! {
        biased;
        () = worker.all_done() => None,
        late = nearly_over(land) => Some(late.as_secs_f64()),
    };
    if let Some(late) = late {
        worker.complain(format_args!("still here, {late:.1} s after it was asked to leave: {}", worker.holds()));
        // Written out and closed, which is more than their clients would get from a worker that is killed.
        worker.inner.conns.borrow().values().for_each(Conn::close);
        worker.all_done().await;
    }
    if let Err(why) = worker.call(guarded(calls.worker_stop(worker))).await {
        worker.complain(format_args!("worker_stop: {why}"));
    }
    Ok(LEFT)
}

/// Resolves when nine tenths of the time are over in which this process, which was asked just now, has to leave: in a reload `reload_grace`, in a stop `stop_grace`; and who
/// leaves in a reload when the stop comes has no longer than the others. After how long that was.
async fn nearly_over(land: &Land) -> Duration {
    let (reload, stop) = {
        let config = land.config.borrow();
        (config.reload_grace * 9 / 10, config.stop_grace * 9 / 10)
    };
    let (asked, board) = (Instant::now(), &land.board);
    if board.closing_for().is_some() {
        tokio::time::sleep(stop).await;
        return stop;
    }
    loop {
        let gone = asked.elapsed();
        let end = board.closing_for().map_or(reload, |since| reload.min((gone + stop).saturating_sub(since)));
        if end <= gone {
            return end;
        }
        // A stop that comes meanwhile is not told to who leaves already.
        tokio::time::sleep((end - gone).min(LOOK)).await;
    }
}

/// Timers, messages, what others send to its connections, and answers: they run until the process ends (messages until it is asked to), and hold nobody up.
fn run_beside(worker: &Worker, calls: &Rc<dyn Calls>) {
    let of = worker.clone();
    spawn_local(async move { keep_up(&of, "timers", async || of.inner.timers.run(&of).await).await });
    let (of, its) = (worker.clone(), calls.clone());
    spawn_local(async move {
        let mut held = None;
        keep_up(&of, "messages", async || Mail::receive(&of, &its, &mut held).await).await;
    });
    if worker.inner.member.role == Role::Worker {
        let of = worker.clone();
        let what = "what others send to connections";
        spawn_local(async move { keep_up(&of, what, async || Mail::obey(&of).await).await });
    }
    let (of, its) = (worker.clone(), calls.clone());
    spawn_local(async move { keep_up(&of, "answers of tasks", async || hear_answers(&of, &its).await).await });
}

/// Runs it again when it fails. The first wait takes descriptors, and so does a large message; what fails is, as a rule, that there are none for the moment.
async fn keep_up(worker: &Worker, what: &str, mut run: impl AsyncFnMut() -> Result<()>) {
    let mut told = false;
    while let Err(error) = run().await {
        if !std::mem::replace(&mut told, true) {
            worker.complain(format_args!("{what} are held up, trying again until it works: {error}"));
        }
        tokio::time::sleep(SHORTAGE_WAIT).await;
    }
}

async fn hear_answers(worker: &Worker, calls: &Rc<dyn Calls>) -> Result<()> {
    let Some(sender) = &worker.inner.handle.inner.sender else { return Ok(()) };
    loop {
        let answer = sender.recv().await?;
        let under_way = worker.under_way();
        if let Err(why) = worker.call(guarded(calls.finish(worker, answer.id, answer.result))).await {
            worker.complain(format_args!("finish of task {}: {why}", answer.id));
        }
        drop(under_way);
        // Without it nothing else would run in this process for as long as answers come.
        tokio::task::consume_budget().await;
    }
}

async fn run_tasks(land: &Land, worker: &Worker) -> Result<()> {
    let Some(queue) = &land.tasks else { return Ok(()) };
    let desk = queue.worker();
    loop {
        let task = tokio::select! {
            biased;
            () = worker.exiting() => return Ok(()),
            task = desk.take() => task?,
        };
        let (id, slot) = (task.id(), worker.inner.member.slot);
        land.board.runs(slot, Some(id));
        let done = if land.async_tasks {
            worker.call(guarded(land.calls.task_async(worker, &task))).await
        } else {
            worker.call(async { guarded_now(|| land.calls.task(worker, &task)) }).await
        };
        land.board.runs(slot, None);
        worker.count(Count::Task);
        let told = match &done {
            Ok(result) => task.finish(result),
            Err(why) => task.fail(why),
        };
        if let Err(error) = told {
            worker.complain(format_args!("task {id}: {error}"));
        }
        if let Err(why) = done {
            worker.complain(format_args!("task {id}: {why}"));
        }
        // After each, for it may have been long: without it nothing else would run in this process for as long as there are tasks, and it would not hear that it is to leave.
        tokio::task::yield_now().await;
    }
}

async fn run_body(land: Rc<Land>, worker: Worker, leave: watch::Sender<bool>) {
    let Some(user) = land.users.get(worker.inner.member.index) else { return };
    if let Err(why) = worker.call(guarded(async { (user.body)(worker.clone()).await })).await {
        worker.complain(format_args!("{}: {why}", user.name));
    }
    leave.send_replace(true);
}

fn terms(land: &Land, index: usize) -> Terms {
    let (config, workers) = (&*land.config.borrow(), land.workers());
    let files = open_files().saturating_sub(land.descriptors);
    let all = usize::try_from(config.connections(files)).unwrap_or(usize::MAX);
    let own = usize::try_from(Config::connections_of_a_worker(files)).unwrap_or(usize::MAX);
    // The first ones get what does not come out even, so that all together hold exactly what was promised.
    let share = all / workers + usize::from(index < all % workers);
    let optional = |time: Duration| (!time.is_zero()).then_some(time);
    let grace = config.stop_grace.min(config.reload_grace);
    Terms {
        manners: Manners { idle: optional(config.heartbeat_idle_time), linger: linger(grace) },
        marks: Marks {
            most: config.socket_buffer_size as usize,
            high: config.high_watermark() as usize,
            low: config.buffer_low_watermark as usize,
            patience: optional(config.send_timeout),
        },
        tuning: Tuning::of(config),
        room: Arc::new(Semaphore::new(share.min(own).clamp(1, Semaphore::MAX_PERMITS))),
    }
}
