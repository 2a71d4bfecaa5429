//! Messages between processes, connections that another process holds, and timers with closures.

#[path = "under_test/mod.rs"]
mod under_test;

use std::collections::BTreeSet;
use std::process::ExitCode;

use rustix::process::Signal;
use under_test::client::{Client, Who};
use under_test::{Running, Test, until};

const TESTS: &[Test] = &[
    ("messages_between_all_kinds_of_processes_arrive_in_order", all_pairs),
    ("messages_of_any_size_up_to_the_longest", sizes),
    ("messages_survive_the_receiver_s_death_in_order", receiver_dies),
    ("messages_stay_in_order_across_reloads", across_reloads),
    ("a_message_in_hand_is_finished_by_who_leaves", in_hand),
    ("a_flood_of_messages_does_not_keep_clients_waiting", flood),
    ("a_connection_of_another_process_can_be_sent_to_and_closed", other_s_connection),
    ("what_is_sent_to_connections_of_workers_that_leave_arrives_in_order", sent_to_who_leaves),
    ("what_is_sent_to_the_dead_is_refused_and_leaves_nothing", sent_to_the_dead),
    ("what_others_send_to_a_slow_client_stays_in_order", slow_client),
    ("what_others_send_in_a_burst_costs_no_client_that_reads", burst),
    ("what_others_send_to_a_client_that_never_reads_has_a_bound", stuck_client),
    ("small_pieces_for_a_client_that_never_reads_have_a_bound_too", small_pieces),
    ("timers_once_and_again_and_ended", timers),
    ("timers_that_fail_end_alone", bad_timers),
];

fn main() -> ExitCode {
    under_test::main(TESTS)
}

/// The messages that `to` was told of `from`, by their numbers.
fn numbers(server: &mut Running, to: usize, from: usize) -> Vec<usize> {
    let head = format!("message {to} {from} {from} ");
    let all = server.told.all().iter();
    all.filter_map(|line| line.strip_prefix(&head)?.split(' ').next()?.parse().ok()).collect()
}

fn all_pairs() {
    let settings = [("workers", "2"), ("task_workers", "1")];
    let mut server = Running::start(&settings, &["--user=talks"]);
    let (mut first, _) = server.client_of(0);
    let (mut second, _) = server.client_of(1);
    for to in 0..4 {
        assert_eq!(first.ask(&format!("message {to} 0 200 10")), "ok: sent");
        assert_eq!(second.ask(&format!("message {to} 0 200 10")), "ok: sent");
    }
    for to in 0..4 {
        for from in 0..2 {
            until("all have arrived", || numbers(&mut server, to, from).len() == 200);
            assert_eq!(numbers(&mut server, to, from), (0..200).collect::<Vec<_>>(), "{from} to {to}");
        }
    }
    // And from the user's process to a worker.
    let head = "message 0 3 talk ";
    until("it has talked", || server.told.count(head) == 100);
    let talk: Vec<usize> =
        server.told.all().iter().filter_map(|line| line.strip_prefix(head)?.split(' ').next()?.parse().ok()).collect();
    assert_eq!(talk, (0..100).collect::<Vec<_>>());
    assert_eq!(first.ask("message 4 0 1 10"), "error: the process's number is 4, allowed are 0..=3");
    drop((first, second));
    server.stop();
}

fn sizes() {
    let mut server = Running::start(&[("workers", "1")], &["--user=idle"]);
    let mut client = server.client();
    for (at, len) in [0, 1, 1000, 30_000, 100_000, 131_072, 1 << 20, 5 << 20].into_iter().enumerate() {
        assert_eq!(client.ask(&format!("message 1 {at} 1 {len}")), "ok: sent");
        server.told.next(&format!("message 1 0 0 {at} {len}"));
    }
    drop(client);
    server.stop();
}

fn receiver_dies() {
    let mut server = Running::start(&[("workers", "2")], &[]);
    let (mut sender, _) = server.client_of(0);
    let (killed, who) = server.client_of(1);
    for round in 0..10 {
        sender.say(&format!("message 1 {} 100 500", round * 100));
        if round == 3 {
            under_test::send(who.pid, Signal::KILL);
        }
    }
    (0..10).for_each(|_| assert_eq!(sender.line(), "ok: sent"));
    until("the last one", || numbers(&mut server, 1, 0).last() == Some(&999));
    let got = numbers(&mut server, 1, 0);
    // One that was in the dead one's hands, and read by it, may be gone with it, or be told twice if it was killed before it was done with it.
    assert!(got.is_sorted() && got.len() >= 999, "{} messages: {got:?}", got.len());
    drop((sender, killed));
    server.stop();
}

fn across_reloads() {
    let mut server = Running::start(&[("workers", "2"), ("task_workers", "1")], &[]);
    for round in 0..3 {
        let (mut sender, _) = server.client_of(0);
        for at in 0..5 {
            for to in [1, 2] {
                sender.say(&format!("message {to} {} 40 100", (round * 5 + at) * 40));
            }
            if at == 2 {
                server.signal(Signal::USR1);
            }
        }
        (0..10).for_each(|_| assert_eq!(sender.line(), "ok: sent"));
        server.told.next("after_reload");
    }
    for to in [1, 2] {
        until("all have arrived", || numbers(&mut server, to, 0).len() >= 600);
        assert_eq!(numbers(&mut server, to, 0), (0..600).collect::<Vec<_>>(), "to {to}");
    }
    server.stop();
}

fn in_hand() {
    let mut server = Running::start(&[("workers", "1")], &["--user=idle"]);
    // The handler of process 1 waits in the middle of it, and is asked to leave meanwhile.
    let mut client = server.client();
    assert_eq!(client.ask("say 1 wait:150"), "ok: sent");
    server.told.next("message waits");
    drop(client);
    server.signal(Signal::TERM);
    server.told.next("worker_exit 1");
    server.told.next("message 1 0 said");
    assert_eq!(server.wait().code(), Some(0));
}

fn flood() {
    let mut server = Running::start(&[("workers", "2")], &[]);
    let ((mut first, _), (mut second, who)) = (server.client_of(0), server.client_of(1));
    first.say(&vec!["say 1 block:1"; 300].join("\n"));
    server.told.next("message 1 0 said");
    assert_eq!(second.ask("echo hello"), "hello");
    let heard = server.told.next(&format!("receive {} echo hello", commons::server::ConnId::from(who.id)));
    let before = server.told.all().iter().take_while(|line| **line != heard);
    let before = before.filter(|line| line.starts_with("message 1 ")).count();
    assert!(before < 290, "after {before} messages of 300");
    drop((first, second));
    server.stop();
}

fn other_s_connection() {
    let mut server = Running::start(&[("workers", "2")], &[]);
    let (mut first, _) = server.client_of(0);
    let (mut second, who) = server.client_of(1);
    assert_eq!(first.ask(&format!("sendto {} across", who.id)), "ok: sent");
    assert_eq!(second.line(), "across");
    assert_eq!(second.ask(&format!("sendto {} own", who.id)), "own");
    assert_eq!(second.line(), "ok: sent");
    let mine: Vec<u64> = serde_json::from_str(&second.ask("connections 100")).unwrap();
    assert!(mine.contains(&who.id));
    // In pages, each of them once.
    let more: Vec<_> = (0..3).map(|_| server.client_of(1)).collect();
    let all = second.ask("connections 100");
    assert!(all.matches(',').count() >= 3 && more.iter().all(|(_, who)| all.contains(&who.id.to_string())), "{all}");
    for n in [1, 2, 3] {
        assert_eq!(second.ask(&format!("connections {n}")), all, "{n} at a time");
    }
    assert_eq!(second.ask("connections 0"), "[]");
    drop(more);
    // More than its buffer can ever hold is refused where it is sent, not lost on the way.
    let (mut failing, _) = server.client_of(0);
    failing.say(&format!("flood {} x 1 9000000", who.id));
    assert!(failing.is_closed());
    assert!(server.log.next("receive of connection").contains("at most 8388608 are allowed"));
    // First what was sent, then the end.
    assert_eq!(first.ask(&format!("sendto {} last", who.id)), "ok: sent");
    assert_eq!(first.ask(&format!("closeid {}", who.id)), "ok: closed");
    assert_eq!(second.line(), "last");
    assert!(second.is_closed());
    // One that is gone: known to its own process, and to no other.
    assert_eq!(first.ask(&format!("sendto {} late", who.id)), "ok: sent");
    let own = first.who().id;
    assert_eq!(
        first.ask(&format!("closeid {}", own + 1000)),
        "error: closed: the channel takes no more, or the connection is gone"
    );
    drop((first, second));
    server.stop();
}

/// Who talks, who hears it, and how far each has heard each.
struct Guest {
    client: Client,
    who: Who,
    heard: Vec<usize>,
}

fn sent_to_who_leaves() {
    let mut server = Running::start(&[("workers", "2")], &[]);
    let (mut guests, mut talkers): (Vec<Guest>, Vec<Client>) = (Vec::new(), Vec::new());
    let mut lives = BTreeSet::new();
    for round in 0..3 {
        // Those who are with the workers that leave, and with their successors.
        for worker in 0..2 {
            let (client, who) = server.client_of(worker);
            lives.insert(who.pid);
            guests.push(Guest { client, who, heard: Vec::new() });
            talkers.push(server.client_of(worker).0);
        }
        (0..4).for_each(|_| talk(&mut talkers, &mut guests, 100));
        // Too long for an inbox.
        talk(&mut talkers, &mut guests, 50_000);
        // Those before are gone, so that the next ones can be renewed.
        (guests, talkers) = (guests.split_off(guests.len() - 2), talkers.split_off(talkers.len() - 2));
        server.signal(Signal::USR1);
        until("they are renewed", || {
            talk(&mut talkers, &mut guests, 100);
            server.told.count("after_reload") == round + 1
        });
        until("both were asked", || server.told.count("worker_exit ") == 2 * (round + 1));
    }
    assert_eq!((lives.len(), server.log.count("still here")), (6, 0), "three lives of each place");
    drop((guests, talkers));
    server.stop();
}

/// Each of `talkers` says five things to each of `guests`, who hears them all, in the order of each talker.
fn talk(talkers: &mut [Client], guests: &mut [Guest], len: usize) {
    for (at, talker) in talkers.iter_mut().enumerate() {
        guests.iter().for_each(|guest| talker.say(&format!("flood {} {at} 5 {len}", guest.who.id)));
    }
    for guest in &mut *guests {
        // As one who takes part: a connection on which nothing arrives is closed by a worker that leaves.
        guest.client.say("echo I am here");
        guest.heard.clear();
        guest.heard.resize(talkers.len(), 0);
        for _ in 0..=5 * talkers.len() {
            let line = guest.client.line();
            if line == "I am here" {
                continue;
            }
            let mut words = line.split(' ').map(|word| word.parse::<usize>());
            let (Some(Ok(talker)), Some(Ok(at))) = (words.next(), words.next()) else { panic!("{line}") };
            assert_eq!(at, std::mem::replace(&mut guest.heard[talker], at + 1), "of talker {talker}");
        }
        assert_eq!(guest.heard, vec![5; talkers.len()]);
    }
    talkers.iter_mut().for_each(|talker| (0..guests.len()).for_each(|_| assert_eq!(talker.line(), "flooded")));
}

fn sent_to_the_dead() {
    let mut server = Running::start(&[("workers", "2"), ("message_queue_bytes", "64K")], &[]);
    let guests = [0, 1].map(|worker| {
        let (mut client, who) = server.client_of(worker);
        client.say("slow 60000");
        (client, who)
    });
    server.signal(Signal::USR1);
    until("both were asked", || server.told.count("worker_exit ") == 2);
    guests.iter().for_each(|(_, who)| under_test::send(who.pid, Signal::STOP));
    // All of the lockers, and all of an inbox. One of those who send waits for the one, and one for the other.
    let (mut large, mut small) = (server.client(), server.client());
    let [first, second] = [guests[0].1.id, guests[1].1.id];
    assert_eq!(large.ask(&format!("pour {first} 4 20000")), "ok: 4");
    assert_eq!(large.ask(&format!("pour {second} 4 20000")), "ok: 4");
    large.say(&format!("pour {first} 1 20000"));
    small.say(&format!("pour {second} 100 2000"));
    until("the inbox is nearly full", || server.told.count("poured ") >= 8 + 25);
    guests.iter().for_each(|(_, who)| under_test::send(who.pid, Signal::KILL));
    for client in [&mut large, &mut small] {
        assert_eq!(client.line(), "error: closed: the channel takes no more, or the connection is gone");
    }
    assert_eq!(
        small.ask(&format!("sendto {first} late")),
        "error: closed: the channel takes no more, or the connection is gone"
    );
    assert_eq!(
        small.ask(&format!("closeid {second}")),
        "error: closed: the channel takes no more, or the connection is gone"
    );
    assert!(server.told.count("poured ") < 8 + 40, "no more than there is room for");
    // Others have all the room there is; also those who get the same lines, three lives later.
    for round in 0..3 {
        for worker in 0..2 {
            let (mut client, who) = server.client_of(worker);
            let (mut other, _) = server.client_of(1 - worker);
            other.say(&format!("pour {} 20 20000", who.id));
            (0..20).for_each(|at| assert!(client.line().starts_with(&format!("poured {at} x"))));
            assert_eq!(other.line(), "ok: 20");
        }
        for id in [first, second] {
            assert_eq!(
                server.ask(&format!("sendto {id} late")),
                "error: closed: the channel takes no more, or the connection is gone",
                "round {round}"
            );
        }
        server.signal(Signal::USR1);
        until("it is renewed", || server.told.count("after_reload") == round + 2);
    }
    drop((guests, large, small));
    server.stop();
}

const SMALL: &[(&str, &str)] = &[("workers", "2"), ("socket_buffer_size", "20000"), ("kernel_send_buffer", "4096")];

fn slow_client() {
    let server =
        Running::start(&[("workers", "2"), ("socket_buffer_size", "400000"), ("kernel_send_buffer", "4096")], &[]);
    let (mut first, _) = server.client_of(0);
    let (mut slow, who) = server.client_of(1);
    rustix::net::sockopt::set_socket_recv_buffer_size(slow.stream(), 16384).unwrap();
    // Long and short ones in turns, while nothing is read: a short one must not slip in before a long one that waits for room.
    // More than is kept of a connection and the kernel takes, less than twice as much. More than once, so that what has been sent at last takes no room from what comes then; and the last time it is closed as well.
    for round in 0..3 {
        for at in 0..2 {
            first.say(&format!("flood {} long{at} 39 9000", who.id));
            first.say(&format!("flood {} short{at} 39 10", who.id));
        }
        if round == 2 {
            first.say(&format!("closeid {}", who.id));
        }
        for _ in 0..4 {
            assert_eq!(first.line(), "flooded");
        }
        for tag in (0..2).flat_map(|at| [format!("long{at}"), format!("short{at}")]) {
            for at in 0..39 {
                let line = slow.line();
                assert!(line.starts_with(&format!("{tag} {at} ")), "{tag} {at}: {}", &line[..20.min(line.len())]);
            }
        }
    }
    assert_eq!(first.line(), "ok: closed");
    assert!(slow.is_closed());
    drop((first, slow));
    server.stop();
}

fn burst() {
    // Twelve times what is kept of a connection. The kernel takes it all, whether its client reads just now or not.
    let settings = [("workers", "2"), ("socket_buffer_size", "8192"), ("kernel_send_buffer", "200K")];
    let mut server = Running::start(&settings, &[]);
    let (mut first, _) = server.client_of(0);
    let (mut other, who) = server.client_of(1);
    assert_eq!(first.ask(&format!("flood {} x 100 1000", who.id)), "flooded");
    (0..100).for_each(|at| assert!(other.line().starts_with(&format!("x {at} "))));
    assert_eq!(server.log.count("does not take"), 0);
    drop((first, other));
    server.stop();
}

fn stuck_client() {
    let mut server = Running::start(SMALL, &[]);
    let (mut first, _) = server.client_of(0);
    let (mut stuck, who) = server.client_of(1);
    let (mut other, its) = server.client_of(1);
    rustix::net::sockopt::set_socket_recv_buffer_size(stuck.stream(), 16384).unwrap();
    // 20 MB for a buffer of 20 KB.
    assert_eq!(first.ask(&format!("flood {} x 2000 10000", who.id)), "flooded");
    assert_eq!(first.ask(&format!("sendto {} not held up", its.id)), "ok: sent");
    assert_eq!(other.line(), "not held up");
    server.log.next("does not take what others send to it");
    assert!(stuck.is_over());
    drop((first, stuck, other));
    server.stop();
}

fn small_pieces() {
    let mut server = Running::start(SMALL, &[]);
    let (mut first, _) = server.client_of(0);
    let (mut stuck, who) = server.client_of(1);
    let (mut other, its) = server.client_of(1);
    rustix::net::sockopt::set_socket_recv_buffer_size(stuck.stream(), 16384).unwrap();
    // Its own worker waits for room in the end, and all others behind it.
    stuck.say(&vec!["big 10000"; 2000].join("\n"));
    // Far fewer bytes than may wait; but each piece takes room of its own.
    assert!((0..200).any(|_| {
        assert_eq!(first.ask(&format!("flood {} x 10 0", who.id)), "flooded");
        server.log.count("is given up") > 0
    }));
    assert_eq!(first.ask(&format!("sendto {} not held up", its.id)), "ok: sent");
    assert_eq!(other.line(), "not held up");
    drop((first, stuck, other));
    server.stop();
}

fn timers() {
    let mut server = Running::start(&[("workers", "1")], &[]);
    let mut client = server.client();
    // So much later that a machine under load sets the other one in time.
    assert_eq!(client.ask("after 5 300"), "set");
    assert_eq!(client.ask("after 3 1"), "set");
    server.told.next("fired 3");
    server.told.next("fired 8");
    assert_eq!(client.ask("tick 4 5"), "set");
    (1..=4).for_each(|at| drop(server.told.next(&format!("tick {at}"))));
    server.told.next("the tick's closure is gone");
    server.told.next("cleared true");
    assert_eq!(client.ask("after 1 40"), "set");
    server.told.next("fired 9");
    let ticks = server.told.all().iter().filter(|line| line.starts_with("tick ")).count();
    assert_eq!(ticks, 4, "it is over");
    assert_eq!(client.ask("defer"), "set");
    server.told.next("not yet deferred");
    server.told.next("deferred");
    for why in ["a deferred call: a deferred one: as it should", "a deferred call: panicked: in a deferred one"] {
        until(why, || server.log.count(why) > 0);
    }
    let full = client.ask("timers");
    assert!(full.starts_with("16384 16384 error: full: all room is taken, which is 16384 "), "{full}");
    // Who leaves waits for a call that is under way.
    assert_eq!(client.ask("afterslow 100"), "set");
    server.told.next("timer begins");
    drop(client);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    server.told.next("timer ends");
    server.told.next("worker_stop 0");
}

fn bad_timers() {
    let mut server = Running::start(&[("workers", "1")], &[]);
    let mut client = server.client();
    let pid = client.who().pid;
    assert!(client.ask("badtimers").starts_with("error: a delay of 0ns"));
    for why in [
        "a timer: as it should",
        "panicked: in the timer's future",
        "panicked: in the timer's closure",
        "panicked: in a spawned future",
    ] {
        until(why, || server.log.count(why) > 0);
    }
    assert_eq!(client.ask("after 1 1"), "set");
    server.told.next("fired 1");
    assert_eq!(client.who().pid, pid);
    drop(client);
    server.stop();
}
