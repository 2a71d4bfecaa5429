//! A worker's handle, asked on its thread, on another one, and in a process forked off it.
#![allow(unsafe_code)]

use std::time::Duration;

use commons::server::{Worker, WorkerHandle};
use commons::{Error, Result};
use rustix::process::{WaitOptions, waitpid};

use super::server::failed;

const SOON: Duration = Duration::from_secs(5);

/// Whether all that belongs to the worker's thread is refused, and the rest is answered.
fn refuses(handle: &WorkerHandle) -> bool {
    let tried = [handle.try_task("double 1").map(drop), handle.try_send_message(0, "from elsewhere x")];
    tried.iter().all(is_wrong) && !handle.is_exiting() && !handle.stats().processes.is_empty()
}

fn is_wrong(tried: &Result<()>) -> bool {
    matches!(tried, Err(Error::WrongProcess { .. }))
}

/// The same of what is awaited, in a runtime of another thread; and what one of the errors says.
fn in_thread(handle: &WorkerHandle) -> (bool, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let tried = runtime.block_on(async {
        let task = handle.task("double 1").await.map(drop);
        let wait = handle.task_wait("double 1", SOON).await.map(drop);
        let all = handle.task_all(&["double 1"], SOON).await.map(drop);
        [task, wait, all, handle.send_message(0, "from elsewhere x").await]
    });
    let why = tried[0].as_ref().err().map(ToString::to_string);
    (tried.iter().all(is_wrong) && refuses(handle), why.unwrap_or_default())
}

/// Runs `f` in a child of this process, which has one thread.
fn in_child(f: impl FnOnce() -> bool) -> bool {
    // SAFETY: no other thread could hold a lock that the child needs.
    match unsafe { libc::fork() } {
        0 => {
            let status = i32::from(!f());
            // SAFETY: leaves at once, without what this process would do at its end.
            unsafe { libc::_exit(status) }
        }
        child => {
            let end = waitpid(Some(super::pid(child)), WaitOptions::empty());
            end.is_ok_and(|end| end.is_some_and(|(_, status)| status.exit_status() == Some(0)))
        }
    }
}

/// One line of what came of it.
pub(super) async fn ask(worker: &Worker) -> Result<String> {
    let handle = worker.handle();
    let elsewhere = handle.clone();
    let (thread, why) = std::thread::spawn(move || in_thread(&elsewhere)).join().map_err(|_| failed("the thread"))?;
    let child = in_child(|| refuses(&handle));
    let here = handle.task_wait("double 21", SOON).await?;
    let all = handle.task_all(&["double 1", "error"], SOON).await?;
    handle.send_message(handle.id(), "by its handle x").await?;
    let here = String::from_utf8_lossy(&here).into_owned();
    Ok(format!("thread {thread}, child {child}, here {here} {} {}; {why}", all.len(), all[1].is_err()))
}
