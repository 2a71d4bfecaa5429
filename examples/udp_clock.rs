//! Tells the time to whoever sends a datagram, in milliseconds since 1970.
//!
//! ```text
//! cargo run --example udp_clock -- udp://127.0.0.1:9502
//! ```
//! `echo | socat -t1 - UDP:127.0.0.1:9502` prints it.

use std::time::{SystemTime, UNIX_EPOCH};

use commons::server::{Handler, Packet, Server, Worker};

struct Clock;

impl Handler for Clock {
    async fn packet(&self, _: &Worker, packet: &Packet) -> commons::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        packet.reply(format!("{now}\n")).await
    }
}

fn main() -> commons::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "udp://127.0.0.1:9502".to_owned());
    Server::builder().listen(&address)?.environment().run(Clock)
}
