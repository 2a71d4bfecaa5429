//! The server under test: each line that a client sends is a command, and what the handler is called for it tells on standard output.

use std::io::Write;
use std::time::Duration;

use commons::server::{Bytes, Conn, ConnId, Handler, Packet, Stats, Task, Worker, WorkerError};
use commons::{AtomicLong, Error, Result, TaskId};

use super::faults;

/// One line in one write, so that those of several processes do not mix.
pub(crate) fn tell(line: impl std::fmt::Display) {
    let line = format!("{line}\n");
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}

/// Says so when it goes.
struct Goes(&'static str);

impl Drop for Goes {
    fn drop(&mut self) {
        tell(format_args!("{} is gone", self.0));
    }
}

pub(super) fn failed(why: &'static str) -> Error {
    Error::System { call: why, source: std::io::Error::other("as it should") }
}

fn number<T: std::str::FromStr + Default>(word: Option<&str>) -> T {
    word.and_then(|word| word.parse().ok()).unwrap_or_default()
}

fn millis(word: Option<&str>) -> Duration {
    Duration::from_millis(number(word))
}

/// What comes of something, in one line.
fn outcome<T: std::fmt::Display>(result: Result<T>) -> String {
    result.map_or_else(|error| format!("error: {error}"), |value| format!("ok: {value}"))
}

fn text(result: Result<Vec<u8>>) -> Result<String> {
    result.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

pub(super) struct UnderTest {
    /// What goes wrong, and where: the word after `--fault=`.
    pub(super) fault: String,
    /// Tries of tasks that end their process.
    pub(super) tries: AtomicLong,
    /// Workers that have begun.
    pub(super) starts: AtomicLong,
    /// Seen from all processes.
    pub(super) shared: AtomicLong,
}

impl UnderTest {
    async fn command(&self, worker: &Worker, conn: &Conn, line: &str) -> Result<()> {
        assert!(!worker.is_task_worker());
        let mut words = line.split(' ');
        let command = words.next().unwrap_or_default();
        let mut word = || words.next();
        let reply = match command {
            "echo" => line["echo".len()..].trim().to_owned(),
            "who" => format!("{} {} {}", worker.id(), worker.pid(), u64::from(conn.id())),
            "slow" => {
                let wait = millis(word());
                tell("slow");
                tokio::time::sleep(wait).await;
                "waited".to_owned()
            }
            // As plain code would that forgets what thread it is on.
            "block" => {
                tell("blocking");
                std::thread::sleep(millis(word()));
                "blocked".to_owned()
            }
            "error" => return Err(failed("failing")),
            "panic" => panic!("told to"),
            "exit" => std::process::exit(number(word())),
            "renew" => {
                worker.renew();
                "asked".to_owned()
            }
            "leak" => faults::leak().to_string(),
            "close" => {
                conn.send("bye\n").await?;
                conn.close();
                return Ok(());
            }
            "big" => {
                let (len, waiting) = (number(word()), conn.waiting());
                let sent = conn.send(vec![b'x'; len]).await;
                tell(format_args!("sent {len} {waiting} {}", outcome(sent.map(|()| "sent"))));
                return Ok(());
            }
            "try" => {
                let len = number(word());
                tell(format_args!("tried {}", outcome(conn.try_send(vec![b'x'; len]).map(|()| "sent"))));
                return Ok(());
            }
            // Several at once on this connection: none may get between another's.
            "rush" => {
                let (senders, each): (usize, usize) = (number(word()), number(word()));
                for sender in 0..senders {
                    let conn = conn.clone();
                    worker.spawn(async move {
                        for at in 0..each {
                            let len = 1 + (at * 37 + sender * 11) % 4000;
                            let line = format!("{sender} {at} {}\n", "x".repeat(len));
                            if let Err(error) = conn.send(line).await {
                                return tell(format_args!("rush {error}"));
                            }
                        }
                    });
                }
                return Ok(());
            }
            "pause" => {
                conn.pause();
                let (paused, of) = (conn.clone(), worker.clone());
                worker.after(millis(word()), move || async move {
                    tell("resumed");
                    paused.resume();
                    drop(of);
                    Ok(())
                })?;
                "paused".to_owned()
            }
            // While the connection is being read already, from outside of its calls.
            "pauselater" => {
                let paused = conn.clone();
                worker.after(millis(word()), move || async move {
                    paused.pause();
                    tell("paused");
                    Ok(())
                })?;
                "soon".to_owned()
            }
            "sendto" => {
                let id = ConnId::from(number::<u64>(word()));
                let rest = words.collect::<Vec<_>>().join(" ");
                outcome(worker.send(id, format!("{rest}\n")).await.map(|()| "sent"))
            }
            "flood" => {
                let (id, tag, n) = (ConnId::from(number::<u64>(word())), word().unwrap_or_default(), number(word()));
                let len = number(word());
                for at in 0..n {
                    let at: usize = at;
                    worker.send(id, format!("{tag} {at} {}\n", "x".repeat(len))).await?;
                }
                "flooded".to_owned()
            }
            // Says how it went, and on the way how far it is.
            "pour" => {
                let (id, n, len) = (ConnId::from(number::<u64>(word())), number::<usize>(word()), number(word()));
                let mut sent = Ok(());
                for at in 0..n {
                    sent = worker.send(id, format!("poured {at} {}\n", "x".repeat(len))).await;
                    if sent.is_err() {
                        break;
                    }
                    tell(format_args!("poured {at}"));
                }
                outcome(sent.map(|()| n))
            }
            "closeid" => outcome(worker.close(ConnId::from(number::<u64>(word()))).await.map(|()| "closed")),
            "connections" => {
                let n = number(word());
                let (mut all, mut pages) = (worker.connections(None, n), 1);
                while let Some(last) = all.last().copied().filter(|_| pages < 100) {
                    let page = worker.connections(Some(last), n);
                    assert!(page.len() <= n);
                    all.extend(page);
                    pages += 1;
                }
                format!("{:?}", all.into_iter().map(u64::from).collect::<Vec<_>>())
            }
            "message" => {
                let (to, first, n, len): (usize, usize, usize, usize) =
                    (number(word()), number(word()), number(word()), number(word()));
                let mut sent = Ok(());
                for at in first..first + n {
                    let data = format!("{} {at} {}", worker.id(), "x".repeat(len));
                    sent = worker.send_message(to, data).await;
                    if sent.is_err() {
                        break;
                    }
                }
                outcome(sent.map(|()| "sent"))
            }
            "say" => {
                let (to, rest) = (number(word()), words.collect::<Vec<_>>().join(" "));
                outcome(worker.send_message(to, format!("said {rest}")).await.map(|()| "sent"))
            }
            "after" => {
                let n: i64 = number(word());
                let shared = self.shared.clone();
                worker.after(millis(word()), move || async move {
                    tell(format_args!("fired {}", shared.add(n)));
                    Ok(())
                })?;
                "set".to_owned()
            }
            // A tick that ends itself at the n-th time.
            "tick" => {
                let (n, every): (u32, _) = (number(word()), millis(word()));
                let (of, mut at, goes) = (worker.clone(), 0, Goes("the tick's closure"));
                let id = std::rc::Rc::new(std::cell::Cell::new(None));
                let its = id.clone();
                let set = worker.tick(every, move || {
                    let _held = &goes;
                    at += 1;
                    let (of, its) = (of.clone(), its.clone());
                    async move {
                        tell(format_args!("tick {at}"));
                        if at == n {
                            let cleared = of.clear(its.get().expect("it was set"))?;
                            tell(format_args!("cleared {cleared}"));
                        }
                        Ok(())
                    }
                })?;
                id.set(Some(set));
                "set".to_owned()
            }
            "badtimers" => {
                worker.after(Duration::from_millis(1), || async { Err(failed("a timer")) })?;
                worker.after(Duration::from_millis(1), || async { panic!("in the timer's future") })?;
                worker.after(Duration::from_millis(1), || {
                    if std::env::args().count() > 1 {
                        panic!("in the timer's closure");
                    }
                    async { Ok(()) }
                })?;
                worker.spawn(async { panic!("in a spawned future") });
                outcome(worker.after(Duration::ZERO, || async { Ok(()) }).map(|_| "set"))
            }
            "task" => outcome(worker.task(line["task".len()..].trim()).await),
            "trytask" => outcome(worker.try_task(line["trytask".len()..].trim())),
            "wait" => {
                let limit = millis(word());
                let rest = words.collect::<Vec<_>>().join(" ");
                outcome(text(worker.task_wait(rest, limit).await))
            }
            "all" => {
                let (limit, rest) = (millis(word()), words.collect::<Vec<_>>().join(" "));
                let list: Vec<_> = rest.split(',').collect();
                let all = worker.task_all(&list, limit).await?;
                all.into_iter().map(|one| outcome(text(one))).collect::<Vec<_>>().join(" | ")
            }
            "large" => {
                let len = number(word());
                let data: Vec<u8> = (0..len).map(|at: usize| (at * 31 % 251) as u8).collect();
                let expected: Vec<u8> = data.iter().rev().copied().collect();
                let result = worker.task_wait([b"reverse ", &data[..]].concat(), Duration::from_secs(20)).await;
                outcome(result.map(|bytes| format!("{} {}", bytes.len(), bytes == expected)))
            }
            "handle" => super::handle::ask(worker).await?,
            // The timer's call takes longer than its worker would need to leave.
            "afterslow" => {
                let wait = millis(word());
                worker.after(Duration::from_millis(1), move || async move {
                    tell("timer begins");
                    tokio::time::sleep(wait).await;
                    tell("timer ends");
                    Ok(())
                })?;
                "set".to_owned()
            }
            "defer" => {
                worker.defer(|| async {
                    tell("deferred");
                    Ok(())
                });
                worker.defer(|| async { Err(failed("a deferred one")) });
                worker.defer(|| async { panic!("in a deferred one") });
                tell("not yet deferred");
                "set".to_owned()
            }
            // As many as there is room for; how many those were, and what the next one says.
            "timers" => {
                let day = Duration::from_secs(86_400);
                let all: Vec<_> = (0..20_000).map_while(|_| worker.after(day, || async { Ok(()) }).ok()).collect();
                let more = worker.after(day, || async { Ok(()) });
                let cleared = all.iter().filter(|id| worker.clear(**id).is_ok_and(|was| was)).count();
                format!("{} {cleared} {}", all.len(), outcome(more.map(|_| "set")))
            }
            "peer" => conn.peer().to_string(),
            "json" => serde_json::to_string(&worker.stats()).map_err(|_| failed("JSON"))?,
            "untilexit" => {
                tell("waiting for the end");
                worker.exiting().await;
                tell(format_args!("exiting {}", worker.is_exiting()));
                "exiting".to_owned()
            }
            "shared" => self.shared.add(number(word())).to_string(),
            "stats" => {
                let stats = worker.stats();
                let by_handle = worker.handle().stats();
                assert_eq!((stats.starts, stats.reloads), (by_handle.starts, by_handle.reloads));
                format!(
                    "connections={} accepted={} requests={} tasks={} crashes={}",
                    stats.connections, stats.accepted, stats.requests, stats.tasks, stats.crashes
                )
            }
            "states" => {
                let states =
                    worker.stats().processes.iter().map(|of| format!("{} {:?}", of.id, of.state)).collect::<Vec<_>>();
                states.join(", ")
            }
            _ => format!("what is {line:?}?"),
        };
        conn.send(format!("{reply}\n")).await
    }
}

impl Handler for UnderTest {
    fn start(&self, _: &Stats) {
        tell("all are ready");
        self.plain("start");
    }
    fn before_shutdown(&self) {
        tell("before_shutdown");
        self.plain("before_shutdown");
    }
    fn shutdown(&self) {
        tell("shutdown");
        self.plain("shutdown");
    }
    fn manager_start(&self) {
        tell(format_args!("manager_start {}", std::process::id()));
        self.plain("manager_start");
    }
    fn manager_stop(&self) {
        tell("manager_stop");
        self.plain("manager_stop");
    }
    fn worker_error(&self, error: &WorkerError) {
        tell(format_args!("worker_error {} {} {:?} {:?}", error.id, error.pid, error.status, error.signal));
        tell(format_args!("again {} {}", error.id, error.again.map_or(-1, |wait| wait.as_millis().cast_signed())));
        self.plain("worker_error");
    }
    fn before_reload(&self) {
        tell("before_reload");
        self.plain("before_reload");
    }
    fn after_reload(&self) {
        tell("after_reload");
        self.plain("after_reload");
    }

    async fn worker_start(&self, worker: &Worker) -> Result<()> {
        self.plain("worker_start");
        self.fails_at("worker_start")?;
        if self.starts.add(1) > 1 {
            self.fails_at("second_start")?;
        }
        if self.fault == "hang:worker_start" {
            tell(format_args!("hanging {} {}", worker.id(), worker.pid()));
            std::future::pending::<()>().await;
        }
        tell(format_args!("worker_start {} {}", worker.id(), worker.pid()));
        Ok(())
    }
    async fn worker_exit(&self, worker: &Worker) -> Result<()> {
        tell(format_args!("worker_exit {} {}", worker.id(), worker.pid()));
        self.fails_at("worker_exit")
    }
    async fn worker_stop(&self, worker: &Worker) -> Result<()> {
        tell(format_args!("worker_stop {} {}", worker.id(), worker.pid()));
        self.fails_at("worker_stop")
    }

    async fn connect(&self, _: &Worker, conn: &Conn) -> Result<()> {
        tell(format_args!("connect {}", conn.id()));
        if self.fault == "greets" {
            // More than is kept of a connection, and before it is read.
            for piece in [vec![b'x'; 3000], vec![b'y'; 3000], b"\n".to_vec()] {
                conn.send(piece).await?;
            }
        }
        self.fails_at("connect")
    }
    async fn receive(&self, worker: &Worker, conn: &Conn, data: Bytes) -> Result<()> {
        self.fails_at("receive")?;
        let text = String::from_utf8_lossy(&data).into_owned();
        tell(format_args!("receive {} {}", conn.id(), text.lines().next().unwrap_or_default()));
        for line in text.lines() {
            self.command(worker, conn, line).await?;
        }
        tell(format_args!("received {}", conn.id()));
        Ok(())
    }
    async fn close(&self, _: &Worker, conn: &Conn) -> Result<()> {
        tell(format_args!("close {} {}", conn.id(), conn.is_open()));
        self.fails_at("close")
    }
    async fn packet(&self, worker: &Worker, packet: &Packet) -> Result<()> {
        self.fails_at("packet")?;
        packet.reply([&packet.data[..], format!(" {}", worker.pid()).as_bytes()].concat()).await
    }
    async fn buffer_full(&self, _: &Worker, conn: &Conn) -> Result<()> {
        tell(format_args!("buffer_full {}", conn.waiting()));
        self.fails_at("buffer_full")
    }
    async fn buffer_empty(&self, _: &Worker, conn: &Conn) -> Result<()> {
        tell(format_args!("buffer_empty {}", conn.waiting()));
        self.fails_at("buffer_empty")
    }
    async fn finish(&self, _: &Worker, task: TaskId, result: Result<Vec<u8>>) -> Result<()> {
        tell(format_args!("finish {task} {}", outcome(text(result))));
        self.fails_at("finish")
    }
    async fn pipe_message(&self, worker: &Worker, from: usize, data: Vec<u8>) -> Result<()> {
        self.fails_at("pipe_message")?;
        let line = String::from_utf8_lossy(&data);
        let (head, rest) = line.rsplit_once(' ').unwrap_or_default();
        if let Some(wait) = rest.strip_prefix("wait:") {
            tell("message waits");
            tokio::time::sleep(millis(Some(wait))).await;
        }
        if let Some(wait) = rest.strip_prefix("block:") {
            std::thread::sleep(millis(Some(wait)));
        }
        tell(format_args!("message {} {from} {head} {}", worker.id(), rest.len()));
        if head == "said shared" {
            self.shared.add(1);
        }
        Ok(())
    }

    async fn task_async(&self, worker: &Worker, task: &Task) -> Result<Vec<u8>> {
        let line = String::from_utf8_lossy(task.data()).into_owned();
        let Some(what) = line.strip_prefix("await ") else { return self.task(worker, task) };
        // Before anybody hears of it, who then may kill it at once.
        let tried = if what == "death" { self.tries.add(1) } else { 0 };
        tell(format_args!("awaiting {what} {}", worker.pid()));
        match what {
            "message" => {
                while self.shared.get() == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            "exit" => worker.exiting().await,
            "ever" => std::future::pending().await,
            "death" if tried == 1 => std::future::pending().await,
            _ => {}
        }
        tell(format_args!("awaited {what}"));
        Ok(format!("{what} awaited").into_bytes())
    }
    fn task(&self, worker: &Worker, task: &Task) -> Result<Vec<u8>> {
        self.fails_at("task")?;
        assert!(worker.is_task_worker());
        if let Some(data) = task.data().strip_prefix(b"reverse ") {
            return Ok(data.iter().rev().copied().collect());
        }
        let line = String::from_utf8_lossy(task.data()).into_owned();
        let mut words = line.split(' ');
        match words.next().unwrap_or_default() {
            "double" => Ok((2 * number::<i64>(words.next())).to_string().into_bytes()),
            "error" => Err(failed("a task")),
            "panic" => panic!("in a task"),
            // Ends its process at the first `n` tries.
            "die" => {
                let tried = self.tries.add(1);
                tell(format_args!("dying {tried} {}", worker.pid()));
                if tried <= number(words.next()) {
                    std::process::abort();
                }
                Ok(format!("done at try {tried}").into_bytes())
            }
            "sleep" => {
                tell(format_args!("asleep {}", worker.pid()));
                std::thread::sleep(millis(words.next()));
                Ok(b"slept".to_vec())
            }
            "pid" => Ok(worker.pid().to_string().into_bytes()),
            _ => Ok(task.data().to_vec()),
        }
    }
}
