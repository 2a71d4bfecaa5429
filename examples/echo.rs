//! Sends back what it gets, on as many processes as there are processors, and counts the pieces in shared memory.
//!
//! ```text
//! cargo run --example echo -- tcp://127.0.0.1:9501
//! ```
//! `printf 'hello' | socat -t1 - TCP:127.0.0.1:9501` prints it; `kill -USR1` of the first process renews the workers, `kill -9` of a worker has it replaced, and the count
//! goes on.

#![allow(clippy::print_stdout, reason = "a program may print")]

use commons::AtomicLong;
use commons::server::{Bytes, Conn, Handler, Server, Worker};

struct Echo {
    pieces: AtomicLong,
}

impl Handler for Echo {
    async fn receive(&self, _: &Worker, conn: &Conn, data: Bytes) -> commons::Result<()> {
        self.pieces.add(1);
        conn.send(data).await
    }

    fn shutdown(&self) {
        println!("{} pieces were sent back", self.pieces.get());
    }
}

fn main() -> commons::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "tcp://127.0.0.1:9501".to_owned());
    Server::builder().listen(&address)?.environment().run(Echo { pieces: AtomicLong::new(0)? })
}
