//! A second thread beside a worker, for peers that live in one process.

use std::cell::{Cell, OnceCell};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::kernel::{cores, pin};

type Step = Box<dyn FnMut() + Send>;

/// Does its step as often as the worker does its own. The thread starts with the first run, which is after the fork; between two runs it sleeps.
pub(crate) struct Helper {
    step: Cell<Option<Step>>,
    core: usize,
    thread: OnceCell<(Sender<u64>, Receiver<()>)>,
}

impl Helper {
    pub(crate) fn new(step: impl FnMut() + Send + 'static) -> Helper {
        // The worker is on the first.
        let all = cores();
        let core = *all.get(1).unwrap_or(&all[0]);
        Helper { step: Cell::new(Some(Box::new(step))), core, thread: OnceCell::new() }
    }

    /// `own`, and the step in the other thread, `n` times each, at the same time.
    pub(crate) fn beside(&self, n: u64, own: impl FnMut()) {
        let (start, ended) = self.thread.get_or_init(|| self.begin());
        start.send(n).expect("the helper");
        let mut own = own;
        (0..n).for_each(|_| own());
        ended.recv().expect("the helper");
    }

    fn begin(&self) -> (Sender<u64>, Receiver<()>) {
        let (mut step, core) = (self.step.take().expect("it begins once"), self.core);
        let ((start, starts), (end, ends)) = (channel(), channel());
        std::thread::spawn(move || {
            pin(core);
            for n in starts {
                (0..n).for_each(|_| step());
                end.send(()).expect("the worker");
            }
        });
        (start, ends)
    }
}
