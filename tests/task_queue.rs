//! The task queue within one process: against a model, its bounds, what is awaited, what comes too late.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use arbitrary::Unstructured;
use commons::harness::crew::{Roll, Sender, Task, TaskQueue, TaskSize, TaskWorker, Tenancy};
use commons::{Error, TaskId};

const SOON: Duration = Duration::from_secs(5);
const MOMENT: Duration = Duration::from_millis(30);

struct Stage {
    /// Kept: who moves out is no sender any more.
    _tenancy: Tenancy,
    queue: TaskQueue,
    sender: Sender,
    worker: TaskWorker,
}

fn stage(size: TaskSize) -> Stage {
    let roll = Roll::new(1).unwrap();
    let (queue, tenancy) = (TaskQueue::new(&roll, size).unwrap(), roll.attach(0).unwrap());
    let sender = queue.sender(&tenancy).unwrap();
    Stage { worker: queue.worker(), _tenancy: tenancy, queue, sender }
}

fn awaited<R>(f: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(f)
}

/// A thread that takes a task and ends with it: for everybody else, a death.
fn take_and_die(queue: &TaskQueue) -> bool {
    std::thread::scope(|scope| {
        let took = || queue.worker().try_take().unwrap().map(std::mem::forget).is_some();
        scope.spawn(took).join().unwrap()
    })
}

const TASKS: usize = 5;
const UNANSWERED: usize = 7;
const LARGE: usize = 4;
const BYTES: usize = 20_000;
const INLINE: usize = 1024;

#[derive(Clone, Debug)]
struct Expected {
    id: TaskId,
    data: Vec<u8>,
    quiet: bool,
    tries: u32,
}

/// What is to be answered: a result, `None` for lost.
type Answers = BTreeMap<TaskId, Option<Result<Vec<u8>, String>>>;

#[derive(Default)]
struct Model {
    queued: VecDeque<Expected>,
    left: Vec<Expected>,
    held: Vec<(Task, Expected)>,
    answers: Answers,
    finished: u64,
    lost: u64,
}

impl Model {
    fn payloads(&self) -> impl Iterator<Item = usize> {
        let all = self.queued.iter().chain(&self.left).chain(self.held.iter().map(|(_, task)| task));
        all.map(|task| task.data.len()).filter(|len| *len > INLINE)
    }

    fn results(&self) -> impl Iterator<Item = usize> {
        let large = |answer: &Option<Result<Vec<u8>, String>>| answer.as_ref()?.as_ref().ok().map(Vec::len);
        self.answers.values().filter_map(large).filter(|len| *len > INLINE)
    }

    /// Whoever had it is gone.
    fn leave(&mut self, task: Expected) {
        if task.tries < 2 {
            self.left.push(task);
            return;
        }
        self.lost += 1;
        if !task.quiet {
            self.answers.insert(task.id, None);
        }
    }

    fn unanswered(&self) -> usize {
        let open = self.queued.iter().chain(&self.left).chain(self.held.iter().map(|(_, task)| task));
        self.answers.len() + open.filter(|task| !task.quiet).count()
    }

    /// What is taken next: any of those that were left, else the oldest.
    fn take(&mut self, id: TaskId) -> Expected {
        let mut task = match self.left.iter().position(|task| task.id == id) {
            Some(at) => self.left.swap_remove(at),
            None if self.left.is_empty() => self.queued.pop_front().expect("there is none"),
            None => panic!("{id} before {:?}", self.left),
        };
        assert_eq!(task.id, id);
        task.tries += 1;
        task
    }
}

#[test]
fn tasks_are_what_the_model_says() {
    arbtest::arbtest(|u| {
        let size = TaskSize { tasks: TASKS, attempts: 2, unanswered: UNANSWERED, large: LARGE, bytes: BYTES };
        let (stage, mut model) = (stage(size), Model::default());
        while !u.is_empty() {
            step(u, &stage, &mut model)?;
            let ledger = stage.queue.ledger();
            assert_eq!((ledger.finished, ledger.lost, ledger.undelivered), (model.finished, model.lost, 0));
            let running = model.held.len() + model.left.len();
            assert_eq!((ledger.queued, ledger.running), (model.queued.len() as u64, running as u64));
            assert_eq!(stage.sender.unanswered(), model.unanswered());
            let large = model.payloads().chain(model.results()).fold((0, 0), |(n, sum), len| (n + 1, sum + len as u64));
            assert_eq!(ledger.large, large, "{ledger:?}");
        }
        Ok(())
    })
    .size_max(400)
    .budget(Duration::from_secs(2));
}

fn step(u: &mut Unstructured<'_>, stage: &Stage, model: &mut Model) -> arbitrary::Result<()> {
    let Stage { queue, sender, worker, .. } = stage;
    match u.int_in_range(0..=9)? {
        0..=2 => submit(u, sender, model)?,
        3 | 4 => match worker.try_take().unwrap() {
            Some(task) => {
                let expected = model.take(task.id());
                assert!(task.data() == expected.data && task.tries() == expected.tries);
                model.held.push((task, expected));
            }
            None => assert!(model.left.is_empty() && model.queued.is_empty(), "there are some"),
        },
        5 | 6 => {
            let Some((task, expected)) = model.held.pop() else { return Ok(()) };
            let mut len = if u.arbitrary()? { u.int_in_range(0..=50)? } else { u.int_in_range(1000..=9000)? };
            let (count, sum) = model.results().fold((0, 0), |(n, sum), len| (n + 1, sum + len));
            if len > INLINE && (count >= LARGE / 2 || sum + len > BYTES) {
                len = 3; // a sender that fetches nothing would be waited for
            }
            let answer = if u.ratio(1, 5)? {
                task.fail("no").unwrap();
                Err("no".into())
            } else {
                let result = vec![expected.data.len() as u8; len];
                task.finish(&result).unwrap();
                Ok(result)
            };
            model.finished += 1;
            if !expected.quiet {
                model.answers.insert(expected.id, Some(answer));
            }
        }
        7 => {
            let Some((task, expected)) = model.held.pop() else { return Ok(()) };
            drop(task);
            model.leave(expected);
            queue.sweep().unwrap();
        }
        8 => {
            if model.left.len() > 1 {
                return Ok(()); // it may take any of them
            }
            if take_and_die(queue) {
                let id = model.left.first().or(model.queued.front()).map(|task| task.id).expect("there is none");
                let expected = model.take(id);
                model.leave(expected);
                queue.sweep().unwrap();
            }
        }
        _ => match sender.try_recv().unwrap() {
            None => assert!(model.answers.is_empty(), "there are some"),
            Some(answer) => match (model.answers.remove(&answer.id).expect("not asked"), answer.result) {
                (Some(Ok(expected)), Ok(result)) => assert!(result == expected),
                (Some(Err(expected)), Err(Error::TaskFailed { why, id })) => {
                    assert_eq!((why, id), (expected, answer.id));
                }
                (None, Err(Error::TaskLost { attempts: 2, id })) => assert_eq!(id, answer.id),
                other => panic!("{other:?}"),
            },
        },
    }
    Ok(())
}

fn submit(u: &mut Unstructured<'_>, sender: &Sender, model: &mut Model) -> arbitrary::Result<()> {
    let len = if u.arbitrary()? { u.int_in_range(0..=50)? } else { u.int_in_range(1000..=21_000)? };
    let (data, quiet) = (vec![len as u8; len], u.ratio(1, 4)?);
    let records = model.queued.len() + model.left.len() + model.held.len();
    let (count, sum) = model.payloads().fold((0, 0), |(n, sum), len| (n + 1, sum + len));
    let full = records == TASKS
        || !quiet && model.unanswered() == UNANSWERED
        || len > INLINE && (count == LARGE || sum + len > BYTES);
    match if quiet { sender.try_submit_quietly(&data) } else { sender.try_submit(&data) } {
        Ok(id) => {
            assert!(!full && len <= BYTES);
            model.queued.push_back(Expected { id, data, quiet, tries: 0 });
        }
        Err(Error::TooLong { len, max: BYTES }) => assert!(len > BYTES),
        Err(Error::Full { .. }) => assert!(full, "there is room"),
        Err(other) => panic!("{other}"),
    }
    Ok(())
}

#[test]
fn one_is_waited_for_and_comes_too_late() {
    let stage = stage(TaskSize::default());
    let Stage { queue, sender, worker, .. } = &stage;
    awaited(async {
        let work = async {
            let task = worker.take().await.unwrap();
            assert_eq!((task.data(), task.tries()), (&b"double"[..], 1));
            task.finish(b"doubledouble").unwrap();
        };
        let (result, ()) = tokio::join!(sender.task_wait(b"double", SOON), work);
        assert_eq!(result.unwrap(), b"doubledouble");

        let late = sender.task_wait(b"slow", MOMENT).await.unwrap_err();
        assert!(matches!(late, Error::Timeout { after: MOMENT }));
        assert_eq!(sender.unanswered(), 1, "it keeps its room until it comes");
        let task = worker.take().await.unwrap();
        task.finish(&[1; 5000]).unwrap();
        // The next one's answer is its own, not the late one.
        let work = async { worker.take().await.unwrap().finish(b"own").unwrap() };
        let (result, ()) = tokio::join!(sender.task_wait(b"next", SOON), work);
        assert_eq!(result.unwrap(), b"own");
        assert_eq!((sender.unanswered(), sender.try_recv().unwrap().is_none()), (0, true));
        assert_eq!(queue.ledger().large, (0, 0), "the late result is freed");
    });
}

#[test]
fn all_of_a_list_come_in_its_order() {
    let stage = stage(TaskSize { attempts: 1, unanswered: 3, ..TaskSize::default() });
    let Stage { queue, sender, worker, .. } = &stage;
    awaited(async {
        let work = async {
            for _ in 0..5 {
                let task = worker.take().await.unwrap();
                match task.data() {
                    b"fail" => task.fail("no").unwrap(),
                    b"lose" => drop(task),
                    other => {
                        let result = [other, b"!"].concat();
                        task.finish(&result).unwrap();
                    }
                }
            }
            queue.sweep().unwrap();
            worker.take().await.unwrap() // the slow one
        };
        let list = ["a", "fail", "lose", "b", "c", "slow"];
        let (answers, slow) = tokio::join!(sender.task_all(&list, Duration::from_millis(300)), work);
        let told: Vec<_> = answers.iter().map(|answer| answer.as_ref().map_err(ToString::to_string)).collect();
        let texts = |n: usize| told[n].clone().unwrap_or_else(|_| panic!("{told:?}"));
        assert_eq!((texts(0), texts(3), texts(4)), (&b"a!".to_vec(), &b"b!".to_vec(), &b"c!".to_vec()));
        assert!(matches!(&answers[1], Err(Error::TaskFailed { why, .. }) if why == "no"));
        assert!(matches!(&answers[2], Err(Error::TaskLost { attempts: 1, .. })));
        assert!(matches!(&answers[5], Err(Error::Timeout { .. })));
        slow.finish(b"late").unwrap();
        assert!(sender.try_recv().unwrap().is_none() && sender.unanswered() == 0);
        assert!(sender.task_all::<&str>(&[], SOON).await.is_empty());
    });
}

#[test]
fn several_wait_at_once_and_each_gets_its_own() {
    let stage = stage(TaskSize { tasks: 2, unanswered: 4, ..TaskSize::default() });
    let Stage { sender, worker, .. } = &stage;
    awaited(async {
        let work = async {
            for _ in 0..20 {
                let task = worker.take().await.unwrap();
                let result = task.data().to_vec();
                task.finish(&result).unwrap();
                tokio::task::yield_now().await;
            }
        };
        let wait = |n: u8| async move {
            for m in 0..5 {
                assert_eq!(sender.task_wait(&[n, m], SOON).await.unwrap(), [n, m]);
            }
        };
        let any = async {
            for m in 0..5 {
                let id = sender.submit(&[9, m]).await.unwrap();
                let answer = tokio::time::timeout(SOON, sender.recv()).await.unwrap().unwrap();
                assert_eq!((answer.id, answer.result.unwrap()), (id, vec![9, m]));
            }
        };
        tokio::join!(work, wait(1), wait(2), wait(3), any);
    });
}

#[test]
fn it_is_bounded_and_says_so() {
    let roll = Roll::new(1).unwrap();
    let refused = |size| TaskQueue::new(&roll, size).unwrap_err().to_string();
    let usual = TaskSize::default();
    assert_eq!(refused(TaskSize { tasks: 0, ..usual }), "the number of tasks is 0, allowed are 1..=65536");
    assert_eq!(refused(TaskSize { attempts: 32, ..usual }), "the number of attempts is 32, allowed are 1..=31");
    assert_eq!(
        refused(TaskSize { unanswered: 0, ..usual }),
        "the number of unanswered tasks is 0, allowed are 1..=65536"
    );
    assert!(refused(TaskSize { large: 1, ..usual }).contains("large payloads at once is 1, allowed are 2..=256"));

    let stage = stage(TaskSize { tasks: 2, unanswered: 1, ..usual });
    let Stage { sender, worker, queue, .. } = &stage;
    sender.try_submit(b"one").unwrap();
    assert!(matches!(sender.try_submit(b"two"), Err(Error::Full { capacity: 1 })), "unanswered");
    sender.try_submit_quietly(b"two").unwrap();
    assert!(matches!(sender.try_submit_quietly(b"three"), Err(Error::Full { capacity: 2 })), "tasks");
    assert!(matches!(sender.submit_timeout(b"three", MOMENT), Err(Error::Timeout { after: MOMENT })));
    for _ in 0..2 {
        worker.try_take().unwrap().unwrap().finish(b"done").unwrap();
    }
    // Its answer is there, and takes its room until it is received.
    assert!(matches!(sender.submit_timeout(b"three", SOON), Err(Error::Full { capacity: 1 })));
    assert_eq!(sender.recv_timeout(SOON).unwrap().result.unwrap(), b"done");
    let id = sender.submit_timeout(b"three", SOON).unwrap();
    assert_eq!((id.slot(), id.generation()), (0, 1));
    assert!(matches!(sender.recv_timeout(MOMENT), Err(Error::Timeout { .. })));
    assert!(matches!(worker.take_timeout(SOON).map(|task| task.id()), Ok(taken) if taken == id));

    // A long reason is cut at a character; a result that is too long is told to both.
    let task = worker.take_timeout(SOON).unwrap();
    task.fail(&"ä".repeat(2000)).unwrap();
    let answer = sender.recv_timeout(SOON).unwrap().result.unwrap_err();
    assert!(matches!(answer, Error::TaskFailed { why, .. } if why == "ä".repeat(512)));
    assert_eq!((queue.ledger().accepted, queue.ledger().finished), (3, 3));
}

#[test]
fn a_result_that_is_too_long_is_told_to_both() {
    let stage = stage(TaskSize { bytes: 5000, ..TaskSize::default() });
    let id = stage.sender.try_submit(b"much").unwrap();
    let told = stage.worker.try_take().unwrap().unwrap().finish(&[0; 5001]).unwrap_err();
    assert!(matches!(told, Error::TooLong { len: 5001, max: 5000 }));
    let answer = stage.sender.recv_timeout(SOON).unwrap().result.unwrap_err();
    assert_eq!(answer.to_string(), format!("task {id} failed: {told}"));
}

/// Who has the slot next hands in under another name, and gets none of the answers that were for the one before.
#[test]
fn a_successor_gets_nothing_that_is_not_its_own() {
    let roll = Roll::new(1).unwrap();
    let queue = TaskQueue::new(&roll, TaskSize::default()).unwrap();
    let first = queue.sender(&roll.attach(0).unwrap()).unwrap();
    let (one, two) = (first.try_submit(b"1").unwrap(), first.try_submit(b"2").unwrap());
    let worker = queue.worker();
    worker.try_take().unwrap().unwrap().finish(&[0; 4000]).unwrap();
    drop(first);
    let task = worker.try_take().unwrap().unwrap();
    let second = queue.sender(&roll.attach(0).unwrap()).unwrap();
    assert_eq!(queue.ledger().large, (0, 0), "the first one's answer is gone, and what went with it");
    task.finish(&[0; 4000]).unwrap();
    assert!(second.try_recv().unwrap().is_none());
    let three = second.try_submit(b"3").unwrap();
    assert_eq!([one, two, three].map(|id| id.to_string()), ["0.1.1", "0.1.2", "0.2.1"]);
    assert_eq!((queue.ledger().finished, queue.ledger().large), (2, (0, 0)));
    assert!(matches!(
        std::thread::scope(|scope| scope.spawn(|| second.try_submit(b"x")).join().unwrap()),
        Err(Error::WrongProcess { .. })
    ));
}

/// Two ends of one tenancy, one after the other, and looks in vain without anybody to look: names stay apart, and the queue takes what it took before.
#[test]
fn names_stay_apart_and_looks_in_vain_take_no_room() {
    let roll = Roll::new(1).unwrap();
    let queue = TaskQueue::new(&roll, TaskSize { tasks: 4, ..TaskSize::default() }).unwrap();
    let tenancy = roll.attach(0).unwrap();
    let first = queue.sender(&tenancy).unwrap().try_submit(b"1").unwrap();
    assert!(take_and_die(&queue));
    for _ in 0..1000 {
        queue.sweep().unwrap();
    }
    let sender = queue.sender(&tenancy).unwrap();
    let more: Vec<_> = (0..3).map(|_| sender.try_submit(b"more").unwrap()).collect();
    assert!(!more.contains(&first) && matches!(sender.try_submit(b"x"), Err(Error::Full { capacity: 4 })));
    assert_eq!(sender.unanswered(), 3, "for what was refused no answer is waited for");
    let worker = queue.worker();
    assert_eq!(worker.try_take().unwrap().unwrap().id(), first, "what the dead left comes first");
}

/// A large task waits for a record, and there are lockers. What it put into one with each try it takes out again; that is no room for which it waits.
#[test]
fn a_large_task_that_waits_for_a_small_one_s_room_lets_others_run() {
    let stage = stage(TaskSize { tasks: 1, ..TaskSize::default() });
    let Stage { sender, worker, queue, .. } = &stage;
    sender.try_submit_quietly(b"the only room").unwrap();
    awaited(async {
        let turns = std::cell::Cell::new(0);
        let submit = async {
            let id = sender.submit(&[0; 5000]).await.unwrap();
            (id, turns.get())
        };
        let others = async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_millis(1)).await;
                turns.set(turns.get() + 1);
            }
            worker.try_take().unwrap().unwrap().finish(b"").unwrap();
        };
        // Were it to keep the thread there would be nobody to make room.
        let ((id, turned), ()) = tokio::join!(submit, others);
        assert_eq!(turned, 10);
        assert_eq!(worker.try_take().unwrap().unwrap().id(), id);
    });
    assert_eq!(queue.ledger().large.0, 1, "it was given back with its payload");
}
