//! What a worker does at its ports: takes connections and datagrams, and gives each to whom it is for.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::net::{UdpSocket, UnixDatagram};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::board::Count;
use super::calls::{Calls, guarded};
use super::conn::serve::{Manners, serve};
use super::conn::stream::Stream;
use super::conn::{Conn, ConnId, Marks};
use super::http::{MakeService, ServeOne};
use super::listen::accept::{Acceptor, SHORTAGE_WAIT};
use super::listen::address::Address;
use super::listen::open::{Listener, Tuning};
use super::listen::share::Loads;
use super::packet::{Datagrams, Packet, Peer};
use super::worker::Worker;
use crate::{Error, Result};

/// The longest datagram there is.
const DATAGRAM: usize = 65_536;
/// Calls for datagrams that one worker has under way at once, at each of its sockets; what comes meanwhile waits in the kernel's buffer, as far as that goes.
const PACKETS: usize = 1024;

/// Who serves what arrives at a port.
#[derive(Clone)]
pub(super) enum Serve {
    Calls(Rc<dyn Calls>),
    Http(MakeService),
}

/// A port of the server: one socket for all workers, or one for each.
pub(super) struct Port {
    pub(super) listeners: Vec<Listener>,
    pub(super) serve: Serve,
}

impl Port {
    /// # Errors
    /// [`Error::NoStream`]: HTTP at a socket of datagrams.
    pub(super) fn new(listeners: Vec<Listener>, serve: Serve) -> Result<Port> {
        let streams = |serve: &Serve| matches!(serve, Serve::Http(_));
        match listeners.iter().find(|listener| streams(&serve) && !listener.is_stream()) {
            Some(listener) => Err(Error::NoStream { address: listener.address.to_string() }),
            None => Ok(Port { listeners, serve }),
        }
    }
}

/// What a worker needs at each of its ports.
#[derive(Clone)]
pub(super) struct Terms {
    pub(super) manners: Manners,
    pub(super) marks: Marks,
    pub(super) tuning: Tuning,
    pub(super) room: Arc<Semaphore>,
}

/// Who serves a connection, once the service is made.
#[derive(Clone)]
enum Server {
    Calls(Rc<dyn Calls>),
    Http(ServeOne),
}

/// Opens a worker's end of a port: what is returned runs until the worker leaves, and first of all once it is spawned.
pub(super) fn open(port: &Port, worker: &Worker, terms: &Terms) -> Result<impl Future<Output = ()> + use<>> {
    let shared = port.listeners.len() == 1;
    let own = if shared { port.listeners.first() } else { port.listeners.get(worker.inner.member.index) };
    let Some(listener) = own else { return Err(Error::Closed) };
    let (worker, terms) = (worker.clone(), terms.clone());
    let tcp = matches!(listener.address, Address::Tcp(..)) || listener.local_address().is_some();
    let end = if listener.is_stream() {
        let acceptor = Acceptor::new(&listener.socket, shared)?;
        let server = match &port.serve {
            Serve::Calls(calls) => Server::Calls(calls.clone()),
            Serve::Http(make) => Server::Http(make(&worker)),
        };
        End::Stream(acceptor, server)
    } else {
        let Serve::Calls(calls) = &port.serve else {
            return Err(Error::NoStream { address: listener.address.to_string() });
        };
        End::Datagrams(Rc::new(datagrams(listener, tcp)?), calls.clone())
    };
    Ok(async move {
        match end {
            End::Stream(acceptor, server) => accept(acceptor, server, tcp, worker, terms).await,
            End::Datagrams(socket, calls) => receive(socket, calls, worker).await,
        }
    })
}

enum End {
    Stream(Acceptor, Server),
    Datagrams(Rc<Datagrams>, Rc<dyn Calls>),
}

fn datagrams(listener: &Listener, udp: bool) -> Result<Datagrams> {
    let own = listener.socket.try_clone().map_err(Error::system("duplicating a socket"))?;
    let watched = if udp {
        UdpSocket::from_std(own.into()).map(Datagrams::Udp)
    } else {
        UnixDatagram::from_std(OwnedFd::from(own).into()).map(Datagrams::Unix)
    };
    watched.map_err(Error::system("register with epoll"))
}

async fn accept(mut acceptor: Acceptor, server: Server, tcp: bool, worker: Worker, terms: Terms) {
    let begin = |socket, permit| begin(socket, permit, &server, tcp, &worker, &terms);
    let complain =
        |error: &io::Error| worker.complain(format_args!("cannot accept, trying again until it works: {error}"));
    tokio::select! {
        biased;
        () = worker.exiting() => {}
        () = acceptor.take_all(&terms.room, || loads(&worker), begin, complain) => {}
    }
    acceptor.take_rest(&terms.room, begin);
}

fn loads(worker: &Worker) -> Loads {
    let inner = &*worker.inner;
    let (total, workers) = inner.land.board.loads(inner.land.workers());
    Loads { mine: inner.land.board.open(inner.member.slot), total, workers }
}

/// Serves a connection beside the others.
fn begin(socket: OwnedFd, permit: OwnedSemaphorePermit, server: &Server, tcp: bool, worker: &Worker, terms: &Terms) {
    if let Err(error) = terms.tuning.apply(&socket, tcp) {
        worker.complain(format_args!("cannot set a connection's options, which goes on without: {error}"));
    }
    let stream = match Stream::new(socket, tcp) {
        Ok(stream) => stream,
        Err(error) => return worker.complain(format_args!("cannot watch a connection: {error}")),
    };
    let open = Open::new(worker);
    match server {
        // A task of its own kind: one for both would be as large as the other needs it, and what it looks at with each request would lie far apart.
        Server::Http(serve) => {
            let served = serve(stream, worker.clone(), terms.manners);
            worker.spawn(async move {
                served.await;
                drop((open, permit));
            });
        }
        Server::Calls(calls) => {
            let (of, calls, terms) = (worker.clone(), calls.clone(), terms.clone());
            worker.spawn(async move {
                converse(stream, &of, &calls, &terms).await;
                drop((open, permit));
            });
        }
    }
}

async fn converse(stream: Stream, worker: &Worker, calls: &Rc<dyn Calls>, terms: &Terms) {
    let peer = match stream.peer() {
        Ok(peer) => peer,
        // Gone before we came to it.
        Err(_) => return,
    };
    let inner = &*worker.inner;
    let id = ConnId::new(inner.life(), inner.next_conn());
    let conn = Conn::new(id, peer, terms.marks);
    inner.conns.borrow_mut().insert(id, conn.clone());
    serve(stream, &conn, worker, calls, terms.manners).await;
    inner.conns.borrow_mut().remove(&id);
}

/// Counts a connection for as long as it lives, however it ends.
struct Open(Worker);

impl Open {
    fn new(worker: &Worker) -> Open {
        worker.count(Count::Accepted);
        worker.inner.land.board.connection(worker.inner.member.slot, true);
        Open(worker.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.inner.land.board.connection(self.0.inner.member.slot, false);
    }
}

/// Receives datagrams until the worker leaves; each is a call beside the others.
async fn receive(socket: Rc<Datagrams>, calls: Rc<dyn Calls>, worker: Worker) {
    let mut buffer = BytesMut::zeroed(DATAGRAM);
    let (mut told, room) = (false, Arc::new(Semaphore::new(PACKETS)));
    loop {
        let next = async {
            // An error would mean that the semaphore was closed, which nobody does.
            let permit = room.clone().acquire_owned().await.map_err(io::Error::other)?;
            socket.next(&mut buffer).await.map(|(len, from)| (permit, len, from))
        };
        let next = tokio::select! {
            biased;
            () = worker.exiting() => return,
            next = next => next,
        };
        let (permit, len, from): (_, usize, Peer) = match next {
            Ok(next) => next,
            // What an earlier answer met (ICMP) is reported here.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::Interrupted) => {
                continue;
            }
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    worker.complain(format_args!("cannot receive, trying again until it works: {error}"));
                }
                tokio::time::sleep(SHORTAGE_WAIT).await;
                continue;
            }
        };
        worker.count_request();
        let packet = Packet { data: bytes::Bytes::copy_from_slice(&buffer[..len]), from, socket: socket.clone() };
        let (calls, of) = (calls.clone(), worker.clone());
        worker.spawn(async move {
            if let Err(why) = of.call(guarded(calls.packet(&of, &packet))).await {
                of.complain(format_args!("packet from {}: {why}", packet.from));
            }
            drop(permit);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::config::Config;
    use crate::server::listen::open::{Opening, open};

    #[test]
    fn http_is_not_for_datagrams() {
        let how = Opening::of(&Config::default()).unwrap();
        let at = |text: &str| vec![open(&Address::parse(text).unwrap(), &how).unwrap()];
        let http = || Serve::Http(Rc::new(|_: &Worker| -> ServeOne { unreachable!("no worker is there") }));
        let error = Port::new(at("udp://127.0.0.1:0"), http()).err().unwrap().to_string();
        assert!(error.starts_with("cannot serve HTTP at udp://127.0.0.1:"), "{error}");
        assert!(Port::new(at("tcp://127.0.0.1:0"), http()).is_ok());
        assert!(Port::new(at("udp://127.0.0.1:0"), Serve::Calls(Rc::new(()))).is_ok());
    }
}
