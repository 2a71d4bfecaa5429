//! A channel between processes: three producers and three consumers, messages of mixed lengths taken in every way there is, all of them killed,
//! stopped and replaced at random; a ledger judges every single message. COMMONS_SOAK_MESSAGES says how many messages, instead of a few seconds of
//! them (30000000 is the full soak; in release it takes minutes), COMMONS_CHAOS_SECS how many seconds; COMMONS_CHAOS_SEED repeats the dice.

mod arrivals;
mod common;
mod ledger;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use arrivals::{CONSUMERS, Excuses, HAND, IDLE, LEASED, LEASES, Ledger, MOST, POPS, PRODUCERS, id};
use common::dice::Dice;
use common::{Child, Exit, in_child, note};
use commons::{Channel, Error, recover};
use ledger::{Numbers, setting};

const LONG: Duration = Duration::from_secs(30);

struct World {
    channel: Channel,
    ledger: Ledger,
    /// Of each producer.
    messages: u64,
    /// Whether a message may go with who takes it: `pop` gives it away, and what comes of it is its taker's affair.
    pops: bool,
}

/// Its name, and bytes that say that it is whole.
fn write(message: &mut Vec<u8>, id: u64, len: usize) {
    message.clear();
    message.extend_from_slice(&id.to_le_bytes());
    message.resize(8 + len, id as u8);
}

/// Its name, if it is whole.
fn whole(message: &[u8]) -> u64 {
    let (name, rest) = message.split_first_chunk().expect("eight bytes");
    let id = u64::from_le_bytes(*name);
    let whole = rest.iter().all(|byte| *byte == id as u8) && (id >> 56) < PRODUCERS as u64;
    assert!(whole, "a message is torn: {id:x}, {} bytes", message.len());
    id
}

fn length(dice: &mut Dice, most: usize) -> usize {
    match dice.roll(256) {
        0 => dice.roll(most as u64 - 8) as usize,
        1..=8 => dice.roll(2000) as usize,
        _ => dice.roll(100) as usize,
    }
}

impl World {
    fn produce(&self, me: usize, seed: u64) {
        let (channel, ledger) = (&self.channel, &self.ledger);
        let mut dice = Dice::new(seed);
        let mut batch: Vec<Vec<u8>> = vec![Vec::new(); HAND];
        let mut n = ledger.tried.get(me);
        while n < self.messages && ledger.stop.get(0) == 0 {
            let way = dice.roll(5);
            let count = if way == 0 || way == 4 { 1 + dice.roll(HAND as u64) as usize } else { 1 };
            for message in &mut batch[..count] {
                n += 1;
                let most = if count > 1 { 256 } else { channel.max_message() };
                write(message, id(me, n), length(&mut dice, most).min(most - 8));
            }
            if way == 4 {
                let mut session = channel.push_session();
                for (message, n) in batch[..count].iter().zip(n - count as u64 + 1..) {
                    ledger.tried.set(me, n);
                    session.push(message).unwrap();
                    ledger.sure.set(me, n);
                }
                continue;
            }
            ledger.tried.set(me, n);
            let pushed = match way {
                0 => channel.push_many(&batch[..count]),
                1 => match channel.try_push(&batch[0]) {
                    Err(Error::Full { .. } | Error::Timeout { .. }) => channel.push(&batch[0]),
                    other => other,
                },
                2 => channel.push_timeout(&batch[0], LONG),
                _ => channel.push(&batch[0]),
            };
            pushed.unwrap();
            ledger.sure.set(me, n);
        }
    }

    fn consume(&self, me: usize, seed: u64) {
        let mut consumer =
            Consumer { world: self, hand: &self.ledger.hands[me], dice: Dice::new(seed), last: [0; PRODUCERS] };
        loop {
            match consumer.one() {
                Ok(()) | Err(Error::Timeout { .. }) => {}
                Err(Error::Closed) => return,
                Err(other) => panic!("{other}"),
            }
        }
    }

    fn spawn(&self, who: usize, seed: u64) -> Child {
        in_child(|| if who < PRODUCERS { self.produce(who, seed) } else { self.consume(who - PRODUCERS, seed) })
    }
}

struct Consumer<'w> {
    world: &'w World,
    hand: &'w Numbers,
    dice: Dice,
    /// The last message of each producer that came to this one.
    last: [u64; PRODUCERS],
}

impl Consumer<'_> {
    fn one(&mut self) -> commons::Result<()> {
        let (channel, soon) = (&self.world.channel, Duration::from_millis(200));
        if self.dice.roll(8) == 0 {
            self.letters()?;
        }
        match self.dice.roll(8) {
            0..3 if self.world.pops => {
                self.hand.set(0, POPS);
                let popped = channel.pop_timeout(soon);
                if let Ok(message) = &popped {
                    let id = self.check(message);
                    self.world.ledger.arrives(id);
                }
                self.hand.set(0, IDLE);
                popped?;
            }
            6 if self.world.pops => {
                let mut session = channel.pop_session();
                for _ in 0..self.dice.roll(HAND as u64) {
                    self.hand.set(0, POPS);
                    let popped = session.pop_timeout(soon);
                    if let Ok(message) = &popped {
                        let id = self.check(message);
                        self.world.ledger.arrives(id);
                    }
                    self.hand.set(0, IDLE);
                    popped?;
                }
            }
            3 => {
                Channel::select(&[channel], Some(soon))?;
                self.drain(1)?;
            }
            0..5 => {
                // Under the consumers' lock: who dies in it leaves the message, and may have written it down.
                channel.pop_with(|message| self.holds(message))?;
                self.hand.set(1, 0);
            }
            5 => {
                let most = 1 + self.dice.roll(HAND as u64) as usize;
                self.drain(most)?;
            }
            _ => {
                let mut leases = Vec::new();
                for n in 0..1 + self.dice.roll(3) {
                    self.hand.set(0, LEASES);
                    let lease =
                        if n == 0 { channel.pop_lease_timeout(soon).map(Some) } else { channel.try_pop_lease() };
                    if let Ok(Some(lease)) = &lease {
                        self.world.ledger.leased(u64::from_le_bytes(*lease.first_chunk().expect("eight bytes")));
                    }
                    self.hand.set(0, IDLE);
                    match lease {
                        Ok(Some(lease)) => leases.push(lease),
                        Ok(None) => break,
                        Err(_) if n > 0 => break,
                        Err(error) => return Err(error),
                    }
                }
                for lease in leases {
                    if self.dice.roll(4) == 0 {
                        drop(lease); // not done
                        continue;
                    }
                    self.holds(&lease);
                    lease.ack()?;
                    self.hand.set(1, 0);
                }
            }
        }
        Ok(())
    }

    /// What came back too often arrives as a dead letter, in any order.
    fn letters(&mut self) -> commons::Result<()> {
        let Some(letters) = self.world.channel.dead_letters() else { return Ok(()) };
        letters.drain(HAND, |message| self.has(whole(message)))?;
        self.hand.set(1, 0);
        Ok(())
    }

    fn drain(&mut self, most: usize) -> commons::Result<()> {
        let channel = &self.world.channel;
        channel.drain(most, |message| self.holds(message))?;
        self.hand.set(1, 0);
        Ok(())
    }

    /// Writes down that a message is here, which may come again if this process dies now.
    fn holds(&mut self, message: &[u8]) {
        let id = self.check(message);
        self.has(id);
    }

    fn has(&mut self, id: u64) {
        let n = self.hand.get(1) as usize;
        self.hand.set(2 + n, id);
        self.hand.set(1, n as u64 + 1);
        self.world.ledger.arrives(id);
    }

    /// The message comes after those that came before, unless it was in somebody's hands.
    fn check(&mut self, message: &[u8]) -> u64 {
        let id = whole(message);
        let (last, ledger) = (&mut self.last[(id >> 56) as usize], &self.world.ledger);
        let n = id & (MOST - 1);
        if n > *last {
            *last = n;
        } else if ledger.nibble(id) & LEASED == 0 {
            let stray = ledger.strays.get(0);
            ledger.strays.add(0, 1);
            ledger.strays.set(1 + stray as usize % 65_000, id);
        }
        id
    }
}

#[test]
fn every_message_comes_once_whoever_dies() {
    soak(true);
}

/// Where everybody writes down what he has before it is gone from the channel, nothing is lost, not even with the dead; and what comes back too often
/// is a dead letter.
#[test]
fn every_message_comes_at_least_once_whoever_dies() {
    soak(false);
}

/// Half of the messages asked for.
fn soak(pops: bool) {
    let _alone = common::alone();
    let seconds = Duration::from_secs(setting("COMMONS_CHAOS_SECS", 4));
    let (total, seed) = (setting("COMMONS_SOAK_MESSAGES", 0), setting("COMMONS_CHAOS_SEED", std::process::id().into()));
    note(&format!("COMMONS_CHAOS_SEED={seed} COMMONS_SOAK_MESSAGES={total}"));
    let messages = if total == 0 { MOST - HAND as u64 } else { total / 2 / PRODUCERS as u64 };
    assert!(messages <= MOST - HAND as u64, "the ledger has no room for so many");
    let channel = match pops {
        // Now and then one that is full most of the time.
        true => Channel::new(1 << (13 + seed % 4)).unwrap(),
        false => Channel::builder().capacity(1 << 16).max_attempts(3).build().unwrap(),
    };
    let world = World { channel, ledger: Ledger::new(), messages, pops };
    let mut dice = Dice::new(seed);
    let baseline = commons::harness::census();
    let begun = Instant::now();
    let mut lives: Vec<Option<Child>> =
        (0..PRODUCERS + CONSUMERS).map(|who| Some(world.spawn(who, dice.roll(1 << 40)))).collect();
    let (mut excuses, mut stops) = (Excuses::default(), 0);
    let mut progress = (0, Instant::now());
    while lives.iter().any(Option::is_some) {
        std::thread::sleep(Duration::from_micros(dice.roll(12_000)));
        if total == 0 && begun.elapsed() > seconds {
            world.ledger.stop.set(0, 1);
        }
        let done = lives[..PRODUCERS].iter().all(Option::is_none);
        if done && !world.channel.is_closed() {
            world.channel.close().unwrap();
        }
        let arrived = world.ledger.arrived.get(0) + (0..PRODUCERS).map(|who| world.ledger.sure.get(who)).sum::<u64>();
        let alive = lives.iter().flatten().count() as u64;
        if progress.0 != arrived + alive {
            progress = (arrived + alive, Instant::now());
        }
        assert!(progress.1.elapsed() < LONG, "seed {seed}: nothing moves, {:?}", world.channel);
        let who = dice.roll((PRODUCERS + CONSUMERS) as u64) as usize;
        let Some(child) = &mut lives[who] else { continue };
        match dice.roll(5) {
            0 => {
                stops += 1;
                child.signal(rustix::process::Signal::STOP);
                std::thread::sleep(Duration::from_micros(dice.roll(20_000)));
                child.cont();
            }
            care => {
                child.kill();
                if care < 3 {
                    recover(child.pid()).unwrap();
                } else if care == 3 {
                    // A zombie for a while, of whom nobody has told.
                    std::thread::sleep(Duration::from_micros(dice.roll(25_000)));
                }
                match child.wait() {
                    Exit::Code(0) => lives[who] = None,
                    Exit::Signal(9) => {
                        excuses.of(&world.ledger, who);
                        lives[who] = Some(world.spawn(who, dice.roll(1 << 40)));
                    }
                    other => panic!("seed {seed}: {who} ended with {other:?}: {}", child.said()),
                }
            }
        }
    }
    if let Some(letters) = world.channel.dead_letters() {
        letters.drain(usize::MAX, |message| world.ledger.arrives(whole(message))).unwrap();
    }
    judge(&world, &excuses, begun.elapsed(), stops);
    assert!(commons::harness::census() <= baseline + 1 + CONSUMERS + PRODUCERS, "slots leak");
}

fn judge(world: &World, excuses: &Excuses, time: Duration, stops: u64) {
    let ledger = &world.ledger;
    let mut doubtful: HashMap<u64, bool> = HashMap::new();
    for (from, to) in &excuses.doubtful {
        // All of a batch was pushed, or nothing.
        let any = (*from..=*to).any(|id| ledger.nibble(id) & 7 > 0);
        (*from..=*to).for_each(|id| _ = doubtful.insert(id, any));
    }
    let (mut there, mut lost, mut again, mut never) = (0, 0, 0, 0);
    for producer in 0..PRODUCERS {
        for n in 1..=ledger.tried.get(producer) {
            let id = id(producer, n);
            let times = ledger.nibble(id) & 7;
            if times == 0 {
                match doubtful.get(&id) {
                    Some(false) => never += 1,
                    _ => lost += 1,
                }
                continue;
            }
            there += 1;
            if times > 1 {
                again += times - 1;
                let excused = excuses.again.get(&id).copied().unwrap_or(0);
                assert!(times <= 1 + excused, "message {id:x} came {times} times, {excused} died holding it");
            }
        }
    }
    let (stats, strays) = (world.channel.stats().unwrap(), ledger.strays.get(0));
    note(&format!(
        "{there} messages arrived in {:.1} s, {} kills, {stops} stops; {again} came again, their consumers had died holding them; {lost} went with \
         a consumer that died popping ({} did); of {} pushes that did not return {never} messages are nowhere; {strays} out of order ({} died \
         leasing); {} leases came back",
        time.as_secs_f64(),
        excuses.kills,
        excuses.lost,
        excuses.doubtful.len(),
        excuses.strays,
        stats.returned,
    ));
    assert!(lost <= excuses.lost, "{lost} messages are lost, {} died popping", excuses.lost);
    assert!(strays <= excuses.strays, "{strays} out of order, such as {:x}", ledger.strays.get(1));
    assert_eq!((stats.waiting, stats.leased, world.channel.len(), world.channel.bytes()), (0, 0, 0, 0));
    // A doubtful push may be among the lost as well.
    let pushed = there + lost..=there + lost + never.min(excuses.lost);
    assert!(stats.pushed == stats.taken && pushed.contains(&stats.pushed), "{stats:?}, and {there} came, {lost} lost");
    assert!(there > 10_000 && excuses.kills > 50, "too little happened to prove anything");
}
