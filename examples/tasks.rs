//! Work that takes long goes to task workers: each line is a number, and the answer is its prime factors.
//!
//! ```text
//! cargo run --example tasks -- tcp://127.0.0.1:9503
//! ```
//! `echo 1000000007000000063 | socat -t60 - TCP:127.0.0.1:9503`. Kill the task worker in the middle: another one takes the task up.

use std::time::Duration;

use commons::server::{Bytes, Conn, Handler, Server, Task, Worker};

struct Factors;

impl Handler for Factors {
    async fn receive(&self, worker: &Worker, conn: &Conn, data: Bytes) -> commons::Result<()> {
        for line in data.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let answer = match worker.task_wait(line, Duration::from_secs(60)).await {
                Ok(factors) => factors,
                Err(error) => format!("{error}\n").into_bytes(),
            };
            conn.send(answer).await?;
        }
        Ok(())
    }

    fn task(&self, _: &Worker, task: &Task) -> commons::Result<Vec<u8>> {
        let Some(mut n) = std::str::from_utf8(task.data()).ok().and_then(|text| text.trim().parse::<u64>().ok()) else {
            return Ok(b"not a number below 2^64\n".to_vec());
        };
        let mut factors = Vec::new();
        let mut divisor = 2;
        while divisor * divisor <= n {
            while n % divisor == 0 {
                factors.push(divisor.to_string());
                n /= divisor;
            }
            divisor += 1;
        }
        factors.push(n.to_string());
        Ok((factors.join(" ") + "\n").into_bytes())
    }
}

fn main() -> commons::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "tcp://127.0.0.1:9503".to_owned());
    Server::builder().listen(&address)?.workers(2).task_workers(2).run(Factors)
}
