//! The floors beside each other, in units of one `fetch_add`: what this machine is like today.

use std::process::ExitCode;

mod harness;

use harness::{Bar, Suite, Work, floors};

fn main() -> ExitCode {
    let mut suite = Suite::new("floors");
    // A chase that is not timed needs no large memory.
    let megabytes = if suite.is_timed() { 1 << 20 } else { 1 << 10 };
    let works: [Work; 12] = [
        floors::load(),
        floors::store(),
        floors::cas(),
        floors::fetch_add_by_two(),
        floors::line_ping_pong(),
        floors::futex_ping_pong(),
        floors::futex_ping_pong().named("futex ping-pong, one core").on_one_core(),
        floors::getppid(),
        floors::chase("dependent miss, 1 MB", megabytes),
        floors::chase("dependent miss, 16 MB", 16 * megabytes),
        floors::chase("dependent miss, 256 MB", 256 * megabytes),
        floors::fetch_add(),
    ];
    for work in works {
        suite.pair(work, floors::fetch_add(), Bar::Shown);
    }
    suite.run()
}
