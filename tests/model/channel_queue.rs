//! The queue that the channel is compared with: what each operation has to answer, and what is there afterwards.

use super::*;

impl Queue {
    fn ring(&self) -> usize {
        self.capacity.div_ceil(8)
    }

    fn used(&self) -> usize {
        self.messages.iter().map(|message| words(message.bytes.len())).sum()
    }

    fn message(&mut self, len: u8) -> Vec<u8> {
        self.next = self.next.wrapping_add(1);
        // One in a few is too long.
        let len = usize::from(len) % (self.max_message + 2);
        (0..len).map(|n| self.next.wrapping_add(n as u8)).collect()
    }

    fn add(&mut self, bytes: Vec<u8>) {
        self.stats.pushed += 1;
        self.messages.push_back(Message { bytes, attempts: 0, has: Has::Nobody });
    }

    /// What a push of these is told.
    fn pushed(&mut self, all: &[Vec<u8>], without_room: &'static str) -> Result<(), &'static str> {
        let together: usize = all.iter().map(|bytes| words(bytes.len())).sum();
        if all.iter().any(|bytes| bytes.len() > self.max_message) || together > self.ring() {
            return Err("too long");
        }
        match () {
            () if all.is_empty() => Ok(()),
            () if self.closed => Err("closed"),
            () if self.used() + together > self.ring() => Err(without_room),
            () => {
                all.iter().for_each(|bytes| self.add(bytes.clone()));
                Ok(())
            }
        }
    }

    fn done(&mut self, at: usize) {
        self.messages[at].has = Has::Done;
        self.stats.taken += 1;
        while self.messages.front().is_some_and(|message| message.has == Has::Done) {
            self.messages.pop_front();
        }
    }

    fn give_back(&mut self, at: usize) {
        self.stats.returned += 1;
        let (ring, message) = (self.ring(), &mut self.messages[at]);
        message.attempts = (message.attempts + 1).min(62);
        message.has = Has::Nobody;
        if self.max_attempts > 0 && message.attempts >= self.max_attempts && !self.letters_closed {
            self.letters.push_back(message.bytes.clone());
            while self.letters.iter().map(|letter| words(letter.len())).sum::<usize>() > ring {
                self.letters.pop_front();
            }
            self.done(at);
        }
    }

    fn position(&self, has: Has) -> Option<usize> {
        self.messages.iter().position(|message| message.has == has)
    }

    /// The first that nobody has. The oldest is taken back from the dead at once, others when there is nothing else to be had.
    fn first(&mut self) -> Option<usize> {
        if self.messages.front().is_some_and(|message| message.has == Has::Dead) {
            self.give_back(0);
        }
        loop {
            if let Some(at) = self.position(Has::Nobody) {
                return Some(at);
            }
            let dead = self.position(Has::Dead)?;
            self.give_back(dead);
        }
    }

    /// The same for an operation that would wait for ever where there is nothing, or has nothing to do then: one looks instead.
    fn there(&mut self, channel: &Channel, at: Where<'_>) -> Option<usize> {
        let first = self.first();
        if first.is_none() {
            let foreseen = if self.nothing() == "closed" { Err("closed") } else { Ok(None) };
            assert_eq!(told(channel.peek()), foreseen, "{}", at());
        }
        first
    }

    /// What one that pops is told where there is nothing.
    fn nothing(&self) -> &'static str {
        if self.closed && self.messages.is_empty() { "closed" } else { "timeout" }
    }

    fn popped(&mut self) -> Result<Vec<u8>, &'static str> {
        let Some(at) = self.first() else { return Err(self.nothing()) };
        let bytes = self.messages[at].bytes.clone();
        self.done(at);
        Ok(bytes)
    }

    /// The calling thread gives its slot away, as at its death.
    fn die(&mut self) {
        commons::harness::leave();
        for message in &mut self.messages {
            if matches!(message.has, Has::Hand(_)) {
                message.has = Has::Dead;
            }
        }
    }

    /// All that costs nothing to look at.
    pub(super) fn shows(&self, world: &World, at: Where<'_>) {
        let channel = &world.channel;
        let seen = (channel.len(), channel.bytes(), channel.is_empty(), channel.is_full(), channel.is_closed());
        let (len, used) = (self.messages.len(), self.used());
        assert_eq!(seen, (len, used * 8, len == 0, used == self.ring(), self.closed), "{}", at());
        assert_eq!(channel.dead_letters().map(Channel::len), (self.max_attempts > 0).then_some(self.letters.len()));
    }

    pub(super) fn look(&self, world: &World, at: Where<'_>) {
        let mut stats = self.stats;
        let count = |f: fn(&Has) -> bool| self.messages.iter().filter(|message| f(&message.has)).count() as u64;
        stats.waiting = count(|has| *has == Has::Nobody);
        stats.leased = count(|has| matches!(has, Has::Hand(_) | Has::Dead));
        assert_eq!(told(world.channel.stats()), Ok(stats), "{}", at());
        self.shows(world, at);
    }

    pub(super) fn play(&mut self, world: &mut World, op: Op, at: Where<'_>) {
        let channel = &world.channel;
        match op {
            Op::TryPush(len) => {
                let bytes = self.message(len);
                let foreseen = self.pushed(std::slice::from_ref(&bytes), "full");
                assert_eq!(told(channel.try_push(&bytes)), foreseen, "{}", at());
            }
            Op::Push(len) => {
                let bytes = self.message(len);
                let foreseen = self.pushed(std::slice::from_ref(&bytes), "timeout");
                let got = if foreseen == Err("timeout") {
                    channel.push_timeout(&bytes, Duration::ZERO)
                } else {
                    channel.push(&bytes)
                };
                assert_eq!(told(got), foreseen, "{}", at());
            }
            Op::PushMany(a, b, count) => {
                let all: Vec<_> = [a, b, a / 2, b / 2].iter().map(|len| self.message(*len)).collect();
                let all = &all[..usize::from(count % 5)];
                let foreseen = self.pushed(all, "timeout");
                // It would wait for ever.
                if foreseen != Err("timeout") {
                    assert_eq!(told(channel.push_many(all)), foreseen, "{}", at());
                }
            }
            Op::DieInSession(a, b) => {
                let mut session = channel.push_session();
                for len in [a, b] {
                    let bytes = self.message(len);
                    let foreseen = self.pushed(std::slice::from_ref(&bytes), "full");
                    assert_eq!(told(session.try_push(&bytes)), foreseen, "{}", at());
                }
                // With the producers' end in hand, if it has pushed the second.
                self.die();
            }
            Op::TryPop => {
                let foreseen = self.popped();
                let got = match channel.try_pop() {
                    Ok(None) => Err("timeout"),
                    Ok(Some(bytes)) => Ok(bytes),
                    Err(error) => Err(kind(&error)),
                };
                assert_eq!(got, foreseen, "{}", at());
            }
            Op::Pop => {
                let foreseen = self.popped();
                let waits = foreseen == Err("timeout");
                let got = if waits { channel.pop_timeout(Duration::ZERO) } else { channel.pop() };
                assert_eq!(told(got), foreseen, "{}", at());
            }
            Op::PopInto => {
                let foreseen = self.popped();
                let mut bytes = vec![0xee; 5];
                if foreseen != Err("timeout") {
                    let got = told(channel.pop_into(&mut bytes)).map(|()| bytes);
                    assert_eq!(got, foreseen, "{}", at());
                } else {
                    self.there(channel, at);
                }
            }
            Op::PopWith => {
                let foreseen = self.popped();
                if foreseen != Err("timeout") {
                    assert_eq!(told(channel.pop_with(<[u8]>::to_vec)), foreseen, "{}", at());
                } else {
                    self.there(channel, at);
                }
            }
            Op::PanicInPop | Op::DieInPop => {
                let dies = matches!(op, Op::DieInPop);
                let Some(first) = self.there(channel, at) else { return };
                let gone = until_gone(|| {
                    channel.pop_with(|bytes| {
                        assert_eq!(bytes, self.messages[first].bytes, "{}", at());
                        part_with(dies)
                    })
                });
                assert!(gone.is_none());
                if dies {
                    self.die();
                }
            }
            Op::Drain(max) => self.drain(world, usize::from(max % 7), None, at),
            Op::PanicInDrain(n) => self.drain(world, usize::MAX, Some((n, false)), at),
            Op::DieInDrain(n) => self.drain(world, usize::MAX, Some((n, true)), at),
            Op::Peek => {
                let foreseen = match self.first() {
                    Some(at) => Ok(Some(self.messages[at].bytes.clone())),
                    None if self.nothing() == "closed" => Err("closed"),
                    None => Ok(None),
                };
                assert_eq!(told(channel.peek()), foreseen, "{}", at());
            }
            Op::Lease(hand) => {
                let hand = usize::from(hand) % HANDS;
                if world.hands[hand].is_some() {
                    return;
                }
                let foreseen = match self.first() {
                    Some(at) => {
                        let message = &mut self.messages[at];
                        message.has = Has::Hand(hand);
                        Ok(Some((message.bytes.clone(), message.attempts)))
                    }
                    None if self.nothing() == "closed" => Err("closed"),
                    None => Ok(None),
                };
                let got = told(channel.try_pop_lease());
                let shown = got.as_ref().map(|lease| lease.as_ref().map(|lease| (lease.to_vec(), lease.attempts())));
                assert_eq!(shown.map_err(|kind| *kind), foreseen, "{}", at());
                world.hands[hand] = got.ok().flatten();
            }
            Op::Ack(hand) | Op::GiveBack(hand) => {
                let hand = usize::from(hand) % HANDS;
                let Some(lease) = world.hands[hand].take() else { return };
                let mine = self.position(Has::Hand(hand));
                if let Op::Ack(_) = op {
                    assert_eq!(told(lease.ack()), mine.map(|_| ()).ok_or("lost"), "{}", at());
                    mine.into_iter().for_each(|mine| self.done(mine));
                } else {
                    drop(lease);
                    mine.into_iter().for_each(|mine| self.give_back(mine));
                }
            }
            Op::Die => self.die(),
            Op::Select => {
                let ready = self.first().is_some() || self.nothing() == "closed";
                let got = told(Channel::select(&[channel], Some(Duration::ZERO)));
                assert_eq!(got, if ready { Ok(0) } else { Err("timeout") }, "{}", at());
            }
            Op::Letter => {
                let Some(letters) = channel.dead_letters() else { return };
                let foreseen = match self.letters.pop_front() {
                    None if self.letters_closed => Err("closed"),
                    letter => Ok(letter),
                };
                assert_eq!(told(letters.try_pop()), foreseen, "{}", at());
            }
            Op::CloseLetters => {
                if let Some(letters) = channel.dead_letters() {
                    letters.close().unwrap();
                    self.letters_closed = true;
                }
            }
            Op::Inside(len) => self.inside(world, len, at),
            Op::Close(n) => {
                if n % 16 == 0 {
                    channel.close().unwrap();
                    self.closed = true;
                }
            }
            Op::Look => self.look(world, at),
        }
    }

    /// The closure of message `n` ends in a panic or a death, which takes with it what was not yet gone: all that lay at the floor without a lease
    /// among it.
    fn drain(&mut self, world: &World, max: usize, ends: Option<(u8, bool)>, at: Where<'_>) {
        let (mut foreseen, mut seen) = (Vec::new(), Vec::new());
        let end = ends.map(|(n, _)| usize::from(n % 5));
        let mut batch = Vec::new();
        while foreseen.len() < max {
            let Some(first) = self.first() else { break };
            let alone = self.messages.iter().all(|message| message.has == Has::Nobody);
            let before = alone.then(|| (self.messages.clone(), self.stats));
            foreseen.push(self.messages[first].bytes.clone());
            if end == Some(foreseen.len() - 1) {
                break;
            }
            batch.extend(before);
            self.done(first);
        }
        let nothing = foreseen.is_empty() && max > 0;
        let ended = end.is_some_and(|end| end < foreseen.len());
        let got = until_gone(|| {
            world.channel.drain(max, |bytes| {
                seen.push(bytes.to_vec());
                if let (Some(end), Some((_, dies))) = (end, ends)
                    && end == seen.len() - 1
                {
                    part_with(dies);
                }
            })
        });
        assert_eq!(seen, foreseen, "{}", at());
        match got.map(told) {
            Some(got) => {
                let closed = nothing && self.nothing() == "closed";
                assert!(!ended);
                assert_eq!(got, if closed { Err("closed") } else { Ok(foreseen.len()) }, "{}", at());
            }
            None => {
                assert!(ended, "{}", at());
                if let Some((_, true)) = ends {
                    // None of its batch had gone.
                    if let Some((messages, stats)) = batch.into_iter().next() {
                        (self.messages, self.stats) = (messages, stats);
                    }
                    self.die();
                }
            }
        }
    }

    fn inside(&mut self, world: &World, len: u8, at: Where<'_>) {
        let channel = &world.channel;
        let Some(first) = self.there(channel, at) else { return };
        let bytes = self.message(len);
        let foreseen = self.pushed(std::slice::from_ref(&bytes), "would deadlock");
        let shown = channel.pop_with(|shown| {
            assert_eq!(told(channel.push(&bytes)), foreseen, "{}", at());
            let refused = [
                told(channel.pop()).map(|_| ()),
                told(channel.try_pop()).map(|_| ()),
                told(channel.peek()).map(|_| ()),
                told(channel.try_pop_lease()).map(|_| ()),
                told(channel.drain(1, |_| panic!("it is held"))).map(|_| ()),
                told(channel.stats()).map(|_| ()),
                told(Channel::select(&[channel], None)).map(|_| ()),
            ];
            assert_eq!(refused, [Err("would deadlock"); 7], "{}", at());
            shown.to_vec()
        });
        assert_eq!(told(shown), Ok(self.messages[first].bytes.clone()), "{}", at());
        self.done(first);
    }
}
