//! HTTP "hello": our server with two workers beside a raw epoll loop in two processes, and nginx where there is one, all under the same `wrk`.
//!
//! The raw loop parses nothing: it answers whatever it reads with the same bytes. It is what the kernel allows on this machine, and no server. Runs are taken in
//! turns, and each ratio is of two that follow each other. Without `wrk` it says so and succeeds.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use commons::server::{Bytes, Server};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use rustix::event::epoll;
use socket2::{Domain, Socket, Type};
use tower_service::Service;

/// 24 bytes.
const HELLO: &[u8] = b"hello, hello and hello!\n";
const WORKERS: u32 = 2;
const ROUNDS: usize = 7;
const SECONDS: &str = "2s";

#[derive(Clone)]
struct Hello;

impl Service<Request<Incoming>> for Hello {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Incoming>) -> Self::Future {
        ready(Ok(Response::new(Full::new(Bytes::from_static(HELLO)))))
    }
}

/// This program again, as one of the servers: it must be forked by nobody who has threads.
fn serve(what: &str, address: &str) -> ! {
    let done = match what {
        "ours" => Server::builder()
            .http(address, |_| Hello)
            .map(|builder| builder.workers(WORKERS))
            .and_then(|builder| builder.run(())),
        _ => {
            raw(address);
            Ok(())
        }
    };
    if let Err(error) = done {
        println!("{error}");
    }
    std::process::exit(1);
}

/// One of the processes of the raw loop; each has a socket of its own at the one port.
fn raw(address: &str) {
    let address: SocketAddr = address.parse().expect("an address");
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_reuse_port(true).expect("a socket");
    socket.set_nonblocking(true).expect("a socket");
    socket.bind(&address.into()).expect("a free port");
    socket.listen(4096).expect("a socket");
    let listener = TcpListener::from(socket);
    let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", HELLO.len());
    let response = [response.as_bytes(), HELLO].concat();
    let poller = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
    epoll::add(&poller, &listener, epoll::EventData::new_u64(u64::MAX), epoll::EventFlags::IN).expect("epoll");
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    let mut events = Vec::with_capacity(256);
    let mut buffer = [0; 4096];
    loop {
        events.clear();
        let _ = epoll::wait(&poller, rustix::buffer::spare_capacity(&mut events), None);
        for event in &events {
            let data = event.data.u64();
            if data == u64::MAX {
                while let Ok((stream, _)) = listener.accept() {
                    let (_, _) = (stream.set_nodelay(true), stream.set_nonblocking(true));
                    let at = usize::try_from(stream.as_raw_fd()).expect("a descriptor");
                    let data = epoll::EventData::new_u64(at as u64);
                    epoll::add(&poller, &stream, data, epoll::EventFlags::IN).expect("epoll");
                    streams.resize_with(streams.len().max(at + 1), || None);
                    streams[at] = Some(stream);
                }
                continue;
            }
            let slot = &mut streams[data as usize];
            let alive = slot.as_mut().is_some_and(|stream| {
                stream.read(&mut buffer).is_ok_and(|n| n > 0) && stream.write_all(&response).is_ok()
            });
            if !alive {
                *slot = None;
            }
        }
    }
}

/// Servers that are being measured; they end with this.
struct Running {
    name: &'static str,
    address: String,
    children: Vec<Child>,
    folder: Option<PathBuf>,
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.children {
            // A server of several processes is asked, so that it takes them with it.
            let pid = rustix::process::Pid::from_child(child);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let _ = child.wait();
        }
        if let Some(folder) = &self.folder {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// A port that is free now; the server that takes it comes at once.
fn free() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").to_string()
}

fn start(name: &'static str, processes: usize) -> Running {
    let address = free();
    let this = std::env::current_exe().expect("this program");
    let children = (0..processes)
        .map(|_| Command::new(&this).args(["--serve", name, &address]).stderr(Stdio::null()).spawn().expect("a server"))
        .collect();
    await_answer(Running { name, address, children, folder: None })
}

fn nginx() -> Option<Running> {
    let address = free();
    let folder = std::env::temp_dir().join(format!("commons-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).ok()?;
    let hello = String::from_utf8_lossy(HELLO);
    let conf = format!(
        "daemon off; worker_processes {WORKERS}; pid nginx.pid; error_log /dev/null;\nevents {{ worker_connections 1024; }}\n\
         http {{ access_log off; keepalive_requests 100000000; server {{ listen {address}; location / {{ return 200 \"{hello}\"; }} }} }}\n"
    );
    std::fs::write(folder.join("nginx.conf"), conf).ok()?;
    let mut command = Command::new("nginx");
    command.args(["-p", folder.to_str()?, "-c", "nginx.conf"]).stderr(Stdio::null());
    let Ok(child) = command.spawn() else {
        let _ = std::fs::remove_dir_all(&folder);
        return None;
    };
    Some(await_answer(Running { name: "nginx", address, children: vec![child], folder: Some(folder) }))
}

/// Waits until it answers as it should.
fn await_answer(running: Running) -> Running {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = TcpStream::connect(&running.address).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            stream.write_all(b"GET / HTTP/1.1\r\nhost: bench\r\n\r\n")?;
            let mut answer = [0; 1024];
            let n = stream.read(&mut answer)?;
            Ok(answer[..n].ends_with(HELLO))
        });
        if answer.unwrap_or(false) {
            return running;
        }
        assert!(Instant::now() < end, "{} does not answer at {}", running.name, running.address);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Requests a second; None when a request failed.
fn measure(running: &Running) -> Option<f64> {
    let url = format!("http://{}/", running.address);
    let out = Command::new("wrk").args(["-t1", "-c100", "-d", SECONDS, &url]).output().ok()?;
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(!text.contains("Socket errors") && !text.contains("Non-2xx"), "{}: {text}", running.name);
    let line = text.lines().find(|line| line.starts_with("Requests/sec:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn sorted(mut figures: Vec<f64>) -> Vec<f64> {
    figures.sort_by(f64::total_cmp);
    figures
}

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args().skip(1).collect();
    if let [serve_flag, what, address] = &args[..]
        && serve_flag == "--serve"
    {
        serve(what, address);
    }
    if Command::new("wrk").arg("--version").output().is_err() {
        println!("http: needs wrk, which is not installed");
        return ExitCode::SUCCESS;
    }
    let (ours, raw) = (start("ours", 1), start("raw", WORKERS as usize));
    if !args.iter().any(|arg| arg == "--bench") {
        return ExitCode::SUCCESS;
    }
    let others = [Some((raw, 0.95)), nginx().map(|nginx| (nginx, 1.0))];
    let mut met = true;
    println!(
        "http: hello of {} bytes, wrk -t1 -c100, {WORKERS} workers, {ROUNDS} rounds of {SECONDS}; median [least .. greatest]",
        HELLO.len()
    );
    for (other, bar) in others.into_iter().flatten() {
        let rounds: Vec<_> = (0..ROUNDS).filter_map(|_| measure(&ours).zip(measure(&other))).collect();
        let of = |pick: fn(&(f64, f64)) -> f64| sorted(rounds.iter().map(pick).collect());
        let (mine, theirs, ratios) = (of(|round| round.0), of(|round| round.1), of(|round| round.0 / round.1));
        let middle = rounds.len() / 2;
        let ratio = ratios[middle];
        met &= ratio >= bar;
        let verdict = if ratio >= bar { "meets" } else { "MISSES" };
        println!(
            "ours {:.0} a second, {} {:.0}: {ratio:.2} [{:.2} .. {:.2}], bar {bar} {verdict}",
            mine[middle],
            other.name,
            theirs[middle],
            ratios[0],
            ratios[ratios.len() - 1]
        );
    }
    let judged = std::env::var("COMMONS_BARS").is_ok_and(|value| value == "enforce");
    if met || !judged { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
