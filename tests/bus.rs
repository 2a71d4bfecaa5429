//! Messages between processes: any size, in order, whoever is killed; and nothing stays in the vault. COMMONS_CHAOS_SECS says how long, COMMONS_CHAOS_SEED
//! repeats the dice.

mod common;
mod fuse;
mod ledger;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use arbitrary::Unstructured;
use common::dice::Dice;
use common::{Child, Exit, in_child, note, until};
use commons::harness::crew::{Address, Bus, BusSize, Inbox, Message, Roll};
use commons::{Error, recover};
use fuse::{BURNT, risk};
use ledger::{Numbers, setting};
use rustix::process::Signal;

const SLOTS: usize = 5;
/// Slots from here on only receive.
const SENDERS: usize = 3;
const SOON: Duration = Duration::from_millis(50);

fn length(dice: &mut Dice, inline: usize) -> usize {
    match dice.roll(16) {
        0 => dice.roll(300_000) as usize,
        1..4 => inline + dice.roll(4000) as usize,
        4 => inline - 24 + dice.roll(48) as usize,
        _ => dice.roll(300) as usize,
    }
}

/// A message says the how-many-eth of its sender to this receiver it is, in every byte.
fn write(n: u64, len: usize) -> Vec<u8> {
    let mut data = n.to_le_bytes().to_vec();
    data.resize(8 + len, n as u8);
    data
}

fn read(data: &[u8]) -> u64 {
    let (n, rest) = data.split_first_chunk().expect("eight bytes");
    let n = u64::from_le_bytes(*n);
    assert!(rest.iter().all(|byte| *byte == n as u8), "a message is torn: {n}, {} bytes", data.len());
    n
}

struct World {
    roll: Roll,
    bus: Bus,
    /// For each sender and receiver: messages tried and sure to have been sent, the last that came, and how many; those refused because their receiver was gone.
    numbers: Numbers,
}

const TRIED: usize = 0;
const SURE: usize = 1;
const LAST: usize = 2;
const CAME: usize = 3;
const REFUSED: usize = 4;
const STOP: usize = 8 * SLOTS * SLOTS;

impl World {
    fn cell(&self, from: usize, to: usize, what: usize) -> usize {
        8 * (from * SLOTS + to) + what
    }

    fn stopped(&self) -> bool {
        self.numbers.get(STOP) != 0
    }

    fn send(&self, me: usize, seed: u64) {
        let tenancy = self.roll.attach(me as u32).unwrap();
        let (mut dice, numbers) = (Dice::new(seed), &self.numbers);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        while !self.stopped() {
            let to = SENDERS + dice.roll((SLOTS - SENDERS) as u64) as usize;
            let n = numbers.get(self.cell(me, to, TRIED)) + 1;
            numbers.set(self.cell(me, to, TRIED), n);
            let data = write(n, length(&mut dice, self.bus.inline()));
            let (from, receiver) = (tenancy.address(), to as u32);
            let sent = match dice.roll(4) {
                0 => risk(&mut dice, 20, 60, || self.bus.try_send(from, receiver, &data)),
                1 => runtime.block_on(async {
                    let send = self.bus.send(from, receiver, &data);
                    tokio::time::timeout(SOON, send).await.unwrap_or(Err(Error::Timeout { after: SOON }))
                }),
                // To that life alone. Here nobody purges, so what is for one that dies is read by the next.
                2 => self.roll.tenant(receiver).map_or(Err(Error::Closed), |life| {
                    risk(&mut dice, 20, 200, || {
                        runtime.block_on(async {
                            let send = self.bus.send_to(from, life, &data);
                            tokio::time::timeout(SOON, send).await.unwrap_or(Err(Error::Timeout { after: SOON }))
                        })
                    })
                }),
                _ => risk(&mut dice, 20, 200, || self.bus.send_timeout(from, receiver, &data, SOON)),
            };
            match sent {
                Ok(()) => numbers.set(self.cell(me, to, SURE), numbers.get(self.cell(me, to, SURE)) + 1),
                Err(Error::Full { .. } | Error::Timeout { .. }) => {}
                Err(Error::Closed) => numbers.add(self.cell(me, to, REFUSED), 1),
                Err(other) => panic!("{other}"),
            }
        }
    }

    fn book(&self, me: usize, message: &Message) {
        let (from, n) = (message.from.slot as usize, read(&message.data));
        let (last, came) = (self.cell(from, me, LAST), self.cell(from, me, CAME));
        assert!(n > self.numbers.get(last), "{n} of {from} came after {}", self.numbers.get(last));
        assert!(n <= self.numbers.get(self.cell(from, me, TRIED)), "nobody sent that");
        self.numbers.set(last, n);
        self.numbers.add(came, 1);
    }

    /// Without a seed: to its end.
    fn receive(&self, me: usize, seed: u64) {
        let tenancy = self.roll.attach(me as u32).unwrap();
        let inbox = self.bus.inbox(&tenancy).unwrap();
        let mut dice = Dice::new(seed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        loop {
            let got = match if seed == 0 { 1 } else { dice.roll(3) } {
                0 => risk(&mut dice, 10, 60, || inbox.try_recv()).unwrap(),
                1 => {
                    runtime.block_on(async { tokio::time::timeout(SOON, inbox.recv()).await }).ok().map(Result::unwrap)
                }
                _ => risk(&mut dice, 10, 80, || wait(&inbox)),
            };
            match got {
                Some(message) => self.book(me, &message),
                None if self.stopped() => match wait(&inbox) {
                    Some(message) => self.book(me, &message),
                    None => return,
                },
                None => {}
            }
        }
    }

    fn spawn(&self, me: usize, seed: u64) -> Child {
        in_child(|| if me < SENDERS { self.send(me, seed) } else { self.receive(me, seed) })
    }
}

fn wait(inbox: &Inbox) -> Option<Message> {
    match inbox.recv_timeout(SOON) {
        Ok(message) => Some(message),
        Err(Error::Timeout { .. }) => None,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn messages_come_whole_and_in_order_whoever_dies() {
    let _alone = common::alone();
    let seconds = Duration::from_secs(setting("COMMONS_CHAOS_SECS", 4));
    let seed = setting("COMMONS_CHAOS_SEED", std::process::id().into());
    note(&format!("COMMONS_CHAOS_SEED={seed}"));
    let roll = Roll::new(SLOTS).unwrap();
    let bus = Bus::new(&roll, BusSize { inbox: 16 << 10, large: 4, bytes: 1 << 20 }).unwrap();
    let world = World { roll, bus, numbers: Numbers::new(STOP + 1) };
    let mut dice = Dice::new(seed);
    let mut lives: Vec<Child> = (0..SLOTS).map(|who| world.spawn(who, dice.roll(1 << 40))).collect();
    let (begun, mut kills) = (Instant::now(), [0_u64; SLOTS]);
    while begun.elapsed() < seconds {
        std::thread::sleep(Duration::from_micros(dice.roll(4000)));
        let who = dice.roll(SLOTS as u64) as usize;
        if dice.roll(4) == 0 && !lives[who].is_zombie() {
            if dice.roll(5) == 0 {
                lives[who].signal(Signal::STOP);
                std::thread::sleep(Duration::from_micros(dice.roll(40_000)));
                lives[who].cont();
            } else {
                lives[who].kill();
            }
        }
        if !lives[who].is_zombie() {
            continue;
        }
        match dice.roll(12) {
            0..4 => _ = recover(lives[who].pid()).unwrap(),
            4 => std::thread::sleep(Duration::from_micros(dice.roll(25_000))),
            _ => {}
        }
        match lives[who].wait() {
            Exit::Signal(9 | BURNT) => kills[who] += 1,
            other => panic!("seed {seed}: {who} ended with {other:?}: {}", lives[who].said()),
        }
        lives[who] = world.spawn(who, dice.roll(1 << 40));
    }
    // What senders have sent is received when they are gone, by receivers that live.
    world.numbers.set(STOP, 1);
    for (who, mut life) in lives.into_iter().enumerate() {
        let exit = life.wait();
        if exit == Exit::Signal(BURNT) {
            kills[who] += 1;
            if who >= SENDERS {
                in_child(|| world.receive(who, 0)).join();
            }
            continue;
        }
        assert_eq!(exit, Exit::Code(0), "seed {seed}: {who}: {}", life.said());
    }
    let numbers = &world.numbers;
    let (mut sent, mut came, mut refused) = (0, 0, 0);
    for to in SENDERS..SLOTS {
        for from in 0..SENDERS {
            sent += numbers.get(world.cell(from, to, SURE));
            came += numbers.get(world.cell(from, to, CAME));
            refused += numbers.get(world.cell(from, to, REFUSED));
        }
    }
    let (senders, receivers) = (kills[..SENDERS].iter().sum::<u64>(), kills[SENDERS..].iter().sum::<u64>());
    note(&format!(
        "{sent} messages sent for sure, {came} came, {refused} refused; {senders} senders and {receivers} receivers killed"
    ));
    // Each that died receiving may have had one in its hands, or several: its books are written after the message was taken off, one at a time.
    assert!(came + receivers >= sent, "{sent} sent, {came} came, {receivers} killed");
    // One that was refused may have been pushed just when its receiver died.
    assert!(came <= sent + senders + refused, "{sent} sent, {came} came, {refused} refused, {senders} killed");
    assert!(sent > 1000 && senders + receivers > 50, "too little happened to prove anything");
    // A dead sender's locker is emptied by who needs it.
    let tenancy = world.roll.attach(0).unwrap();
    for _ in 0..2 {
        world.bus.try_send(tenancy.address(), 0, &vec![0; 1 << 19]).unwrap();
    }
    assert_eq!(world.bus.purge(0).unwrap(), 2);
    assert_eq!(world.bus.usage(), (0, 0), "something is left in the vault");
}

/// Against two queues: sizes on both sides of the inline limit, and never more than there is room for.
#[test]
fn a_bus_is_a_queue_for_each_receiver() {
    let roll = Roll::new(2).unwrap();
    arbtest::arbtest(|u| {
        let bus = Bus::new(&roll, BusSize { inbox: 2048, large: 4, bytes: 8192 }).unwrap();
        let tenants = [roll.attach(0).unwrap(), roll.attach(1).unwrap()];
        let inboxes = [bus.inbox(&tenants[0]).unwrap(), bus.inbox(&tenants[1]).unwrap()];
        let mut model: [VecDeque<Message>; 2] = Default::default();
        while !u.is_empty() {
            step(u, &bus, &inboxes, &mut model)?;
        }
        for (n, inbox) in inboxes.iter().enumerate() {
            while let Some(expected) = model[n].pop_front() {
                assert_eq!(inbox.try_recv().unwrap().as_ref(), Some(&expected));
            }
            assert_eq!(inbox.try_recv().unwrap(), None);
        }
        assert_eq!(bus.usage(), (0, 0));
        Ok(())
    })
    .size_max(512)
    .budget(Duration::from_secs(1));
}

fn step(
    u: &mut Unstructured<'_>,
    bus: &Bus,
    inboxes: &[Inbox; 2],
    model: &mut [VecDeque<Message>; 2],
) -> arbitrary::Result<()> {
    let to = usize::from(u.arbitrary::<bool>()?);
    match u.int_in_range(0..=4)? {
        0 | 1 => assert_eq!(inboxes[to].try_recv().unwrap(), model[to].pop_front()),
        2 => {
            let purged = bus.purge(to as u32).unwrap();
            assert_eq!(purged, model[to].len());
            model[to].clear();
        }
        _ => {
            let len = if u.arbitrary()? { u.int_in_range(0..=40)? } else { u.int_in_range(0..=9000)? };
            let from = Address { slot: u.arbitrary()?, generation: u.arbitrary()? };
            let data = vec![len as u8; len];
            match bus.try_send(from, to as u32, &data) {
                Ok(()) => model[to].push_back(Message { from, data }),
                Err(Error::TooLong { len, max }) => assert!(len > max && max == bus.max_message()),
                Err(Error::Full { .. }) => assert!(model.iter().any(|queue| !queue.is_empty()), "full of nothing"),
                Err(other) => panic!("{other}"),
            }
            assert!(len <= bus.max_message() || model[to].back().is_none_or(|last| last.data.len() <= 8192));
        }
    }
    Ok(())
}

/// A receiver without a descriptor left is told so, and the message waits until it has one.
#[test]
fn a_large_message_waits_for_a_descriptor() {
    let roll = Roll::new(1).unwrap();
    let bus = Bus::new(&roll, BusSize::default()).unwrap();
    in_child(|| {
        let tenancy = roll.attach(0).unwrap();
        let inbox = bus.inbox(&tenancy).unwrap();
        bus.try_send(tenancy.address(), 0, &[7; 100_000]).unwrap();
        bus.try_send(tenancy.address(), 0, b"after").unwrap();
        let files = common::all_descriptors();
        assert!(matches!(inbox.try_recv(), Err(Error::System { .. })));
        assert!(matches!(bus.try_send(tenancy.address(), 0, &[7; 100_000]), Err(Error::System { .. })));
        bus.try_send(tenancy.address(), 0, b"small").expect("it needs none");
        drop(files);
        assert_eq!(inbox.try_recv().unwrap().unwrap().data, [7; 100_000], "in its place");
        assert_eq!(inbox.try_recv().unwrap().unwrap().data, b"after");
        assert_eq!(inbox.try_recv().unwrap().unwrap().data, b"small");
        assert_eq!(bus.usage(), (0, 0));
    })
    .join();
}

/// One who does not wait is told that there is no room while another one is stopped in the middle of the inbox.
#[test]
fn who_is_stopped_in_an_inbox_is_no_error_to_who_tries() {
    let roll = Roll::new(1).unwrap();
    let bus = Bus::new(&roll, BusSize::default()).unwrap();
    let own = roll.attach(0).unwrap();
    let inbox = bus.inbox(&own).unwrap();
    let busy = in_child(|| {
        loop {
            let _ = bus.try_send(Address::NOBODY, 0, b"theirs");
        }
    });
    until("it works", || inbox.try_recv().unwrap().is_some());
    for _ in 0..300 {
        busy.stop();
        while inbox.try_recv().unwrap().is_some() {}
        let tried = bus.try_send(own.address(), 0, b"ours");
        busy.cont();
        assert!(matches!(tried, Ok(()) | Err(Error::Full { .. })), "{tried:?}");
    }
}
