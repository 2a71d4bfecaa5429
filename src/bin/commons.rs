//! The `commons` command: the counters server.
#![forbid(unsafe_code)]

use clap::Parser;
use clap::error::ErrorKind;
use commons::Error;
use commons::server::counters::{DEFAULT_PORT, MAX_WORKERS, Notice, Options};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::Write;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

/// Something went wrong while it ran.
const FAILED: u8 = 1;
/// It was not started: a bad flag, a bad value, a busy port.
const REFUSED: u8 = 2;

/// Serves a page of counters on 127.0.0.1 from several processes that count in shared memory.
///
/// SIGTERM or Ctrl-C stops in good order (a second one at once), SIGQUIT at once; SIGUSR1 or SIGHUP renews the workers without a request lost.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// TCP port; 0 lets the kernel choose
    #[arg(long, value_name = "PORT", allow_negative_numbers = true, default_value_t = DEFAULT_PORT, value_parser = number::<0, 65_535>)]
    port: u16,
    /// Worker processes, 1..=256 [default: one for each processor]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = number::<1, MAX_WORKERS>)]
    workers: Option<u16>,
    /// Print no line of totals every 10 s
    #[arg(long)]
    quiet: bool,
    /// Milliseconds between two lines of totals, instead of 10 s; for tests
    #[arg(long, hide = true, value_name = "MS", value_parser = number::<10, 60_000>)]
    beat: Option<u16>,
}

/// A whole number in a range; what is wrong with any other text is said with the range.
fn number<const MIN: usize, const MAX: usize>(text: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|number| (MIN..=MAX).contains(&usize::from(*number)))
        .ok_or_else(|| format!("allowed are {MIN}..={MAX}"))
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            out(&error.to_string());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            // clap adds hints and usage on further lines; the first one says what is wrong.
            let text = error.to_string();
            let line = text.lines().next().unwrap_or("bad arguments");
            err(&format!("{} (see --help)", line.strip_prefix("error: ").unwrap_or(line)));
            return ExitCode::from(REFUSED);
        }
    };
    let mut options = Options::default().port(arguments.port).quiet(arguments.quiet);
    if let Some(beat) = arguments.beat {
        options = options.beat(Duration::from_millis(beat.into()));
    }
    if let Some(workers) = arguments.workers {
        options = options.workers(usize::from(workers));
    }
    match options.bind().and_then(|server| server.run(tell)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            err(&error.to_string());
            ExitCode::from(if matches!(error, Error::Listen { .. } | Error::OutOfRange { .. }) {
                REFUSED
            } else {
                FAILED
            })
        }
    }
}

fn tell(notice: Notice) {
    match &notice {
        Notice::Started { manager, .. } => {
            out(&format!("commons: {notice}\ncommons: Ctrl-C or `kill {manager}` stops it\n"));
        }
        Notice::Event { .. } | Notice::Totals { .. } | Notice::Reloaded { .. }
            if can_take_a_line(&std::io::stdout()) =>
        {
            out(&format!("commons: {notice}\n"));
        }
        Notice::Trouble(text) if can_take_a_line(&std::io::stderr()) => err(text),
        // Nobody reads what we say; the manager has better things to do than to wait for that.
        _ => {}
    }
}

/// Whether it takes a line without making us wait: a pipe that polls writable has room for PIPE_BUF bytes.
fn can_take_a_line(stream: &impl AsFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(stream, PollFlags::OUT)], Some(&now)).is_ok_and(|ready| ready > 0)
}

/// Who started us may have closed our output; that is no reason to stop serving.
fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

fn err(line: &str) {
    let _ = std::io::stderr().lock().write_all(format!("commons: {line}\n").as_bytes());
}
