//! What is known of every message of the soak, and what the dead may be excused for; in memory that has nothing to do with the channel.

use std::collections::HashMap;

use crate::ledger::Numbers;

pub(crate) const PRODUCERS: usize = 3;
pub(crate) const CONSUMERS: usize = 3;
/// Messages of one producer that the ledger has room for.
pub(crate) const MOST: u64 = 1 << 24;
/// Most messages in one hand.
pub(crate) const HAND: usize = 16;

/// What a consumer is at, in its first word: nothing that matters.
pub(crate) const IDLE: u64 = 0;
/// It may have taken a message that it has not written down: one may be lost with it.
pub(crate) const POPS: u64 = 1;
/// It may have leased messages that it has not written down: they may come out of order.
pub(crate) const LEASES: u64 = 2;

/// A nibble for each message: how often it came, at most seven times; and that it was leased.
pub(crate) const LEASED: u64 = 8;

pub(crate) fn id(producer: usize, n: u64) -> u64 {
    (producer as u64) << 56 | n
}

pub(crate) struct Ledger {
    pub(crate) nibbles: Vec<Numbers>,
    /// Of each producer: the last message that it has tried to push, and the last whose push returned.
    pub(crate) tried: Numbers,
    pub(crate) sure: Numbers,
    /// Of each consumer: what it is at; how many messages it has in hand, and which.
    pub(crate) hands: Vec<Numbers>,
    /// Messages that came out of order, and were not known to have been leased: how many, and which.
    pub(crate) strays: Numbers,
    pub(crate) arrived: Numbers,
    pub(crate) stop: Numbers,
}

impl Ledger {
    pub(crate) fn new() -> Ledger {
        Ledger {
            nibbles: (0..PRODUCERS).map(|_| Numbers::new(MOST as usize / 16 + 1)).collect(),
            tried: Numbers::new(PRODUCERS),
            sure: Numbers::new(PRODUCERS),
            hands: (0..CONSUMERS).map(|_| Numbers::new(2 + HAND)).collect(),
            strays: Numbers::new(1 << 16),
            arrived: Numbers::new(1),
            stop: Numbers::new(1),
        }
    }

    pub(crate) fn place(&self, id: u64) -> (&Numbers, usize, u32) {
        let n = id & (MOST - 1);
        (&self.nibbles[(id >> 56) as usize], n as usize / 16, 4 * (n % 16) as u32)
    }

    pub(crate) fn nibble(&self, id: u64) -> u64 {
        let (words, n, shift) = self.place(id);
        words.get(n) >> shift & 15
    }

    pub(crate) fn leased(&self, id: u64) {
        let (words, n, shift) = self.place(id);
        words.or(n, LEASED << shift);
    }

    pub(crate) fn arrives(&self, id: u64) {
        let (words, n, shift) = self.place(id);
        assert!(words.get(n) >> shift & 7 < 7, "message {id:x} comes for ever");
        words.add(n, 1 << shift);
        self.arrived.add(0, 1);
    }
}

/// What the dead may be excused for.
#[derive(Default)]
pub(crate) struct Excuses {
    /// Messages that may come once more for each time.
    pub(crate) again: HashMap<u64, u64>,
    /// Messages whose push did not return: from, and to.
    pub(crate) doubtful: Vec<(u64, u64)>,
    pub(crate) lost: u64,
    pub(crate) strays: u64,
    pub(crate) kills: u64,
}

impl Excuses {
    /// One was killed, and says no more.
    pub(crate) fn of(&mut self, ledger: &Ledger, who: usize) {
        self.kills += 1;
        if who < PRODUCERS {
            let (sure, tried) = (ledger.sure.get(who), ledger.tried.get(who));
            if sure < tried {
                self.doubtful.push((id(who, sure + 1), id(who, tried)));
                ledger.sure.set(who, tried);
            }
            return;
        }
        let hand = &ledger.hands[who - PRODUCERS];
        match hand.get(0) {
            POPS => self.lost += 1,
            LEASES => self.strays += 1,
            _ => {}
        }
        // The last may have been written and not yet counted.
        for n in 0..(hand.get(1) as usize + 1).min(HAND) {
            *self.again.entry(hand.get(2 + n)).or_default() += 1;
        }
        hand.set(0, IDLE);
        (1..2 + HAND).for_each(|n| hand.set(n, 0));
    }
}
