//! Handlers without their type, and what happens to a call that fails.
//!
//! Ports of one server have handlers of several types, and what calls them should not be compiled anew for each; so a call is a boxed future. One allocation a
//! call, of some hundred instructions that it costs to read from a socket.
#![forbid(unsafe_code)]

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::Poll;

use super::board::Stats;
use super::conn::Conn;
use super::handler::{Bytes, Handler, Task, WorkerError};
use super::packet::Packet;
use super::worker::Worker;
use crate::process::exit::panic_text;
use crate::{Result, TaskId};

/// A call under way.
pub(super) type Call<'a, T = ()> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

macro_rules! calls {
    (plain { $($plain:ident($($argument:ident: $of:ty),*);)* } async { $($name:ident($($arg:ident: $type:ty),*) -> $out:ty;)* }) => {
        /// [`Handler`], with futures in boxes.
        pub(super) trait Calls {
            $(fn $plain(&self, $($argument: $of),*);)*
            $(fn $name<'a>(&'a self, worker: &'a Worker, $($arg: $type),*) -> Call<'a, $out>;)*
            fn task(&self, worker: &Worker, task: &Task) -> Result<Vec<u8>>;
        }

        impl<H: Handler> Calls for H {
            $(fn $plain(&self, $($argument: $of),*) {
                Handler::$plain(self, $($argument),*);
            })*
            $(fn $name<'a>(&'a self, worker: &'a Worker, $($arg: $type),*) -> Call<'a, $out> {
                Box::pin(Handler::$name(self, worker, $($arg),*))
            })*
            fn task(&self, worker: &Worker, task: &Task) -> Result<Vec<u8>> {
                Handler::task(self, worker, task)
            }
        }
    };
}

calls! {
    plain {
        start(stats: &Stats);
        before_shutdown();
        shutdown();
        manager_start();
        manager_stop();
        worker_error(error: &WorkerError);
        before_reload();
        after_reload();
    }
    async {
        worker_start() -> ();
        worker_exit() -> ();
        worker_stop() -> ();
        connect(conn: &'a Conn) -> ();
        receive(conn: &'a Conn, data: Bytes) -> ();
        close(conn: &'a Conn) -> ();
        packet(packet: &'a Packet) -> ();
        buffer_full(conn: &'a Conn) -> ();
        buffer_empty(conn: &'a Conn) -> ();
        finish(task: TaskId, result: Result<Vec<u8>>) -> ();
        pipe_message(from: usize, data: Vec<u8>) -> ();
        task_async(task: &'a Task) -> Vec<u8>;
    }
}

/// How a call ended: its value, or in words why there is none.
pub(super) type Ended<T> = std::result::Result<T, String>;

/// Sees a call to its end, a panic included.
pub(super) async fn guarded<T>(call: impl Future<Output = Result<T>>) -> Ended<T> {
    let mut call = pin!(call);
    poll_fn(|cx| {
        // The future is not polled again after a panic; what it was in the middle of is dropped with it.
        match caught(|| call.as_mut().poll(cx)) {
            Ok(polled) => polled.map_err(|error| error.to_string()),
            Err(why) => Poll::Ready(Err(why)),
        }
    })
    .await
}

/// The same for a plain call.
pub(super) fn guarded_now<T>(call: impl FnOnce() -> Result<T>) -> Ended<T> {
    caught(call)?.map_err(|error| error.to_string())
}

/// A panic in words.
pub(super) fn caught<T>(call: impl FnOnce() -> T) -> Ended<T> {
    catch_unwind(AssertUnwindSafe(call)).map_err(panic_text)
}
