//! A web application on axum, in several processes: who asks too often, who is logged in, and how many reports are being made at once is known to all of them.
//!
//! ```text
//! cargo run --example web -- tcp://127.0.0.1:9504
//! ```
//! `curl -i 127.0.0.1:9504/`, more than 20 times in a second: 429. `curl -i -c jar -X POST '127.0.0.1:9504/login?name=bob'`, then `curl -b jar
//! 127.0.0.1:9504/me`, whichever worker answers, also after `kill -9` of any of them. `curl 127.0.0.1:9504/report` is made by a task worker, which may block: the
//! workers answer others meanwhile, and when that one dies another one begins anew.

use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{Query, Request, State};
use axum::http::header::{COOKIE, RETRY_AFTER, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use commons::server::{Handler, Peer, Server, Task, Worker, WorkerHandle};
use commons::{Column, Schema, Semaphore, Table};

/// Requests of one address in one second.
const RATE: i64 = 20;
/// Connections of the whole server; more of them wait.
const CONNECTIONS: u32 = 1000;
/// Reports that are made at once, by all workers together.
const REPORTS: u32 = 2;
const PATIENCE: Duration = Duration::from_secs(10);
const SESSION: Duration = Duration::from_secs(1800);

/// Made before the fork: every handle leads to the same memory in every process.
#[derive(Clone)]
struct Shared {
    rates: Table,
    hits: Column<i64>,
    sessions: Table,
    name: Column<str>,
    visits: Column<i64>,
    reports: Semaphore,
}

impl Shared {
    fn new() -> commons::Result<Shared> {
        let mut schema = Schema::new();
        let hits = schema.int("hits");
        // Full of strangers it forgets those who have not been seen for longest, and refuses nobody for want of room.
        let rates = Table::builder().capacity(10_000).schema(schema).ttl().evict_lru().build()?;
        let mut schema = Schema::new();
        let (name, visits) = (schema.string("name", 64), schema.int("visits"));
        let sessions = Table::builder().capacity(10_000).schema(schema).ttl().evict_lru().build()?;
        Ok(Shared { rates, hits, sessions, name, visits, reports: Semaphore::new(REPORTS)? })
    }

    /// Counts a request; whether it is one too many in this second.
    fn is_too_many(&self, who: &str) -> commons::Result<bool> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // The second is part of the key, so that a death between the two lines leaves a row that nobody asks for again, not a client that is shut out.
        let key = format!("{who} {}", now.as_secs());
        let hits = self.rates.incr(&key, self.hits, 1)?;
        self.rates.expire_at(&key, Some(Instant::now() + Duration::from_secs(2)))?;
        Ok(hits > RATE)
    }
}

/// An error of the shared memory is an answer too.
struct Failed(commons::Error);

impl From<commons::Error> for Failed {
    fn from(error: commons::Error) -> Self {
        Failed(error)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", self.0)).into_response()
    }
}

async fn limit(State(shared): State<Shared>, request: Request, next: Next) -> Result<Response, Failed> {
    let who = match request.extensions().get::<Peer>() {
        Some(Peer::Inet(address)) => address.ip().to_string(),
        Some(_) | None => "local".to_owned(),
    };
    if shared.is_too_many(&who)? {
        return Ok((StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "1")], "not so fast\n").into_response());
    }
    Ok(next.run(request).await)
}

#[derive(serde::Deserialize)]
struct Login {
    name: String,
}

async fn login(State(shared): State<Shared>, Query(login): Query<Login>) -> Result<Response, Failed> {
    // Keyed at random in each process, by what nobody outside knows; enough for an example, too little for a bank.
    let [one, two] = [(); 2].map(|()| RandomState::new().hash_one(Instant::now()));
    let id = format!("{one:016x}{two:016x}");
    shared.sessions.set_ttl(&id, &[shared.name.is(&login.name)], SESSION)?;
    let cookie = format!("session={id}; HttpOnly; SameSite=Lax; Max-Age={}", SESSION.as_secs());
    Ok((StatusCode::CREATED, [(SET_COOKIE, cookie)]).into_response())
}

fn session(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get(COOKIE)?.to_str().ok()?;
    let id = cookies.split("; ").find_map(|cookie| cookie.strip_prefix("session="))?;
    // Of another length it is none of ours, and might be no key at all.
    (id.len() == 32).then_some(id)
}

async fn me(State(shared): State<Shared>, headers: HeaderMap) -> Result<Response, Failed> {
    let visit = session(&headers).map(|id| {
        shared.sessions.update_with(id, |row| {
            let visits = row.get(shared.visits) + 1;
            row.set(shared.visits, visits);
            (row.get(shared.name).to_owned(), visits)
        })
    });
    Ok(match visit.transpose()?.flatten() {
        Some((name, visits)) => format!("{name}, visit {visits}, answered by {}\n", std::process::id()).into_response(),
        None => (StatusCode::UNAUTHORIZED, "who are you?\n").into_response(),
    })
}

async fn logout(State(shared): State<Shared>, headers: HeaderMap) -> StatusCode {
    match session(&headers).is_some_and(|id| shared.sessions.del(id)) {
        true => StatusCode::NO_CONTENT,
        false => StatusCode::UNAUTHORIZED,
    }
}

/// A permit that comes back however the request ends, and by itself when the worker dies.
struct Permit(Semaphore);

impl Drop for Permit {
    fn drop(&mut self) {
        // It fails only for a permit that is not ours.
        let _ = self.0.release();
    }
}

async fn report(State(shared): State<Shared>, Extension(worker): Extension<WorkerHandle>) -> Result<Response, Failed> {
    if !shared.reports.try_acquire()? {
        return Ok((StatusCode::SERVICE_UNAVAILABLE, "as many reports as we can make are being made\n").into_response());
    }
    let _permit = Permit(shared.reports.clone());
    Ok(worker.task_wait("report", PATIENCE).await?.into_response())
}

/// What task workers do.
struct Reports;

impl Handler for Reports {
    fn task(&self, worker: &Worker, _: &Task) -> commons::Result<Vec<u8>> {
        // Stands for work: nobody else waits for this process.
        std::thread::sleep(Duration::from_millis(500));
        Ok(format!("all is well, says process {}\n", worker.pid()).into_bytes())
    }
}

fn app(shared: &Shared, worker: &Worker) -> Router {
    let hello = format!("hello from worker {}, process {}\n", worker.id(), worker.pid());
    Router::new()
        .route("/", get(|| async move { Ok::<_, Infallible>(hello) }))
        .route("/login", post(login))
        .route("/me", get(me))
        .route("/logout", post(logout))
        .route("/report", get(report))
        .layer(from_fn_with_state(shared.clone(), limit))
        // Futures of axum must be Send, which those that hold a `Worker` are not.
        .layer(Extension(worker.handle()))
        .with_state(shared.clone())
}

// Not private to this file, for a test runs it.
pub(crate) fn main() -> commons::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "tcp://127.0.0.1:9504".to_owned());
    let shared = Shared::new()?;
    Server::builder()
        .with(|config| config.max_connections(CONNECTIONS))
        .task_workers(REPORTS)
        .http(&address, move |worker| app(&shared, worker))?
        .environment()
        .run(Reports)
}
