//! HTTP by any tower service, and the web application of examples/web.rs: asked by curl, by sockets, and by clients that mean no good.

#[path = "../examples/web.rs"]
mod example;
mod fleet;
mod served;
mod single;

use commons::server::Bytes;
use fleet::{Fleet, page};
use http_body_util::Empty;
use rustix::process::Signal;
use served::{Client, Response, children, send, until};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, ExitCode, Output};
use std::time::{Duration, Instant};

const TESTS: &[single::Test] = &[
    ("curl_speaks_http_1_and_2", versions),
    ("a_service_that_fails_or_panics_is_answered_for_and_the_worker_lives", fails),
    ("who_asks_a_worker_that_leaves_is_told_so", told_to_go),
    ("streams_of_http_2_end_before_their_worker_leaves", goaway),
    ("who_never_ends_a_head_is_closed", slow_loris),
    ("sessions_outlive_the_workers", sessions),
    ("one_who_asks_too_often_is_told_so_by_all_workers_together", rates),
    ("as_many_reports_as_are_allowed_whoever_makes_them", reports),
];

fn main() -> ExitCode {
    let play = |role: &str| match role {
        "example" => example::main(),
        "impatient" => {
            page::builder()?.workers(1).with(|config| config.heartbeat_idle_time(IDLE).log_level(LEVEL)).run(())
        }
        _ => page::builder()?.workers(1).run(()),
    };
    fleet::role(play).unwrap_or_else(|| single::run(TESTS))
}

const IDLE: Duration = Duration::from_millis(300);
const LEVEL: commons::server::Level = commons::server::Level::Debug;

/// Runs curl; what it printed.
fn curl(arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "20"])
        .args(arguments)
        .output()
        .expect("curl is installed");
    assert!(status.success(), "curl {arguments:?}: {status} {}", String::from_utf8_lossy(&stderr));
    String::from_utf8_lossy(&stdout).into_owned()
}

const VERSION: &str = "|%{http_version} %{http_code} ";

fn versions() {
    let fleet = Fleet::start("pages", &[]);
    let url = format!("http://{}/", fleet.address);
    assert_eq!(curl(&["-w", VERSION, &url]), "hello|1.1 200 ");
    assert_eq!(curl(&["-w", VERSION, "--http2-prior-knowledge", &url]), "hello|2 200 ");
    assert_eq!(curl(&["-w", VERSION, "--http1.0", &url]), "hello|1 200 ");
    assert_eq!(curl(&["-w", "%{http_code}", "-I", "-o", "/dev/null", &url]), "200");
    // A second request on the same connection; of HTTP/2 below, for some curls cannot.
    let twice = "|%{num_connects}";
    assert_eq!(curl(&["-w", twice, &url, &url]), "hello|1hello|0");
    assert_eq!(curl(&["-w", VERSION, &format!("{url}nowhere")]), "/nowhere|1.1 404 ");
    // A head has a limit, which is said.
    for (len, status) in [(60_000, 200), (70_000, 431)] {
        let mut client = fleet.connect();
        client.write(&format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(len))).expect("write");
        assert_eq!(client.read(false).expect("a response").status, status, "{len}");
    }
}

fn fails() {
    let fleet = Fleet::start("pages", &[]);
    let mut client = fleet.connect();
    let worker = client.get("/pid").text();
    for path in ["/fails", "/panics"] {
        // The same connection goes on.
        assert_eq!((client.get(path).status, client.get("/").status), (500, 200));
        let url = format!("http://{}{path}", fleet.address);
        assert_eq!(curl(&["-w", VERSION, "--http2-prior-knowledge", &url]), "|2 500 ");
    }
    assert_eq!(client.get("/pid").text(), worker);
    let log = fleet.log();
    for line in ["GET /fails: it was asked to", "GET /panics: panicked: it was asked to"] {
        assert_eq!(log.matches(line).count(), 2, "{log}");
    }
    let before = fleet.stats().number("requests");
    (0..3).for_each(|_| assert_eq!(client.get("/").status, 200));
    let now = fleet.stats();
    // Among them the one that asks.
    assert_eq!((now.number("requests") - before, now.0["processes"][0]["busy"].as_u64()), (4, Some(1)));
    assert_eq!(now.number("crashes"), 0);
}

/// One who asks and asks, of a worker that is to leave: the last answer says that it is the last.
fn told_to_go() {
    let fleet = Fleet::start("pages", &[]);
    let mut client = fleet.connect();
    assert_eq!(client.get("/").header("connection"), None);
    fleet.signal(Signal::USR1);
    until("an answer says so", || client.get("/").header("connection") == Some("close"));
    assert!(client.is_closed());
}

/// Ten slow requests on one connection; the worker is renewed while they are under way. Those are answered, and no others are taken.
fn goaway() {
    let fleet = Fleet::start("pages", &[]);
    let worker = fleet.get("/pid").text();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let all = async {
        let stream = tokio::net::TcpStream::connect(fleet.address).await.expect("connect");
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut client, connection) =
            hyper::client::conn::http2::handshake(LocalExecutor, io).await.expect("a handshake");
        let connection = tokio::task::spawn_local(connection);
        let uri = format!("http://{}/slow", fleet.address);
        let request = || hyper::Request::get(uri.as_str()).body(Empty::<Bytes>::new()).expect("a request");
        let under_way: Vec<_> = (0..10).map(|_| tokio::task::spawn_local(client.send_request(request()))).collect();
        // The figures are asked for on a connection of their own, by a call that blocks, so whoever sends must have had its turn.
        let busy = || fleet.stats().0["processes"][0]["busy"].as_u64();
        while busy() < Some(11) {
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        fleet.signal(Signal::USR1);
        for answer in under_way {
            assert_eq!(answer.await.expect("no panic").expect("an answer").status(), 200);
        }
        connection.await.expect("no panic").expect("it ends in good order");
        assert!(client.send_request(request()).await.is_err());
    };
    let all = async { tokio::time::timeout(served::SOON, all).await.expect("in time") };
    tokio::task::LocalSet::new().block_on(&runtime, all);
    until("another worker serves", || fleet.get("/pid").text() != worker);
    until("the one before has left", || !served::is_alive(worker.parse().expect("a pid")));
    assert!(!fleet.log().contains("killing"), "{}", fleet.log());
}

#[derive(Clone)]
struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// Whoever begins and does not go on is closed after `IDLE`, whatever was begun with, however slowly it goes on.
fn slow_loris() {
    let fleet = Fleet::start("impatient", &[]);
    let begins: &[&str] = &["", "G", "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", "PRI", "PRI * HTTP/2.0\r\n\r\nSM"];
    for begin in begins {
        for drips in [false, true] {
            // What would go on for ever: another byte of the head now and then. Of a preface only its own bytes are.
            if drips && !begin.ends_with(' ') {
                continue;
            }
            let began = Instant::now();
            let mut slow = TcpStream::connect(fleet.address).expect("connect");
            slow.write_all(begin.as_bytes()).expect("write");
            slow.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
            let mut answer = Vec::new();
            let end = loop {
                assert!(began.elapsed() < served::SOON, "{begin:?} is still there");
                if drips && slow.write_all(b"x").is_err() {
                    break Ok(0);
                }
                match slow.read_to_end(&mut answer) {
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    end => break end,
                }
            };
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{begin:?}: {end:?} {answer}");
            assert!(began.elapsed() >= IDLE, "{begin:?}: too soon, {:?}", began.elapsed());
        }
    }
    // An answer may take longer than a head, and the time of the next head begins after it.
    let mut patient = fleet.connect();
    for _ in 0..3 {
        assert_eq!(patient.get("/slow").status, 200);
        std::thread::sleep(IDLE / 2);
    }
    // One that has asked, and is silent then.
    let mut silent = fleet.connect();
    assert_eq!(silent.get("/").status, 200);
    assert!(silent.is_closed());
    until("only the one that asks is open", || fleet.stats().number("connections") == 1);
}

fn example(workers: u32) -> Fleet {
    Fleet::start_example("example", &["tcp://127.0.0.1:0"], workers)
}

fn ask(fleet: &Fleet, method: &str, path: &str, session: &str) -> Response {
    let mut client = fleet.connect();
    client.write(&format!("{method} {path} HTTP/1.1\r\nHost: x\r\nCookie: other=1; {session}\r\n\r\n")).expect("write");
    client.read(false).expect("a response")
}

fn sessions() {
    let fleet = example(2);
    let url = |path: &str| format!("http://{}{path}", fleet.address);
    assert!(curl(&[&url("/")]).starts_with("hello from worker "));
    let (jar, me) = (fleet.folder.path("jar"), url("/me"));
    let jar = jar.to_str().expect("a path");
    assert_eq!(curl(&["-w", VERSION, &me]), "who are you?\n|1.1 401 ");
    assert_eq!(curl(&["-w", VERSION, "-c", jar, "-X", "POST", &url("/login?name=bob")]), "|1.1 201 ");
    let answerer =
        |text: &str| text.trim().rsplit_once(' ').and_then(|(_, pid)| pid.parse::<i32>().ok()).expect("a pid");
    let first = curl(&["-b", jar, &me]);
    assert!(first.starts_with("bob, visit 1, "), "{first}");
    // Whoever answered dies; somebody else goes on counting.
    send(answerer(&first), Signal::KILL);
    until("it is dead", || !served::is_alive(answerer(&first)));
    let second = curl(&["-b", jar, "--http2-prior-knowledge", &me]);
    assert!(second.starts_with("bob, visit 2, ") && answerer(&second) != answerer(&first), "{second}");
    fleet.signal(Signal::USR1);
    until("all are renewed", || fleet.log().contains("reloaded"));
    assert!(curl(&["-b", jar, &me]).starts_with("bob, visit 3, "));
    assert_eq!(curl(&["-w", VERSION, "-b", jar, "-X", "POST", &url("/logout")]), "|1.1 204 ");
    for wrong in ["session=", "session=0123456789abcdef0123456789abcdef", "session=x", "", &"session=0".repeat(99)] {
        assert_eq!(ask(&fleet, "GET", "/me", wrong).status, 401, "{wrong}");
    }
    assert_eq!(curl(&["-w", VERSION, "-b", jar, &me]), "who are you?\n|1.1 401 ");
    let long = format!("/login?name={}", "x".repeat(65));
    let refused = ask(&fleet, "POST", &long, "");
    assert!(refused.status == 503 && refused.text().contains("name"), "{} {}", refused.status, refused.text());
}

fn rates() {
    let fleet = example(2);
    let began = Instant::now();
    let answers: Vec<_> = (0..90).map(|_| fleet.get("/")).collect();
    let seconds = began.elapsed().as_secs() as usize + 2;
    let good: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    let bad: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert_eq!(good.len() + bad.len(), answers.len());
    assert!((20..=20 * seconds).contains(&good.len()), "{} good ones in {seconds} s", good.len());
    assert!(seconds > 4 || bad.iter().all(|answer| answer.header("retry-after") == Some("1")) && !bad.is_empty());
    until("the second is over", || fleet.get("/").status == 200);
}

/// Three at once, of which two are made; a client that breaks off gives its permit back.
fn reports() {
    let fleet = example(2);
    let mut clients: Vec<Client> = (0..3).map(|_| fleet.connect()).collect();
    for client in &mut clients {
        client.write("GET /report HTTP/1.1\r\nHost: x\r\n\r\n").expect("write");
    }
    let mut answers: Vec<_> = clients.iter_mut().map(|client| client.read(false).expect("a response").status).collect();
    answers.sort_unstable();
    assert_eq!(answers, [200, 200, 503]);
    // By a task worker, asked from a future of axum's.
    let report = fleet.get("/report").text();
    let maker: i32 =
        report.trim().rsplit_once("all is well, says process ").expect("a report").1.parse().expect("a pid");
    assert!(children(fleet.manager().expect("a manager")).iter().any(|(pid, _)| *pid == maker), "{report}");
    for client in &mut clients[..2] {
        client.write("GET /report HTTP/1.1\r\nHost: x\r\n\r\n").expect("write");
    }
    drop(clients);
    until("the permits are back", || fleet.get("/report").status == 200);
    // A worker that dies with its permits.
    let mut last = fleet.connect();
    last.write("GET /report HTTP/1.1\r\nHost: x\r\n\r\n").expect("write");
    let hello = fleet.get("/").text();
    let pid = hello.trim().rsplit_once(' ').and_then(|(_, pid)| pid.parse().ok()).expect("a pid");
    send(pid, Signal::KILL);
    until("the permits are back", || {
        let mut pair: Vec<_> = (0..2).map(|_| fleet.connect()).collect();
        let asked = pair.iter_mut().all(|client| client.write("GET /report HTTP/1.1\r\nHost: x\r\n\r\n").is_ok());
        asked && pair.iter_mut().all(|client| client.read(false).is_ok_and(|answer| answer.status == 200))
    });
}
