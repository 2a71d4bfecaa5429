//! A channel as others see it, and what every change makes of it.

/// Who has a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Ready,
    /// Leased to the traced child.
    Child,
    /// Leased to one that lives on.
    Helper,
    /// Leased to one that died before.
    Dead,
    /// Done with, and the floor has not moved over it.
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub bytes: Vec<u8>,
    pub attempts: u32,
    pub how: How,
}

/// A channel as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Between floor and tail.
    pub line: Vec<Item>,
    /// How many the floor has moved over.
    pub gone: u64,
    pub returned: u64,
    pub letters: Vec<Vec<u8>>,
    pub closed: bool,
    pub max_attempts: u32,
    /// So many dead letters fit.
    pub most_letters: usize,
}

/// Words that a message takes.
pub fn words_of(bytes: &[u8]) -> usize {
    1 + bytes.len().div_ceil(8)
}

impl State {
    pub fn empty() -> State {
        let (line, letters) = (Vec::new(), Vec::new());
        State { line, gone: 0, returned: 0, letters, closed: false, max_attempts: 0, most_letters: usize::MAX }
    }
    pub fn push(&mut self, message: impl AsRef<[u8]>) {
        self.line.push(Item { bytes: message.as_ref().to_vec(), attempts: 0, how: How::Ready });
    }
    /// The first one that is ready, or is the child's, is done with.
    pub fn take(&mut self) {
        let n = self.line.iter().position(|item| item.how == How::Ready).expect("one is ready");
        self.done(n);
    }
    pub fn done(&mut self, n: usize) {
        self.line[n].how = How::Done;
    }
    /// The first one that is ready is leased.
    pub fn lease(&mut self, to: How) {
        self.line.iter_mut().find(|item| item.how == How::Ready).expect("one is ready").how = to;
    }
    /// A lease comes back.
    pub fn give_back(&mut self, n: usize) {
        self.returned += 1;
        let item = &mut self.line[n];
        item.attempts += 1;
        item.how = How::Ready;
        if self.max_attempts > 0 && item.attempts >= self.max_attempts {
            item.how = How::Done;
            self.letters.push(item.bytes.clone());
            let more = self.letters.len().saturating_sub(self.most_letters);
            self.letters.drain(..more);
        }
    }
    /// With the floor where it can be.
    pub fn reclaimed(mut self) -> State {
        let done = self.line.iter().take_while(|item| item.how == How::Done).count();
        self.line.drain(..done);
        self.gone += done as u64;
        self
    }
    pub fn words(&self) -> usize {
        self.line.iter().map(|item| words_of(&item.bytes)).sum()
    }
    fn count(&self, which: impl Fn(How) -> bool) -> u64 {
        self.line.iter().filter(|item| which(item.how)).count() as u64
    }
    /// Pushed, taken, waiting, leased, returned.
    pub fn figures(&self) -> [u64; 5] {
        let taken = self.gone + self.count(|how| how == How::Done);
        let waiting = self.count(|how| how == How::Ready);
        let leased = self.count(|how| how != How::Ready && how != How::Done);
        [taken + waiting + leased, taken, waiting, leased, self.returned]
    }
}
