//! Processes, and the page through which they tell the tracer what they found.
//!
//! Everything here runs single-threaded, so `fork` is safe. Every child asks for SIGKILL when its parent dies, so whatever
//! ends the harness ends all of it.

use std::ffi::c_int;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::SeqCst};

/// What a check found: the stage that the operation had reached when its process died, or what is wrong.
pub type Check = Result<u64, String>;

macro_rules! ensure {
    ($cond:expr, $($text:tt)+) => { if !$cond { return Err(format!($($text)+)); } };
}
pub(crate) use ensure;

/// A page that all processes of one operation share; not part of any region, so no image holds it.
pub struct Control {
    /// 0: nothing yet; else one more than what was reported. 0 is the traced child's, 1 the intruder's, the rest the helpers'.
    results: [AtomicU64; 16],
    stage: AtomicU64,
    text_len: AtomicU64,
    text: [AtomicU8; 2048],
}

static CONTROL: OnceLock<usize> = OnceLock::new();
static IN_CHILD: AtomicBool = AtomicBool::new(false);

pub const CHILD: usize = 0;
pub const INTRUDER: usize = 1;
pub const HELPERS: usize = 2;

/// Zeroed memory that is shared with every process forked afterwards.
pub fn shared_page(len: usize) -> usize {
    // SAFETY: a fresh anonymous mapping.
    let page = unsafe {
        let (rw, how) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        libc::mmap(std::ptr::null_mut(), len, rw, how, -1, 0)
    };
    assert_ne!(page, libc::MAP_FAILED, "no memory for a shared page");
    page as usize
}

pub fn control() -> &'static Control {
    let page = *CONTROL.get_or_init(|| shared_page(size_of::<Control>()));
    // SAFETY: the page holds a Control (all atomics, zeroes are valid) and is never unmapped.
    unsafe { &*(page as *const Control) }
}

impl Control {
    pub fn clear(&self) {
        self.text_len.store(0, SeqCst);
        self.stage.store(0, SeqCst);
    }
    pub fn forget_results(&self) {
        self.results.iter().for_each(|r| r.store(0, SeqCst));
    }
    pub fn report(&self, who: usize, value: u64) {
        self.results[who].store(value.wrapping_add(1), SeqCst);
    }
    pub fn result(&self, who: usize) -> Option<u64> {
        self.results[who].load(SeqCst).checked_sub(1)
    }
    pub fn say(&self, text: &str) {
        let bytes = &text.as_bytes()[..text.len().min(self.text.len())];
        for (to, from) in self.text.iter().zip(bytes) {
            to.store(*from, SeqCst);
        }
        self.text_len.store(bytes.len() as u64, SeqCst);
    }
    pub fn said(&self) -> String {
        let len = self.text_len.load(SeqCst) as usize;
        let bytes: Vec<u8> = self.text[..len].iter().map(|b| b.load(SeqCst)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
    pub fn set_stage(&self, stage: u64) {
        self.stage.store(stage, SeqCst);
    }
    pub fn stage(&self) -> u64 {
        self.stage.load(SeqCst)
    }
}

/// What the traced child's operation returned.
pub fn report(value: u64) {
    control().report(CHILD, value);
}

/// A panic in a child is a finding, and goes through the page: a forked child does not touch std's stdout.
pub fn install_panic_hook() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !IN_CHILD.load(SeqCst) {
            return default(info);
        }
        control().say(&format!("panic: {info}"));
        // SAFETY: ends the process.
        unsafe { libc::_exit(99) }
    }));
}

/// Forks; the child runs `body` and leaves with its value.
pub fn fork(body: impl FnOnce() -> c_int) -> c_int {
    // SAFETY: the harness has one thread.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid > 0 {
        return pid;
    }
    IN_CHILD.store(true, SeqCst);
    // SAFETY: plain system calls.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let code = body();
    // SAFETY: ends the child; nothing of the parent's runs twice.
    unsafe { libc::_exit(code) }
}

/// A tracer is a parent itself: its panics are told as everybody's, and it has a page for its own children.
pub fn become_tracer() {
    control();
    IN_CHILD.store(false, SeqCst);
}

pub fn wait(pid: c_int) -> c_int {
    let mut status = 0;
    loop {
        // SAFETY: `status` is a local.
        let got = unsafe { libc::waitpid(pid, &mut status, libc::__WALL) };
        if got == pid {
            return status;
        }
        let error = std::io::Error::last_os_error();
        assert_eq!(error.raw_os_error(), Some(libc::EINTR), "waitpid {pid}: {error}");
    }
}

/// Waits for the end of `pid` without reaping it: it stays a zombie.
pub fn wait_for_end(pid: c_int) {
    // SAFETY: an all-zero siginfo is valid, and a local.
    let result = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(libc::P_PID, pid as libc::id_t, &mut info, libc::WEXITED | libc::WNOWAIT)
    };
    assert_eq!(result, 0, "waitid {pid}: {}", std::io::Error::last_os_error());
}

pub fn kill(pid: c_int, signal: c_int) {
    // SAFETY: a plain system call.
    unsafe { libc::kill(pid, signal) };
}

/// What a supervisor does: SIGKILL, recover before reap.
pub fn end_and_recover(pid: c_int) {
    kill(pid, libc::SIGKILL);
    wait_for_end(pid);
    commons::recover(pid as u32).expect("a zombie can be recovered");
    wait(pid);
}

/// State letter of a process; None when it is gone.
pub fn process_state(pid: c_int) -> Option<u8> {
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let close = text.iter().rposition(|&b| b == b')')?;
    text.get(close + 2).copied()
}

/// Polls until `done`, at most `ms` milliseconds.
pub fn within(ms: u64, mut done: impl FnMut() -> bool) -> bool {
    let end = std::time::Instant::now() + std::time::Duration::from_millis(ms);
    loop {
        if done() {
            return true;
        }
        if std::time::Instant::now() >= end {
            return false;
        }
        std::thread::sleep(std::time::Duration::from_micros(100));
    }
}

/// SIGALRM ends this process after `seconds` (nobody handles it): what hangs is found.
pub fn alarm(seconds: u32) {
    // SAFETY: a plain system call.
    unsafe { libc::alarm(seconds) };
}

/// Keeps this process and its children on one core: a step then costs half, and the spin budget of the locks is 0.
pub fn pin(core: usize) {
    // SAFETY: the set is a local; an all-zero set is an empty one.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}

/// Waits for any child; its pid and status.
pub fn wait_any() -> (c_int, c_int) {
    let mut status = 0;
    // SAFETY: `status` is a local.
    let pid = unsafe { libc::waitpid(-1, &mut status, 0) };
    assert!(pid > 0, "waitpid: {}", std::io::Error::last_os_error());
    (pid, status)
}
