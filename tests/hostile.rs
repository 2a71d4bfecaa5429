//! Clients that mean no good, at real servers of HTTP: whatever they do, others are answered within a second, the memory of the workers is bounded, a worker that
//! is to leave leaves in its time, and nothing is left when the server has stopped.

mod fleet;
mod served;
mod single;

use fleet::{Fleet, lasting, load, page, setting};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use served::{Client, is_alive, until};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const TESTS: &[single::Test] = &[
    ("heads_without_end_and_nonsense_are_refused", heads),
    ("bodies_that_are_two_things_at_once_are_refused", bodies),
    ("who_keeps_a_body_back_is_closed_and_who_waits_for_an_answer_is_not", late_bodies),
    ("who_closes_its_half_is_answered", half_closed),
    ("http_needs_a_stream", no_stream),
    ("who_asks_and_does_not_listen_costs_little", deaf),
    ("a_thousand_who_say_nothing_keep_nobody_out", silent),
    ("ten_thousand_requests_in_one_breath_are_answered", pipelined),
    ("floods_of_frames_of_http_2_drown_nobody", frames),
];

fn main() -> ExitCode {
    let play = |role: &str| {
        let idle = if role == "impatient" { Duration::from_millis(150) } else { Duration::ZERO };
        let config =
            |config: commons::server::Config| config.stop_grace(GRACE).reload_grace(GRACE).heartbeat_idle_time(idle);
        page::builder()?.workers(2).with(config).run(())
    };
    fleet::role(play).unwrap_or_else(|| {
        // For a thousand connections of ours, and theirs.
        let limit = getrlimit(Resource::Nofile);
        let more = Rlimit { current: limit.maximum.map_or(Some(8192), |most| Some(most.min(8192))), ..limit };
        setrlimit(Resource::Nofile, more).expect("up to the hard limit");
        single::run(TESTS)
    })
}

/// In which a worker has to leave.
const GRACE: Duration = Duration::from_millis(250);
/// In which others have to be answered.
const SOON: Duration = Duration::from_secs(1);
/// By how much a worker may grow.
const ROOM: u64 = 32 << 20;

/// How often the floods come: once; more on request.
fn rounds() -> u64 {
    let seconds = setting("COMMONS_CHAOS_SECS", 10);
    lasting(Duration::from_secs(seconds));
    seconds.div_ceil(10)
}

/// A server under attack. Its end is looked at when it goes.
struct Besieged {
    fleet: Fleet,
    before: u64,
    /// Those who hold out.
    held: Vec<TcpStream>,
}

/// The most memory that any of the workers ever had.
fn memory(fleet: &Fleet) -> u64 {
    let most = |pid: i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) << 10
    };
    fleet.stats().serving(0..2).into_iter().map(most).max().unwrap_or(0)
}

impl Besieged {
    fn new() -> Besieged {
        Besieged::of("patient")
    }

    fn of(role: &str) -> Besieged {
        let fleet = Fleet::start(role, &[]);
        let before = memory(&fleet);
        Besieged { fleet, before, held: Vec::new() }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect_timeout(&self.fleet.address, served::SOON).expect("connect");
        stream.set_read_timeout(Some(served::SOON)).expect("a timeout");
        stream.set_write_timeout(Some(served::SOON)).expect("a timeout");
        stream
    }

    /// Sends these bytes, and nothing more; the connection stays.
    fn hold(&mut self, bytes: &[u8]) {
        let mut stream = self.connect();
        stream.write_all(bytes).expect("write");
        self.held.push(stream);
    }

    /// Sends these bytes again and again until nothing goes any more for a moment, or the server has ended it: what it told last is then not of interest.
    fn flood(&mut self, first: &[u8], bytes: &[u8], most: usize) {
        let mut stream = self.connect();
        stream.set_write_timeout(Some(Duration::from_millis(80))).expect("a timeout");
        stream.write_all(first).expect("write");
        let mut sent = 0;
        while sent < most && stream.write_all(bytes).is_ok() {
            sent += bytes.len();
        }
        self.held.push(stream);
    }

    /// What comes for these bytes, until the server closes; or, when it does not, what has come after a moment.
    fn answer(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // It may be closed in the middle.
        let _ = stream.write_all(bytes);
        let mut all = Vec::new();
        stream.set_read_timeout(Some(Duration::from_millis(80))).expect("a timeout");
        let _ = stream.read_to_end(&mut all);
        String::from_utf8_lossy(&all).into_owned()
    }

    #[track_caller]
    fn holds(&self, what: &str) {
        assert!(load::answered_within(self.fleet.address, SOON).is_some(), "{what}: nobody is answered any more");
        let now = memory(&self.fleet);
        assert!(now < self.before + ROOM, "{what}: {} KiB grew to {}", self.before >> 10, now >> 10);
        assert_eq!(self.fleet.stats().number("crashes"), 0, "{what}");
    }

    /// With all who hold out still there: workers leave in time, and so does all of it.
    #[track_caller]
    fn ends(mut self) {
        let old = self.fleet.stats().serving(0..2);
        let began = Instant::now();
        self.fleet.signal(Signal::USR1);
        until("the old workers have left", || !old.iter().any(|pid| is_alive(*pid)));
        assert!(began.elapsed() < GRACE * 2 + SOON, "{:?}", began.elapsed());
        self.holds("renewed");
        let (all, began) = (self.fleet.all(), Instant::now());
        self.fleet.signal(Signal::TERM);
        assert_eq!(self.fleet.leave().code(), Some(0), "{}", self.fleet.log());
        assert!(began.elapsed() < GRACE + SOON, "{:?}", began.elapsed());
        assert!(!all.iter().any(|pid| is_alive(*pid)));
    }
}

fn heads() {
    let mut server = Besieged::new();
    let long = |len: usize| format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(len));
    assert!(server.answer(long(60 << 10).as_bytes()).starts_with("HTTP/1.1 200"));
    assert!(server.answer(long((64 << 10) + 1).as_bytes()).starts_with("HTTP/1.1 431"));
    let target = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(70 << 10));
    assert!(server.answer(target.as_bytes()).starts_with("HTTP/1.1 4"));
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(1000));
    assert!(server.answer(many.as_bytes()).starts_with("HTTP/1.1 431"));
    for nonsense in [
        &b"\0\0\0\0\0\0\0\0\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET  /  HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHo st: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\0b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    ] {
        let answer = server.answer(nonsense);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400"),
            "{:?}: {answer}",
            String::from_utf8_lossy(nonsense)
        );
    }
    for _ in 0..rounds() {
        server.flood(b"GET / HTTP/1.1\r\nHost: x\r\n", b"X-Endless: 0123456789\r\n", 4 << 20);
        server.flood(b"GET / HTTP/1.1\r\nHost: x\r\nX-Endless: ", &[b'x'; 4096], 4 << 20);
        server.flood(b"", &[0xff; 4096], 1 << 20);
        server.hold(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ");
    }
    server.holds("heads");
    server.ends();
}

fn bodies() {
    let mut server = Besieged::new();
    let post =
        |headers: &str, body: &str| format!("POST /body HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n{body}").into_bytes();
    assert!(server.answer(&post("Content-Length: 5", "12345")).ends_with("\r\n\r\n5"));
    assert!(server.answer(&post("Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n")).ends_with("\r\n\r\n3"));
    for headers in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: +5",
        "Content-Length: -1",
        "Content-Length: 5, 6",
        "Content-Length: 0x5",
        "Content-Length: 18446744073709551616",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity",
    ] {
        let answer = server.answer(&post(headers, "12345"));
        assert!(answer.starts_with("HTTP/1.1 400"), "{headers}: {answer}");
    }
    for chunks in
        ["g\r\n", "-1\r\n", " 5\r\nabcde\r\n0\r\n\r\n", "10000000000000000\r\n", "5\nabcde", "3\r\nabcX\r\n0\r\n\r\n"]
    {
        let answer = server.answer(&post("Transfer-Encoding: chunked", chunks));
        assert!(!answer.starts_with("HTTP/1.1 200"), "{chunks:?}: {answer}");
    }
    // What two may read in two ways has one answer, and after it nothing that the other one might have sent.
    let both = post("Content-Length: 6\r\nTransfer-Encoding: chunked", "0\r\n\r\nGET /pid HTTP/1.1\r\nHost: x\r\n\r\n");
    let answer = server.answer(&both);
    assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{answer}");
    let continued = server.answer(&post("Content-Length: 5\r\nExpect: 100-continue", "12345"));
    assert!(continued.starts_with("HTTP/1.1 100") && continued.matches("HTTP/1.1 ").count() == 2, "{continued}");
    let upgrade = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nGET /pid HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(server.answer(upgrade).matches("HTTP/1.1 200").count(), 2);
    for _ in 0..rounds() {
        server.hold(&post("Content-Length: 1000000", "slow"));
        server.hold(&post("Content-Length: 10\r\nExpect: 100-continue", ""));
        server.flood(&post("Transfer-Encoding: chunked", "1;"), &[b'x'; 4096], 4 << 20);
        server.flood(&post("Transfer-Encoding: chunked", "0\r\n"), b"X-Trailer: 0123456789\r\n", 4 << 20);
        server.flood(&post("Transfer-Encoding: chunked", ""), b"1\r\nx\r\n", 1 << 17);
    }
    server.holds("bodies");
    server.ends();
}

fn late_bodies() {
    let server = Besieged::of("impatient");
    let began = Instant::now();
    for body in ["Content-Length: 10\r\n\r\nslow", "Transfer-Encoding: chunked\r\n\r\n5\r\nslow"] {
        let mut stream = server.connect();
        stream.write_all(format!("POST /body HTTP/1.1\r\nHost: x\r\n{body}").as_bytes()).expect("write");
        let mut rest = String::new();
        let _ = stream.read_to_string(&mut rest);
        assert!(!rest.starts_with("HTTP/1.1 200"), "{rest}");
    }
    assert!(began.elapsed() < SOON * 2, "{:?}", began.elapsed());
    let mut drips = server.connect();
    drips.write_all(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n").expect("write");
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(50));
        drips.write_all(b"x").expect("write");
    }
    let mut client = Client::connect(server.fleet.address).expect("connect");
    // Longer than silence may last; what the client has to say it has said.
    client.write("POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody").expect("write");
    assert_eq!(client.read(false).expect("an answer").status, 200);
    let mut answer = [0; 12];
    drips.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
    server.ends();
}

fn no_stream() {
    let refused = commons::server::Server::builder().http("udp://127.0.0.1:0", |worker| page::Page(worker.clone()));
    let refused = refused.expect("an address").run(()).expect_err("datagrams").to_string();
    assert!(refused.starts_with("cannot serve HTTP at udp://127.0.0.1:"), "{refused}");
}

fn half_closed() {
    let mut server = Besieged::new();
    for _ in 0..5 {
        let nothing = server.connect();
        nothing.shutdown(Shutdown::Write).expect("open");
        let mut half = server.connect();
        half.write_all(b"GET / HTTP/1.1\r\nHo").expect("write");
        half.shutdown(Shutdown::Write).expect("open");
        server.held.extend([nothing, half]);
    }
    for path in ["/", "/slow"] {
        let mut asked = server.connect();
        asked.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).expect("write");
        asked.shutdown(Shutdown::Write).expect("open");
        let mut answer = String::new();
        let _ = asked.read_to_string(&mut answer);
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer:?}");
    }
    until("the others are gone", || server.fleet.stats().number("connections") == 1);
    server.holds("half");
    server.ends();
}

fn deaf() {
    let mut server = Besieged::new();
    for _ in 0..5 {
        server.hold(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
        // Broken off in the middle, with the rest on its way.
        let mut broken = server.connect();
        broken.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").expect("write");
        broken.read_exact(&mut [0; 1000]).expect("a beginning");
        socket2::SockRef::from(&broken).set_linger(Some(Duration::ZERO)).expect("an option");
        drop(broken);
    }
    server.flood(b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 2 << 20);
    server.holds("deaf");
    server.ends();
}

fn silent() {
    let mut server = Besieged::new();
    (0..1000).for_each(|_| server.held.push(server.connect()));
    until("all are in", || server.fleet.stats().number("connections") > 1000);
    server.holds("silent");
    server.ends();
}

fn pipelined() {
    const MANY: usize = 10_000;
    let server = Besieged::new();
    let mut stream = server.connect();
    let mut reader = Client::connect(server.fleet.address).expect("connect");
    let asked = "GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(MANY);
    std::thread::scope(|scope| {
        let mut half = stream.try_clone().expect("a copy");
        scope.spawn(move || half.write_all(asked.as_bytes()).expect("write"));
        let (mut answers, mut bytes) = (0, Vec::new());
        while answers < MANY {
            let mut some = [0; 1 << 16];
            match stream.read(&mut some) {
                Ok(n) if n > 0 => bytes.extend_from_slice(&some[..n]),
                end => panic!("{end:?} after {answers}"),
            }
            answers += bytes.windows(5).filter(|part| part == b"hello").count();
            // What may be the beginning of one.
            bytes.drain(..bytes.len().saturating_sub(4));
        }
        assert_eq!(reader.get("/").status, 200);
    });
    server.holds("pipelined");
    server.ends();
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW: u8 = 8;
const CONTINUATION: u8 = 9;
/// No more headers follow; and no body.
const WHOLE: u8 = 0x05;

/// A GET of a path, in frames: of HPACK (RFC 7541) only what stands in its table, and words as they are.
fn get(stream: u32, path: &str) -> Vec<u8> {
    let words = |index: u8, text: &str| [&[index, text.len() as u8], text.as_bytes()].concat();
    frame(HEADERS, WHOLE, stream, &[vec![0x82, 0x86], words(0x04, path), words(0x01, "x")].concat())
}

fn frames() {
    let mut server = Besieged::new();
    let begin = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[])].concat();
    let no_window = [&begin[..24], &frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])].concat();
    let streams = |n: u32, of: &dyn Fn(u32) -> Vec<u8>| -> Vec<u8> { (0..n).flat_map(|n| of(2 * n + 1)).collect() };
    // First of all that this is how it is spoken.
    let answer = server.answer(&[begin.clone(), get(1, "/")].concat());
    assert!(answer.contains("hello"), "{answer:?}");
    for _ in 0..rounds() {
        let reset = |stream: u32| [get(stream, "/slow"), frame(RESET, 0, stream, &[0, 0, 0, 8])].concat();
        server.flood(&begin, &streams(10_000, &reset), 1);
        server.flood(&begin, &streams(1000, &|stream| get(stream, "/slow")), 1);
        server.flood(&no_window, &streams(200, &|stream| get(stream, "/large")), 1);
        server.flood(&begin, &frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 1, 0]).repeat(1000), 1 << 18);
        server.flood(&begin, &frame(PING, 0, 0, &[0; 8]).repeat(1000), 1 << 18);
        let headless = [begin.clone(), frame(HEADERS, 0, 1, &[0x82])].concat();
        server.flood(&headless, &frame(CONTINUATION, 0, 1, &[0x86; 1000]), 8 << 20);
        server.flood(&headless, &frame(CONTINUATION, 0, 1, &[]).repeat(100), 1 << 20);
        let posted = [begin.clone(), frame(HEADERS, 0x04, 1, &[0x83, 0x86, 0x84, 0x01, 1, b'x'])].concat();
        server.flood(&posted, &frame(DATA, 0, 1, &[0; 16 << 10]), 8 << 20);
        server.flood(&posted, &frame(DATA, 0, 1, &[]).repeat(1000), 1 << 18);
        server.flood(&begin, &frame(WINDOW, 0, 0, &[0, 0, 0, 1]).repeat(1000), 1 << 18);
        server.holds("frames");
    }
    for nonsense in [
        frame(DATA, 0, 0, b"x"),
        frame(DATA, 0, 7, b"x"),
        frame(HEADERS, WHOLE, 2, &[0x82]),
        frame(HEADERS, WHOLE, 1, &[0xff; 100]),
        frame(HEADERS, 0x2d, 1, &[0]),
        frame(SETTINGS, 0, 0, &[0; 5]),
        frame(PING, 0, 0, &[0; 7]),
        frame(WINDOW, 0, 0, &[0; 4]),
        frame(RESET, 0, 1, &[0; 4]),
        vec![0xff; 64],
    ] {
        server.flood(&begin, &nonsense, 1);
    }
    server.holds("nonsense");
    server.ends();
}
