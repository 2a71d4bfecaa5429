//! A client that speaks in lines.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;

use super::{PATIENCE, Running};

pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

/// Who holds a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) worker: usize,
    pub(crate) pid: i32,
    pub(crate) id: u64,
}

impl Running {
    #[track_caller]
    pub(crate) fn client(&self) -> Client {
        self.try_client().expect("connect")
    }

    pub(crate) fn try_client(&self) -> std::io::Result<Client> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    /// Asks once, on a connection of its own.
    #[track_caller]
    pub(crate) fn ask(&self, command: &str) -> String {
        self.client().ask(command)
    }

    /// The same, of a server that may be down for a moment.
    pub(crate) fn try_ask(&self, command: &str) -> std::io::Result<String> {
        let mut client = self.try_client()?;
        client.try_say(command)?;
        client.try_line()
    }

    /// A connection that the worker in this place holds.
    #[track_caller]
    pub(crate) fn client_of(&self, worker: usize) -> (Client, Who) {
        let mut others = Vec::new();
        for _ in 0..200 {
            let mut client = self.client();
            let who = client.who();
            if who.worker == worker {
                return (client, who);
            }
            // Kept, so that the next one goes to another worker.
            others.push(client);
        }
        panic!("worker {worker} takes none of 200 connections");
    }
}

impl Client {
    pub(crate) fn try_say(&mut self, line: &str) -> std::io::Result<()> {
        self.stream.get_mut().write_all(format!("{line}\n").as_bytes())
    }

    #[track_caller]
    pub(crate) fn say(&mut self, line: &str) {
        self.try_say(line).expect("write");
    }

    pub(crate) fn try_line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        self.try_line().expect("a line")
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.say(command);
        self.line()
    }

    #[track_caller]
    pub(crate) fn who(&mut self) -> Who {
        let line = self.ask("who");
        let words: Vec<_> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().expect("a number");
        Who { worker: number(0) as usize, pid: number(1) as i32, id: number(2) }
    }

    /// Reads `n` bytes; false when it ended before.
    pub(crate) fn takes(&mut self, n: usize) -> bool {
        self.stream.read_exact(&mut vec![0; n]).is_ok()
    }

    /// Whether the server has closed it in good order; waits for it.
    #[track_caller]
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).is_ok_and(|n| n == 0)
    }

    /// Whether it is over, in good order or not.
    pub(crate) fn is_over(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        self.stream.get_mut()
    }
}
