//! Storms and races, as a sequence of events and without any process.

use super::*;

mod chance;
mod reloads;
mod world;

use world::{CRASH, World, fork, group, seat, vacated};

#[test]
fn all_places_are_forked_at_once() {
    let mut world = World::new(3);
    let forks: Vec<_> = (0..3).map(|id| fork(id, 1)).collect();
    assert_eq!(world.take(), forks);
    assert_eq!(world.machine.next_deadline(), None);
}

#[test]
fn a_death_is_recovered_then_reaped_then_recorded_then_replaced() {
    let mut world = World::new(1);
    world.make_ready(0);
    world.pass(60);
    world.take();
    let pid = world.pid(0);
    world.die(0, CRASH);
    assert_eq!(
        world.take(),
        [
            Command::Recover { pid },
            Command::Reap { pid },
            Command::Vacate { seat: seat(0, 1), pid, crashed: true },
            Command::TellDeath { seat: seat(0, 1), pid, end: CRASH, again: Some(0) },
            fork(0, 2),
        ]
    );
}

#[test]
fn a_worker_that_leaves_by_itself_is_replaced_and_is_no_crash() {
    let mut world = World::new(1);
    world.make_ready(0);
    world.pass(1_000);
    world.take();
    world.die(0, End::Exit(0));
    let log = world.take();
    assert_eq!(vacated(&log), [(0, false)]);
    assert!(log.contains(&fork(0, 2)));
}

#[test]
fn a_healthy_life_without_a_ready_word_is_replaced_at_once_too() {
    let mut world = World::new(1);
    world.pass(1_000);
    world.take();
    world.die(0, CRASH);
    assert_eq!(world.forks(), 1);
}

#[test]
fn early_deaths_wait_longer_each_time_and_a_ready_word_forgives_them() {
    let mut world = World::new(2);
    world.make_ready(1);
    let mut waits = Vec::new();
    for _ in 0..8 {
        world.take();
        let died = world.now;
        world.die(0, CRASH);
        assert_eq!(world.forks(), 0);
        world.pass(world.machine.next_deadline().unwrap() - world.now);
        waits.push(world.now - died);
        assert_eq!(world.forks(), 1);
    }
    assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
    world.make_ready(0);
    world.pass(100);
    world.take();
    world.die(0, CRASH);
    assert_eq!(world.forks(), 1);
    world.take();
    world.die(0, CRASH);
    assert_eq!(world.machine.next_deadline(), Some(world.now + 50));
}

#[test]
fn one_that_dies_of_its_first_request_cannot_spin() {
    let mut world = World::new(1);
    for _ in 0..1_000 {
        if world.current(0).is_some() {
            world.make_ready(0);
            world.die(0, CRASH);
        }
        world.pass(1);
    }
    assert!((15..=25).contains(&world.forks()), "{} forks in a second", world.forks());
    assert_eq!(world.finished(), None);
}

#[test]
fn nobody_ever_ready_gives_up_and_leaves_no_child() {
    let mut world = World::new(3);
    for _ in 0..5 {
        world.die(1, End::Exit(1));
        world.pass(2_000);
    }
    let kills = world.take();
    assert!(kills.contains(&Command::CloseListener));
    assert_eq!(kills.iter().filter(|command| matches!(command, Command::Kill { .. })).count(), 2);
    world.die(0, CRASH);
    assert_eq!(world.finished(), None);
    world.die(2, CRASH);
    assert_eq!(world.finished(), Some(Outcome::NeverReady { deaths: 5 }));
    world.pass(60_000);
    assert_eq!(world.forks(), 0);
}

#[test]
fn once_one_was_ready_nothing_gives_up() {
    let mut world = World::new(2);
    world.make_ready(0);
    for _ in 0..50 {
        world.die(1, End::Exit(1));
        world.pass(2_000);
    }
    assert_eq!(world.finished(), None);
}

#[test]
fn stop_asks_each_once_and_finishes_when_all_are_gone() {
    let mut world = World::new(2);
    world.make_ready(0);
    world.take();
    let (first, second) = (world.pid(0), world.pid(1));
    world.send(Event::Stop);
    assert_eq!(
        world.take(),
        [
            Command::CloseListener,
            Command::Ask { seat: seat(0, 1), pid: first },
            Command::Ask { seat: seat(1, 1), pid: second },
        ]
    );
    world.die(0, End::Exit(0));
    assert_eq!(world.finished(), None);
    world.die(1, End::Exit(0));
    assert_eq!(world.finished(), Some(Outcome::Stopped));
    assert_eq!(world.forks(), 0);
}

#[test]
fn a_death_during_the_stop_is_not_replaced_and_counts_as_a_crash() {
    let mut world = World::new(1);
    world.make_ready(0);
    world.send(Event::Stop);
    world.take();
    world.die(0, CRASH);
    let log = world.take();
    assert_eq!(vacated(&log), [(0, true)]);
    assert_eq!(log.last(), Some(&Command::Finish(Outcome::Stopped)));
    assert!(!log.iter().any(|command| matches!(command, Command::Fork { .. })));
}

#[test]
fn a_stop_while_places_wait_for_their_turn_forks_nobody() {
    let mut world = World::new(2);
    world.die(0, CRASH);
    world.take();
    world.send(Event::Stop);
    world.die(1, End::Exit(0));
    assert_eq!(world.finished(), Some(Outcome::Stopped));
    world.pass(10_000);
    assert_eq!(world.forks(), 0);
}

#[test]
fn a_stop_during_boot_asks_too_and_a_late_ready_changes_nothing() {
    let mut world = World::new(1);
    world.take();
    let pid = world.pid(0);
    world.send(Event::Stop);
    assert!(world.take().contains(&Command::Ask { seat: seat(0, 1), pid }));
    world.make_ready(0);
    assert_eq!(world.take(), []);
    world.die(0, End::Exit(0));
    assert_eq!(world.finished(), Some(Outcome::Stopped));
}

#[test]
fn where_all_have_to_be_ready_in_time_a_first_boot_ends_too_and_then_the_crew() {
    let policy = Policy { boot: 100, boot_all: true, ..Policy::default() };
    let mut world = World::of(&[Group { places: 1, vital: true, policy }]);
    for generation in 1..=policy.failures {
        world.take();
        let pid = world.pid(0);
        world.pass(99);
        assert_eq!(world.take(), []);
        world.pass(1);
        assert_eq!(world.take(), [Command::Kill { seat: seat(0, generation), pid, why: Why::NotReady }]);
        world.die(0, CRASH);
        world.pass(if generation < policy.failures { policy.wait(generation) } else { 0 });
    }
    assert_eq!(world.finished(), Some(Outcome::NeverReady { deaths: policy.failures }));
    // One that is ready in time may live as long as it likes.
    let mut world = World::of(&[Group { places: 1, vital: true, policy }]);
    world.pass(99);
    world.make_ready(0);
    world.take();
    world.pass(1_000_000);
    assert_eq!(world.take(), []);
}

#[test]
fn a_stop_between_fork_and_its_answer_kills_the_newcomer() {
    let mut machine = Supervisor::new(&[group(1)]);
    assert_eq!(machine.handle(0, Event::Tick), [fork(0, 1)]);
    assert_eq!(machine.handle(0, Event::Stop), [Command::CloseListener]);
    assert_eq!(
        machine.handle(0, Event::Forked { id: 0, pid: 9 }),
        [Command::Kill { seat: seat(0, 1), pid: 9, why: Why::Ending }]
    );
    let last = machine.handle(0, Event::Died { pid: 9, end: CRASH });
    assert_eq!(vacated(&last), [(0, false)]);
    assert_eq!(last.last(), Some(&Command::Finish(Outcome::Stopped)));
    assert_eq!(machine.handle(0, Event::Stop), []);
    assert_eq!(machine.handle(0, Event::Kill), []);
}

#[test]
fn who_does_not_leave_in_time_is_killed_once() {
    let mut world = World::new(2);
    world.send(Event::Stop);
    world.die(0, End::Exit(0));
    world.take();
    world.pass(4_999);
    assert_eq!(world.take(), []);
    let pid = world.pid(1);
    world.pass(10_000);
    assert_eq!(world.take(), [Command::Kill { seat: seat(1, 1), pid, why: Why::Overdue }]);
    world.die(1, CRASH);
    let log = world.take();
    assert_eq!(vacated(&log), [(1, false)]);
    assert_eq!(log.last(), Some(&Command::Finish(Outcome::Stopped)));
}

#[test]
fn a_second_stop_kills_but_its_echo_does_not() {
    let mut world = World::new(1);
    world.send(Event::Stop);
    world.take();
    world.pass(50);
    world.send(Event::Stop);
    assert_eq!(world.take(), []);
    world.pass(50);
    let pid = world.pid(0);
    world.send(Event::Stop);
    assert_eq!(world.take(), [Command::Kill { seat: seat(0, 1), pid, why: Why::Ending }]);
    world.send(Event::Stop);
    assert_eq!(world.take(), []);
}

#[test]
fn kill_ends_all_at_once() {
    let mut world = World::new(2);
    world.take();
    world.send(Event::Kill);
    assert_eq!(world.take().len(), 3);
    world.die(0, CRASH);
    world.die(1, CRASH);
    assert_eq!(world.finished(), Some(Outcome::Stopped));
}

#[test]
fn a_failed_fork_is_tried_again_by_timer_and_the_others_live_on() {
    let mut world = World::new(2);
    world.make_ready(0);
    world.make_ready(1);
    world.pass(100);
    world.refuse_forks = true;
    world.take();
    world.die(0, CRASH);
    assert!(world.take().contains(&Command::TellForkFailed { id: 0, again: 50 }));
    world.pass(10_000);
    assert!((5..=12).contains(&world.forks()), "{} tries in ten seconds", world.forks());
    world.refuse_forks = false;
    world.pass(2_000);
    assert!(world.current(0).is_some());
    // A stop in the middle of failing forks ends as any other.
    world.refuse_forks = true;
    world.make_ready(0);
    world.die(0, CRASH);
    world.send(Event::Stop);
    world.die(1, End::Exit(0));
    assert_eq!(world.finished(), Some(Outcome::Stopped));
}

#[test]
fn a_word_of_an_older_generation_is_dropped() {
    let mut world = World::new(1);
    world.die(0, CRASH);
    world.pass(50);
    world.send(Event::Ready { id: 0, generation: 1 });
    assert!(!world.machine.ever_ready);
    world.send(Event::Ready { id: 0, generation: 2 });
    assert!(world.machine.ever_ready);
    world.send(Event::Ready { id: 99, generation: 1 });
}

#[test]
fn a_pid_that_comes_back_in_another_place_is_that_place() {
    let mut machine = Supervisor::new(&[group(2)]);
    let _ = machine.handle(0, Event::Tick);
    let _ = machine.handle(0, Event::Forked { id: 0, pid: 7 });
    let _ = machine.handle(0, Event::Forked { id: 1, pid: 8 });
    let _ = machine.handle(5_000, Event::Died { pid: 8, end: CRASH });
    let _ = machine.handle(5_000, Event::Died { pid: 7, end: CRASH });
    let _ = machine.handle(5_000, Event::Forked { id: 0, pid: 8 });
    let _ = machine.handle(5_000, Event::Forked { id: 1, pid: 7 });
    let log = machine.handle(9_000, Event::Died { pid: 8, end: CRASH });
    assert_eq!(vacated(&log), [(0, true)]);
}

#[test]
fn a_stranger_is_reaped_and_nothing_else_happens() {
    let mut world = World::new(1);
    world.take();
    world.send(Event::Died { pid: 1, end: CRASH });
    assert_eq!(world.take(), [Command::Recover { pid: 1 }, Command::Reap { pid: 1 }]);
}

#[test]
fn a_stop_gives_one_that_a_reload_has_asked_no_longer_than_the_others() {
    let policy = Policy { grace: 1_000, reload_grace: 60_000, ..Policy::default() };
    let mut world = World::of(&[Group { policy, ..group(1) }]);
    world.make_ready(0);
    world.pass(1_000);
    world.send(Event::Reload(Which::All));
    world.make_ready(0);
    let (old, new) = (world.leaving(0).unwrap().pid, world.pid(0));
    world.send(Event::Stop);
    world.take();
    world.pass(1_000);
    let kill = |generation, pid| Command::Kill { seat: seat(0, generation), pid, why: Why::Overdue };
    assert_eq!(world.take(), [kill(2, new), kill(1, old)]);
}

#[test]
fn a_fork_that_succeeds_forgives_those_that_failed() {
    let mut world = World::new(1);
    for _ in 0..2 {
        world.make_ready(0);
        world.pass(1_000);
        world.take();
        world.refuse_forks = true;
        world.die(0, CRASH);
        assert!(world.take().contains(&Command::TellForkFailed { id: 0, again: 50 }));
        world.pass(50);
        assert_eq!(world.take().last(), Some(&Command::TellForkFailed { id: 0, again: 100 }));
        world.refuse_forks = false;
        world.pass(100);
    }
}
