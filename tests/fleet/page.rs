//! What the servers of these tests serve.

use commons::server::{Builder, Bytes, Handler, Server, Task, Worker};
use commons::{Error, Result};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::{Request, Response, StatusCode};
use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tower_service::Service;

/// Longer than any task may take that is not lost.
const LONG: Duration = Duration::from_secs(15);

thread_local! {
    /// Messages that this worker has received.
    static TOLD: Cell<u64> = const { Cell::new(0) };
}

/// A service for one worker. It fails on request.
#[derive(Clone)]
pub(crate) struct Page(pub(crate) Worker);

type Answer = std::result::Result<Response<Full<Bytes>>, String>;

impl Service<Request<Incoming>> for Page {
    type Response = Response<Full<Bytes>>;
    type Error = String;
    type Future = Pin<Box<dyn Future<Output = Answer>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), String>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let worker = self.0.clone();
        Box::pin(async move {
            if request.uri().path() == "/body" {
                return body(request.into_body()).await;
            }
            answer(&worker, request.uri().path()).await
        })
    }
}

/// Much that takes no memory.
static ZEROES: [u8; 100 << 20] = [0; 100 << 20];

/// How many bytes there were.
async fn body(mut body: Incoming) -> Answer {
    let mut len = 0;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => len += frame.data_ref().map_or(0, Bytes::len),
            Err(error) => return status(StatusCode::BAD_REQUEST, error.to_string()),
        }
    }
    Ok(Response::new(Full::from(len.to_string())))
}

async fn answer(worker: &Worker, path: &str) -> Answer {
    let text = |text: String| Ok(Response::new(Full::from(text)));
    match path {
        "/" => text("hello".to_owned()),
        "/pid" => text(worker.pid().to_string()),
        "/fails" => Err("it was asked to".to_owned()),
        "/panics" => panic!("it was asked to"),
        "/tell" => match worker.send_message(worker.id(), "x").await {
            Ok(()) => text("told".to_owned()),
            Err(error) => status(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        },
        "/large" => Ok(Response::new(Full::from(Bytes::from_static(&ZEROES)))),
        "/told" => text(TOLD.get().to_string()),
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(300)).await;
            text("at last".to_owned())
        }
        "/stats" => {
            let body = serde_json::to_vec(&worker.stats()).map_err(|error| error.to_string())?;
            let mut response = Response::new(Full::from(body));
            let json = hyper::header::HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, json);
            Ok(response)
        }
        _ => match path.strip_prefix("/task/") {
            Some(what) => task(worker, what).await,
            None => status(StatusCode::NOT_FOUND, path.to_owned()),
        },
    }
}

fn status(status: StatusCode, text: String) -> Answer {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    Ok(response)
}

async fn task(worker: &Worker, what: &str) -> Answer {
    match worker.task_wait(what, LONG).await {
        Ok(result) => Ok(Response::new(Full::from(result))),
        Err(error @ Error::TaskLost { .. }) => status(StatusCode::GONE, error.to_string()),
        // For want of descriptors.
        Err(error @ Error::System { .. }) => status(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// What task workers do: give back what they got, backwards; or die of it.
pub(crate) struct Backwards;

impl Handler for Backwards {
    async fn pipe_message(&self, _: &Worker, _: usize, _: Vec<u8>) -> Result<()> {
        TOLD.set(TOLD.get() + 1);
        Ok(())
    }

    fn task(&self, worker: &Worker, task: &Task) -> Result<Vec<u8>> {
        match task.data() {
            b"poison" => {
                let me = i32::try_from(worker.pid()).expect("a pid");
                crate::served::send(me, rustix::process::Signal::KILL);
            }
            b"long" => std::thread::sleep(Duration::from_millis(600)),
            b"slow" => std::thread::sleep(Duration::from_millis(20)),
            _ => {}
        }
        Ok(task.data().iter().rev().copied().collect())
    }
}

/// A server of these pages, at a port of the kernel's choice.
pub(crate) fn builder() -> Result<Builder> {
    let page = |worker: &Worker| Page(worker.clone());
    Server::builder().http("127.0.0.1:0", page)
}
