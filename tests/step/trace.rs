//! A child under ptrace, and where it stands.

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::process::Command;

use crate::kit::{fork, kill, wait};

/// How a traced child stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It executed one instruction.
    Stepped,
    /// It came to one of its two marks (`int3`).
    Marked,
    /// It left by `exit`.
    Exited(c_int),
    /// A signal came, or killed it: whatever it is, nobody sent it.
    Signal(c_int),
}

pub struct Tracee {
    pub pid: c_int,
    over: bool,
}

/// The way that a child took, step by step.
///
/// Another child that goes the same way is brought to a place on it by a breakpoint that is hit a few times, instead of by thousands of steps.
#[derive(Default)]
pub struct Path {
    /// The instruction that came next, and the how-many-eth time that was.
    steps: Vec<(u64, usize)>,
    times: HashMap<u64, usize>,
}

impl Path {
    /// After all steps so far the instruction at `rip` comes next.
    pub fn next(&mut self, rip: u64) {
        let times = self.times.entry(rip).or_default();
        *times += 1;
        self.steps.push((rip, *times));
    }

    /// From where to go on by steps to the `k`th: after how many steps that is, at which instruction, for the how-many-eth time. None: from the beginning.
    fn short_cut(&self, k: usize) -> Option<(usize, u64, usize)> {
        let known = self.steps.iter().enumerate().take(k.saturating_add(1));
        let stops = |far: usize, times: usize| times + (k - far);
        let best = known.min_by_key(|&(far, &(_, times))| stops(far, times))?;
        let (far, &(rip, times)) = best;
        (stops(far, times) < k).then_some((far, rip, times))
    }
}

/// How a child came to be where it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Went {
    /// It has made so many steps.
    There,
    /// It stopped on the way, after so many steps.
    Stopped(usize, Stop),
    /// It went another way than the path, and stopped somewhere.
    Astray,
}

/// DR7 says what the other debug registers are for; its lowest bit: the first one holds the address of an instruction (Intel SDM 3B, 19.2.4).
const CONTROL: usize = 7;
const ENABLE_FIRST: u64 = 1;

/// `si_code` of a trap that an `int3` raised; steps have another.
const SI_KERNEL: c_int = 0x80;

pub fn mark() {
    // SAFETY: a breakpoint; the tracer takes it for a mark and lets the process go on behind it.
    unsafe { std::arch::asm!("int3") };
}

fn ptrace(request: u32, pid: c_int, data: usize) -> libc::c_long {
    // SAFETY: the requests of this file take a number, or a pointer to a local of the caller.
    unsafe { libc::ptrace(request, pid, std::ptr::null_mut::<c_void>(), data as *mut c_void) }
}

fn poke_debug_register(pid: c_int, n: usize, value: u64) -> bool {
    let at = std::mem::offset_of!(libc::user, u_debugreg) + n * size_of::<u64>();
    // SAFETY: writes a register of the child; the offset is one of `struct user`, as the call wants it.
    unsafe { libc::ptrace(libc::PTRACE_POKEUSER, pid, at as *mut c_void, value as *mut c_void) == 0 }
}

impl Tracee {
    /// Forks a child that runs `body` under trace; returns when it has come to its first mark. `body` marks twice.
    pub fn start(body: impl FnOnce()) -> Result<Tracee, String> {
        let pid = fork(|| {
            ptrace(libc::PTRACE_TRACEME, 0, 0);
            body();
            0
        });
        let tracee = Tracee { pid, over: false };
        match decode(pid, wait(pid)) {
            Stop::Marked => {}
            other => return Err(format!("before the operation began: {other:?} {}", crate::kit::control().said())),
        }
        ptrace(libc::PTRACE_SETOPTIONS, pid, libc::PTRACE_O_EXITKILL as usize);
        Ok(tracee)
    }

    /// One instruction.
    pub fn step(&mut self) -> Stop {
        ptrace(libc::PTRACE_SINGLESTEP, self.pid, 0);
        self.stop()
    }

    /// `k` steps from the first mark, by a short cut of `path` if there is one.
    pub fn go(&mut self, k: usize, path: &Path) -> Went {
        let mut steps = 0;
        if let Some((far, rip, times)) = path.short_cut(k)
            && self.set_breakpoint(rip)
        {
            for _ in 0..times {
                if self.go_on() != Stop::Stepped || self.rip() != rip {
                    return Went::Astray;
                }
            }
            self.clear_breakpoint();
            steps = far;
        }
        while steps < k {
            match self.step() {
                Stop::Stepped => steps += 1,
                other => return Went::Stopped(steps, other),
            }
        }
        Went::There
    }

    /// The processor stops before it executes the instruction at `rip`. False where its debug registers cannot be had.
    fn set_breakpoint(&self, rip: u64) -> bool {
        poke_debug_register(self.pid, 0, rip) && poke_debug_register(self.pid, CONTROL, ENABLE_FIRST)
    }

    fn clear_breakpoint(&self) {
        poke_debug_register(self.pid, CONTROL, 0);
    }

    /// Until the next mark, or the end.
    pub fn go_on(&mut self) -> Stop {
        ptrace(libc::PTRACE_CONT, self.pid, 0);
        self.stop()
    }

    fn stop(&mut self) -> Stop {
        let stop = decode(self.pid, wait(self.pid));
        self.over = matches!(stop, Stop::Exited(_));
        stop
    }

    /// Address of the next instruction.
    pub fn rip(&self) -> u64 {
        // SAFETY: all zeroes are valid registers.
        let mut regs: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        ptrace(libc::PTRACE_GETREGS, self.pid, std::ptr::from_mut(&mut regs) as usize);
        regs.rip
    }

    /// Kills it without a word to anybody: no recovery.
    pub fn slay(mut self) {
        self.end();
    }

    /// Whether it has left by itself, and was reaped.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// SIGKILL; the child stays a zombie, to be reaped by the caller.
    pub fn kill_only(mut self) -> c_int {
        if !self.over {
            self.over = true;
            kill(self.pid, libc::SIGKILL);
        }
        self.pid
    }

    /// The child has left by itself; it has been reaped.
    fn end(&mut self) {
        if !self.over {
            self.over = true;
            kill(self.pid, libc::SIGKILL);
            while !ended(wait(self.pid)) {}
        }
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        self.end();
    }
}

fn ended(status: c_int) -> bool {
    libc::WIFEXITED(status) || libc::WIFSIGNALED(status)
}

fn decode(pid: c_int, status: c_int) -> Stop {
    if libc::WIFEXITED(status) {
        return Stop::Exited(libc::WEXITSTATUS(status));
    }
    if libc::WIFSIGNALED(status) {
        return Stop::Signal(libc::WTERMSIG(status));
    }
    if libc::WSTOPSIG(status) != libc::SIGTRAP {
        return Stop::Signal(libc::WSTOPSIG(status));
    }
    // SAFETY: all zeroes are a valid siginfo.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    ptrace(libc::PTRACE_GETSIGINFO, pid, std::ptr::from_mut(&mut info) as usize);
    if info.si_code == SI_KERNEL { Stop::Marked } else { Stop::Stepped }
}

/// Function, and line if the binary knows, of an instruction of this program.
pub fn line_of(rip: u64) -> String {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let exe = std::env::current_exe().unwrap_or_default();
    // The first mapping of the file is where the linker's address 0 lies; an address in another file is only named by it.
    let mut base = None;
    let mut file = "?".to_string();
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let range = fields.next().unwrap_or_default();
        let path = fields.nth(4).unwrap_or_default();
        let (from, to) = range.split_once('-').unwrap_or_default();
        let (from, to) = (u64::from_str_radix(from, 16).unwrap_or(0), u64::from_str_radix(to, 16).unwrap_or(0));
        if exe.as_os_str() == path && base.is_none() {
            base = Some(from);
        }
        if (from..to).contains(&rip) {
            file = path.to_string();
        }
    }
    if exe.as_os_str() != file.as_str() {
        return file.rsplit('/').next().unwrap_or_default().to_string();
    }
    let address = format!("{:#x}", rip - base.unwrap_or(0));
    let out = Command::new("addr2line").args(["-fCi", "-e"]).arg(&exe).arg(&address).output();
    let text = out.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let places = lines.chunks(2).take(3).map(|pair| {
        let file = pair.get(1).copied().unwrap_or("?");
        let short = file.rfind("/src/").map_or(file, |at| &file[at + 1..]);
        format!("{} ({short})", pair[0])
    });
    let places: Vec<String> = places.collect();
    if places.is_empty() { address } else { places.join(" < ") }
}
