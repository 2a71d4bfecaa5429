//! HTTP "hello": our server with two workers beside a raw epoll loop in two processes, nginx where there is one, and plain hyper, all under the same `wrk`.
//!
//! The raw loop parses nothing: it answers whatever it reads with the same bytes. It is what the kernel allows on this machine, and no server. Plain hyper is the
//! leanest use of what ours is made of, with no time limit, no figures and no way to leave: the distance from there to the raw loop and to nginx is not ours to
//! close. Rounds are taken in turns, and each ratio is of two in one round. Without `wrk` it says so and succeeds.

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
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustix::event::epoll;
use socket2::{Domain, Socket, Type};
use tokio::runtime::{Builder, LocalOptions};
use tower_service::Service;

/// 24 bytes.
const HELLO: &[u8] = b"hello, hello and hello!\n";
const WORKERS: u32 = 2;
const ROUNDS: usize = 7;
const SECONDS: &str = "2s";

/// Who is measured against whom, and the least ratio; the last three only say where the distance is.
const PAIRS: [(&str, &str, Option<f64>); 5] = [
    ("ours", "raw", Some(0.95)),
    ("ours", "nginx", Some(1.0)),
    ("ours", "hyper", None),
    ("hyper", "raw", None),
    ("hyper", "nginx", None),
];

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
        "hyper" => plain_hyper(address),
        _ => raw(address),
    };
    if let Err(error) = done {
        println!("{error}");
    }
    std::process::exit(1);
}

/// A socket of this process's own at a port that several share.
fn own_listener(address: &str) -> TcpListener {
    let address: SocketAddr = address.parse().expect("an address");
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_reuse_port(true).expect("a socket");
    socket.set_nonblocking(true).expect("a socket");
    socket.bind(&address.into()).expect("a free port");
    socket.listen(4096).expect("a socket");
    socket.into()
}

/// One of the processes of plain hyper.
fn plain_hyper(address: &str) -> ! {
    let runtime = Builder::new_current_thread().enable_io().build_local(LocalOptions::default()).expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(own_listener(address)).expect("a socket");
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let _ = stream.set_nodelay(true);
            let service =
                service_fn(|_| ready(Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(HELLO))))));
            tokio::task::spawn_local(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    })
}

/// One of the processes of the raw loop.
fn raw(address: &str) -> ! {
    let listener = own_listener(address);
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
    let mut servers = vec![start("ours", 1), start("raw", WORKERS as usize), start("hyper", WORKERS as usize)];
    if !args.iter().any(|arg| arg == "--bench") {
        return ExitCode::SUCCESS;
    }
    servers.extend(nginx());
    println!(
        "http: hello of {} bytes, wrk -t1 -c100, {WORKERS} workers, {ROUNDS} rounds of {SECONDS}; median [least .. greatest]",
        HELLO.len()
    );
    let rounds: Vec<Vec<f64>> = (0..ROUNDS).filter_map(|_| servers.iter().map(measure).collect()).collect();
    let of = |name: &str| servers.iter().position(|server| server.name == name);
    let mut met = true;
    for (one, other, bar) in PAIRS {
        let Some((a, b)) = of(one).zip(of(other)) else { continue };
        let middle = |figures: Vec<f64>| sorted(figures)[rounds.len() / 2];
        let ratios = sorted(rounds.iter().map(|round| round[a] / round[b]).collect());
        let ratio = ratios[ratios.len() / 2];
        let verdict = match bar {
            Some(bar) if ratio >= bar => format!("bar {bar} meets"),
            Some(bar) => {
                met = false;
                format!("bar {bar} MISSES")
            }
            None => "for information, no bar".to_owned(),
        };
        println!(
            "{one} {:.0} a second, {other} {:.0}: {ratio:.2} [{:.2} .. {:.2}], {verdict}",
            middle(rounds.iter().map(|round| round[a]).collect()),
            middle(rounds.iter().map(|round| round[b]).collect()),
            ratios[0],
            ratios[ratios.len() - 1]
        );
    }
    let judged = std::env::var("COMMONS_BARS").is_ok_and(|value| value == "enforce");
    if met || !judged { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
