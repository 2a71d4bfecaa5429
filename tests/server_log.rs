//! The counters server's log of events, its lines of totals, and the rates that it rotates.

mod served;

use rustix::process::Signal;
use served::{Served, Stats, send, until};

/// The number before `word` in a line.
fn number(line: &str, word: &str) -> i64 {
    let before = line.split_once(word).unwrap_or_else(|| panic!("{word} in {line}")).0;
    let digits = before.rsplit(|c: char| !c.is_ascii_digit()).find(|text| !text.is_empty());
    digits.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("a number before {word} in {line}"))
}

fn rates(stats: &Stats) -> (i64, Vec<i64>) {
    let rates = &stats.0["rates"];
    let minutes = rates["minutes"].as_array().expect("minutes").iter().map(|n| n.as_i64().expect("a number")).collect();
    assert!(rates["next_in"].as_u64().expect("a time") <= 60_000);
    (rates["this_minute"].as_i64().expect("a number"), minutes)
}

#[test]
fn what_happens_to_workers_is_told_in_order() {
    let mut server = Served::start(2);
    let first = server.workers();
    let mut serves: Vec<_> = first.iter().map(|pid| format!("(pid {pid}) serves")).collect();
    while !serves.is_empty() {
        let line = server.line("a worker serves", |line| line.contains("serves"));
        serves.retain(|wanted| !line.contains(wanted.as_str()));
    }
    send(first[0], Signal::KILL);
    let pids = server.workers_but(&first[..1]);
    let line = server.line("the next one serves", |line| line.contains("serves"));
    assert_eq!(line, format!("commons: worker 0 (pid {}) serves", pids[0]));
    let hits = server.stats().each("hits");
    server.signal(Signal::TERM);
    assert!(server.leave().success());
    let lines = server.lines();
    for (id, pid) in pids.iter().enumerate() {
        let own: Vec<_> = lines.iter().filter(|line| line.contains(&format!("worker {id} (pid {pid})"))).collect();
        let [asked, left] = own[..] else { panic!("{lines:?}") };
        assert!(asked.contains("was asked to leave") && left.contains("leaves"), "{lines:?}");
        assert!(number(left, " requests") >= hits[id], "{lines:?}");
    }
    assert!(!lines.iter().any(|line| line.contains(&first[0].to_string())), "the killed one says nothing: {lines:?}");
}

#[test]
fn totals_are_told_at_every_beat() {
    let mut server = Served::start_with(2, &["--beat", "50"]);
    let mut client = server.connect();
    let asked = 10;
    (0..asked).for_each(|_| assert_eq!(client.get("/").status, 200));
    let (mut sum, mut last) = (0, String::new());
    // Each line tells what is new since the one before, so they add up to all that there were.
    while sum < asked {
        last = server.line("totals", |line| line.contains(" requests (+"));
        sum += number(&last, ")");
        assert_eq!(sum, number(&last, " requests"), "{last}");
    }
    assert_eq!(sum, asked);
    assert!(last.contains("2 of 2 workers, 1 connections, 0 crashes"), "{last}");
    let next = server.line("the next totals", |line| line.contains(" requests (+"));
    assert!(next.contains("10 requests (+0)"), "{next}");
}

#[test]
fn rates_rotate_and_miss_nothing() {
    let server = Served::start_with(1, &["--beat", "100"]);
    let mut client = server.connect();
    let (mut seen, mut rotations) = (Vec::new(), 0);
    // Each minute of 600 ms stays as it is once it is over, and all together are the total.
    until("three rotations", || {
        let stats = Stats(client.get("/stats").json());
        let (this_minute, minutes) = rates(&stats);
        // A rotation may fall into the middle of an answer; then the next one is looked at.
        if minutes.len() < 15 && minutes.iter().sum::<i64>() + this_minute != stats.total() {
            return false;
        }
        assert!(minutes.ends_with(&seen), "{minutes:?} after {seen:?}");
        rotations += usize::from(minutes.len() > seen.len());
        seen = minutes;
        rotations == 3
    });
}

#[test]
fn quiet_stops_the_totals_and_nothing_else() {
    let mut server = Served::start_with(1, &["--beat", "20", "--quiet"]);
    until("two rotations, which is twelve beats", || rates(&server.stats()).1.len() >= 2);
    server.signal(Signal::TERM);
    assert!(server.leave().success());
    let lines = server.lines();
    assert!(lines.iter().any(|line| line.contains("leaves")), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains(" requests (+")), "{lines:?}");
}
