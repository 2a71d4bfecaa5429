//! What the server under test is built from: what stands in its arguments and its environment.

use std::time::Duration;

use commons::server::{Config, Server, Worker};
use commons::{AtomicLong, Result};

use super::server::{UnderTest, failed, tell};

/// What a process of the user's does.
async fn body(kind: String, worker: Worker) -> Result<()> {
    tell(format_args!("user {} {}", worker.id(), worker.pid()));
    match kind.as_str() {
        "ends" => tokio::time::sleep(Duration::from_millis(20)).await,
        "errs" => return Err(failed("a user process")),
        "panics" => panic!("a user process"),
        // Says a number to worker 0 again and again.
        "talks" => {
            for at in 0..100 {
                worker.send_message(0, format!("talk {at} x")).await?;
            }
            worker.exiting().await;
        }
        _ => worker.exiting().await,
    }
    tell(format_args!("user {} ends", worker.id()));
    Ok(())
}

/// Runs it; what it is to be stands in the arguments, and settings in the environment.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let mut builder = Server::builder().environment();
    let mut fault = String::new();
    for argument in arguments {
        let (what, value) = argument.split_once('=').unwrap_or((argument, ""));
        builder = match what {
            "--listen" => builder.listen(value)?,
            "--base" => builder.workers(9).config(Config::default().workers(3).task_workers(2)),
            "--config" => builder.config_file(value),
            "--user" => {
                let (kind, early) = (value.to_owned(), value == "panics early");
                builder.process(value, move |worker| {
                    assert!(!early, "before there is a future");
                    body(kind.clone(), worker)
                })
            }
            "--async-tasks" => builder.async_tasks(),
            "--fault" => {
                fault = value.to_owned();
                builder
            }
            _ => builder,
        };
    }
    let number = || AtomicLong::new(0);
    builder.run(UnderTest { fault, tries: number()?, starts: number()?, shared: number()? })
}
