//! A room in which everybody hears everybody, over a unix socket, whichever process holds whose connection.
//!
//! ```text
//! cargo run --example chat -- unix:///tmp/chat.sock
//! ```
//! `socat - UNIX-CONNECT:/tmp/chat.sock`, twice. A line is said to all who are there; the history of the last lines is in shared memory, and survives any worker.

use commons::server::{Bytes, Conn, Handler, Server, Worker};
use commons::{Column, Schema, Table};

/// Lines that a newcomer is shown.
const HISTORY: i64 = 20;

struct Room {
    /// The last lines, by number modulo [`HISTORY`]; under `next` the number of the next one.
    lines: Table,
    number: Column<i64>,
    text: Column<[u8]>,
    workers: usize,
}

impl Room {
    fn new(workers: usize) -> commons::Result<Room> {
        let mut schema = Schema::new();
        let (number, text) = (schema.int("number"), schema.bytes("text", 1024));
        Ok(Room { lines: Table::new(64, schema)?, number, text, workers })
    }

    fn keep(&self, line: &[u8]) -> commons::Result<()> {
        let number = self.lines.incr("next", self.number, 1)?;
        let key = (number % HISTORY).to_string();
        self.lines.set(key, &[self.number.is(number), self.text.is(&line[..line.len().min(1024)])]).map(drop)
    }

    fn history(&self) -> Vec<u8> {
        let mut lines: Vec<_> = self.lines.iter().filter(|(key, _)| key.as_str() != Some("next")).collect();
        lines.sort_by_key(|(_, row)| row.get(self.number));
        lines.iter().flat_map(|(_, row)| row.get(self.text).to_vec()).collect()
    }

    /// Says it to all connections of this process.
    fn say(worker: &Worker, line: &Bytes) {
        for id in worker.connections(None, usize::MAX) {
            if let Some(conn) = worker.conn(id) {
                // Who does not read misses a line; the others do not wait for that one.
                let _ = conn.try_send(line.clone());
            }
        }
    }
}

impl Handler for Room {
    async fn connect(&self, _: &Worker, conn: &Conn) -> commons::Result<()> {
        conn.send(self.history()).await
    }

    async fn receive(&self, worker: &Worker, _: &Conn, data: Bytes) -> commons::Result<()> {
        self.keep(&data)?;
        Room::say(worker, &data);
        for other in (0..self.workers).filter(|other| *other != worker.id()) {
            worker.send_message(other, &data).await?;
        }
        Ok(())
    }

    async fn pipe_message(&self, worker: &Worker, _: usize, data: Vec<u8>) -> commons::Result<()> {
        Room::say(worker, &data.into());
        Ok(())
    }
}

fn main() -> commons::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "unix:///tmp/chat.sock".to_owned());
    let workers = 2;
    Server::builder().listen(&address)?.workers(workers as u32).run(Room::new(workers)?)
}
