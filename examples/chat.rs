//! A room in which everybody hears everybody, over a unix socket, whichever process holds whose connection.
//!
//! ```text
//! cargo run --example chat -- unix:///tmp/chat.sock
//! ```
//! `socat - UNIX-CONNECT:/tmp/chat.sock`, twice. A line is said to all who are there, also to those whose worker is being renewed (`kill -USR1`). Who is there, and
//! the history of the last lines, is in shared memory, and survives any worker.

use commons::server::{Bytes, Conn, ConnId, Handler, Server, Worker};
use commons::{Column, Error, Schema, Table};

/// Lines that a newcomer is shown.
const HISTORY: i64 = 20;
/// Connections of the whole server; more of them wait.
const GUESTS: u32 = 1000;

struct Room {
    /// The last lines, by number modulo [`HISTORY`]; under `next` the number of the next one.
    lines: Table,
    number: Column<i64>,
    text: Column<[u8]>,
    /// The connections of all who are there, whichever process holds them.
    guests: Table,
}

impl Room {
    fn new() -> commons::Result<Room> {
        let mut schema = Schema::new();
        let (number, text) = (schema.int("number"), schema.bytes("text", 1024));
        // Those of a worker that was killed stay until somebody wants to tell them something.
        let guests = Table::new(2 * GUESTS as usize, Schema::new())?;
        Ok(Room { lines: Table::new(64, schema)?, number, text, guests })
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
}

fn key(id: ConnId) -> [u8; 8] {
    u64::from(id).to_le_bytes()
}

impl Handler for Room {
    async fn connect(&self, _: &Worker, conn: &Conn) -> commons::Result<()> {
        conn.send(self.history()).await?;
        self.guests.set(key(conn.id()), &[]).map(drop)
    }

    async fn receive(&self, worker: &Worker, _: &Conn, line: Bytes) -> commons::Result<()> {
        self.keep(&line)?;
        let guests: Vec<_> = self.guests.iter().filter_map(|(key, _)| key[..].try_into().ok()).collect();
        for id in guests.into_iter().map(|key| ConnId::from(u64::from_le_bytes(key))) {
            let said = match worker.conn(id) {
                // Who does not read misses a line; the others do not wait for that one.
                Some(conn) => conn.try_send(line.clone()),
                None => worker.send(id, line.clone()).await,
            };
            if let Err(Error::Closed) = said {
                self.guests.del(key(id));
            }
        }
        Ok(())
    }

    async fn close(&self, _: &Worker, conn: &Conn) -> commons::Result<()> {
        self.guests.del(key(conn.id()));
        Ok(())
    }
}

fn main() -> commons::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "unix:///tmp/chat.sock".to_owned());
    let server = Server::builder().listen(&address)?.workers(2);
    server.with(|config| config.max_connections(GUESTS)).run(Room::new()?)
}
