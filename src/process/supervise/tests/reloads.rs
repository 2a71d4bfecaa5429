//! Reloads, and what comes in between.

use super::*;
use crate::process::supervise::place::Life;

/// Places that have served for a while, so that nothing is too soon after a fork.
fn serving(places: usize) -> World {
    let mut world = World::new(places);
    (0..places).for_each(|id| world.make_ready(id));
    world.pass(1_000);
    world.take();
    world
}

fn successor(id: usize, generation: u32) -> Command {
    Command::Fork { seat: seat(id, generation), successor: true }
}

fn ask(id: usize, generation: u32, pid: Pid) -> Command {
    Command::Ask { seat: seat(id, generation), pid }
}

const RELOADED: Command = Command::TellReloaded { renewed: 1, kept: 0 };

#[test]
fn places_are_renewed_in_turn_and_the_old_one_is_asked_when_the_new_one_is_ready() {
    let mut world = serving(2);
    let (old, older) = (world.pid(0), world.pid(1));
    world.send(Event::Reload(Which::All));
    assert_eq!(world.take(), [Command::TellReload, successor(0, 2)]);
    world.pass(10_000);
    assert_eq!(world.take(), [], "nobody is asked while nobody is there to take over");
    world.make_ready(0);
    let pid = world.pid(0);
    // The next one is renewed while the first one's old life still leaves.
    let ready = Command::TellReady { seat: seat(0, 2), pid };
    assert_eq!(world.take(), [ready, ask(0, 1, old), successor(1, 2)]);
    world.make_ready(1);
    let ready = Command::TellReady { seat: seat(1, 2), pid: world.pid(1) };
    let end = Command::TellReloaded { renewed: 2, kept: 0 };
    assert_eq!(world.take(), [ready, ask(1, 1, older), end]);
    for id in 0..2 {
        world.dies(world.leaving(id), End::Exit(0));
        assert_eq!(vacated(&world.take()), [(id, false)]);
    }
    world.pass(60_000);
    assert_eq!(world.take(), []);
}

#[test]
fn each_has_its_own_deadline_for_leaving() {
    let mut world = serving(2);
    world.send(Event::Reload(Which::All));
    world.make_ready(0);
    let first = world.leaving(0).unwrap().pid;
    world.pass(3_000);
    world.make_ready(1);
    let second = world.leaving(1).unwrap().pid;
    world.take();
    world.pass(2_000);
    assert_eq!(world.take(), [Command::Kill { seat: seat(0, 1), pid: first, why: Why::Overdue }]);
    world.pass(2_999);
    assert_eq!(world.take(), []);
    world.pass(1);
    assert_eq!(world.take(), [Command::Kill { seat: seat(1, 1), pid: second, why: Why::Overdue }]);
}

#[test]
fn when_the_current_one_dies_its_successor_is_all_that_there_is_and_no_other_is_forked() {
    let mut world = serving(1);
    world.send(Event::Reload(Which::All));
    world.take();
    world.die(0, CRASH);
    let log = world.take();
    assert_eq!(vacated(&log), [(0, true)]);
    assert_eq!(log.last(), Some(&RELOADED));
    world.pass(10_000);
    world.make_ready(0);
    assert_eq!(world.take(), [Command::TellReady { seat: seat(0, 2), pid: world.pid(0) }], "and nobody is asked");
    // It is an ordinary one from there on.
    world.die(0, CRASH);
    assert_eq!(world.forks(), 1);
}

#[test]
fn a_successor_left_alone_that_dies_is_replaced_as_any_early_death() {
    let mut world = serving(1);
    world.send(Event::Reload(Which::All));
    world.die(0, CRASH);
    world.take();
    world.die(0, CRASH);
    assert_eq!((world.forks(), world.machine.next_deadline()), (0, Some(world.now + 50)));
    world.pass(50);
    assert_eq!(world.forks(), 1);
}

#[test]
fn a_successor_that_dies_is_tried_again_ever_later_and_then_the_old_one_is_kept() {
    let mut world = serving(2);
    world.send(Event::Reload(Which::Place(0)));
    let (old, mut waits) = (world.pid(0), Vec::new());
    for _ in 0..4 {
        world.take();
        let died = world.now;
        world.dies(world.successor(0), End::Exit(1));
        assert_eq!(world.forks(), 0);
        world.pass(world.machine.next_deadline().unwrap() - world.now);
        waits.push(world.now - died);
        assert_eq!(world.forks(), 1);
    }
    assert_eq!(waits, [50, 100, 200, 400]);
    world.take();
    let last = world.successor(0).unwrap();
    world.dies(Some(last), End::Exit(1));
    let log = world.take();
    assert!(log.contains(&Command::TellDeath { seat: last.seat, pid: last.pid, end: End::Exit(1), again: None }));
    let end = [Command::TellKept { id: 0, deaths: 5 }, Command::TellReloaded { renewed: 0, kept: 1 }];
    assert_eq!(log[log.len() - 2..], end);
    world.pass(60_000);
    assert_eq!((world.forks(), world.pid(0)), (0, old));
    // The next reload tries anew.
    world.send(Event::Reload(Which::All));
    assert_eq!(world.forks(), 1);
}

#[test]
fn a_place_that_cannot_be_renewed_does_not_hold_up_the_others() {
    let mut world = serving(2);
    world.send(Event::Reload(Which::All));
    world.take();
    world.dies(world.successor(0), CRASH);
    assert!(world.take().contains(&successor(1, 2)), "while the first waits for its next try");
    world.pass(60);
    assert_eq!(world.forks(), 0, "one at a time");
    world.make_ready(1);
    assert!(world.take().contains(&successor(0, 3)));
}

#[test]
fn a_successor_that_hangs_is_killed_and_after_some_the_old_one_is_kept() {
    let mut world = serving(1);
    let old = world.pid(0);
    world.send(Event::Reload(Which::All));
    for round in 1..=5 {
        let Life { pid, seat, .. } = world.successor(0).unwrap();
        world.take();
        world.pass(59_999);
        assert_eq!(world.take(), []);
        world.pass(1);
        let kill = Command::Kill { seat, pid, why: Why::NotReady };
        let log = world.take();
        assert_eq!(log[0], kill);
        assert_eq!(log.contains(&Command::TellKept { id: 0, deaths: 5 }), round == 5);
        // Nobody comes before it is dead: two lives at most.
        world.pass(5_000);
        assert_eq!(world.forks(), 0);
        world.send(Event::Ready { id: 0, generation: 1 + round });
        world.send(Event::Died { pid, end: CRASH });
        assert_eq!(world.forks(), usize::from(round < 5));
    }
    assert_eq!((world.pid(0), world.machine.reload.is_none()), (old, true));
}

#[test]
fn where_nobody_waits_for_it_a_boot_may_take_for_ever_and_a_reload_ends_that_too() {
    let mut world = World::new(1);
    world.pass(600_000);
    let hung = world.pid(0);
    world.take();
    world.send(Event::Reload(Which::All));
    assert_eq!(world.take(), [Command::TellReload, successor(0, 2)]);
    world.make_ready(0);
    assert!(world.take().contains(&ask(0, 1, hung)));
}

#[test]
fn a_stop_in_the_middle_of_a_reload_asks_all_and_forks_nobody() {
    let mut world = serving(2);
    world.send(Event::Reload(Which::All));
    world.make_ready(0);
    world.pass(2_000);
    let leaving = world.leaving(0);
    let pids = [world.pid(0), world.successor(1).unwrap().pid, world.pid(1)];
    world.take();
    world.send(Event::Stop);
    let asked = [ask(0, 2, pids[0]), ask(1, 2, pids[1]), ask(1, 1, pids[2])];
    let log = world.take();
    assert_eq!(log[..2], [Command::TellReloaded { renewed: 1, kept: 1 }, Command::CloseListener]);
    assert_eq!(log[2..], asked, "and the one that was leaving is not asked again");
    // Its deadline is the one it had.
    world.pass(3_000);
    let kill = Command::Kill { seat: seat(0, 1), pid: leaving.unwrap().pid, why: Why::Overdue };
    assert_eq!(world.take(), [kill]);
    world.send(Event::Ready { id: 1, generation: 2 });
    assert_eq!(world.take(), []);
    for pid in pids.into_iter().chain([leaving.unwrap().pid]) {
        assert_eq!(world.finished(), None);
        world.send(Event::Died { pid, end: End::Exit(0) });
    }
    assert_eq!((world.finished(), world.forks()), (Some(Outcome::Stopped), 0));
}

#[test]
fn a_stop_between_a_successors_fork_and_its_answer_kills_it() {
    let mut machine = Supervisor::new(&[group(1)]);
    let _ = machine.handle(0, Event::Tick);
    let _ = machine.handle(0, Event::Forked { id: 0, pid: 7 });
    let _ = machine.handle(0, Event::Ready { id: 0, generation: 1 });
    assert!(machine.handle(1_000, Event::Reload(Which::All)).contains(&successor(0, 2)));
    assert_eq!(machine.handle(1_000, Event::Stop).last(), Some(&ask(0, 1, 7)));
    let kill = Command::Kill { seat: seat(0, 2), pid: 8, why: Why::Ending };
    assert_eq!(machine.handle(1_000, Event::Forked { id: 0, pid: 8 }), [kill]);
    let _ = machine.handle(1_000, Event::Died { pid: 7, end: End::Exit(0) });
    let last = machine.handle(1_000, Event::Died { pid: 8, end: CRASH });
    assert_eq!(last.last(), Some(&Command::Finish(Outcome::Stopped)));
}

#[test]
fn a_reload_in_the_middle_of_a_reload_renews_again_when_the_old_one_is_gone() {
    let mut world = serving(1);
    world.send(Event::Reload(Which::All));
    world.take();
    world.send(Event::Reload(Which::All));
    assert_eq!(world.take(), [], "the one that boots is not young enough, and is let in all the same");
    world.pass(100);
    world.make_ready(0);
    assert_eq!(world.take().last(), Some(&ask(0, 1, 101)), "two lives at most");
    world.dies(world.leaving(0), End::Exit(0));
    assert!(world.take().contains(&successor(0, 3)));
    world.make_ready(0);
    assert_eq!(world.take().last(), Some(&Command::TellReloaded { renewed: 2, kept: 0 }));
}

#[test]
fn one_place_or_one_group_is_renewed_and_nobody_else() {
    let user = Group { vital: false, ..group(1) };
    let mut world = World::of(&[group(2), group(0), group(1), user]);
    (0..4).for_each(|id| world.make_ready(id));
    world.pass(1_000);
    world.take();
    for (which, id) in [(Which::Place(1), 1), (Which::Group(2), 2)] {
        world.send(Event::Reload(which));
        assert_eq!(world.take(), [Command::TellReload, successor(id, 2)]);
        world.make_ready(id);
        assert_eq!(world.take().last(), Some(&RELOADED));
    }
    for nobody in [Which::Group(1), Which::Group(4), Which::Place(4)] {
        world.send(Event::Reload(nobody));
        assert_eq!(world.take(), [Command::TellReload, Command::TellReloaded { renewed: 0, kept: 0 }]);
    }
}

#[test]
fn user_processes_that_end_again_and_again_end_nothing_else() {
    let user = Group { vital: false, ..group(1) };
    let mut world = World::of(&[group(1), user]);
    for _ in 0..20 {
        world.die(1, End::Exit(0));
        world.pass(2_000);
    }
    assert_eq!(world.finished(), None);
    assert!(world.forks() >= 20, "and are started again each time");
}

#[test]
fn a_fork_that_fails_in_a_reload_costs_nothing_and_is_tried_again() {
    let mut world = serving(2);
    let pids = [world.pid(0), world.pid(1)];
    world.refuse_forks = true;
    world.send(Event::Reload(Which::All));
    assert!(world.take().contains(&Command::TellForkFailed { id: 0, again: 50 }));
    world.pass(10_000);
    assert!((10..=24).contains(&world.forks()), "{} tries in ten seconds for two places", world.forks());
    assert_eq!([world.pid(0), world.pid(1)], pids);
    world.refuse_forks = false;
    world.take();
    for _ in 0..2 {
        world.pass(2_000);
        let id = usize::from(world.successor(0).is_none());
        world.make_ready(id);
    }
    assert_eq!(world.take().last(), Some(&Command::TellReloaded { renewed: 2, kept: 0 }));
}

#[test]
fn two_lives_of_a_place_that_die_at_once() {
    // The old one and the new one that had just taken over.
    let mut world = serving(1);
    world.send(Event::Reload(Which::All));
    world.make_ready(0);
    let (old, new) = (world.leaving(0), world.current(0));
    world.pass(100);
    world.take();
    world.dies(new, CRASH);
    world.dies(old, CRASH);
    let log = world.take();
    assert_eq!(vacated(&log), [(0, true), (0, true)]);
    assert_eq!(log.iter().filter(|command| matches!(command, Command::Fork { .. })).count(), 1);
    // The old one and the one that was to take over.
    let mut world = serving(1);
    world.send(Event::Reload(Which::All));
    world.take();
    let (old, new) = (world.current(0), world.successor(0));
    world.dies(old, CRASH);
    world.dies(new, CRASH);
    world.pass(50);
    assert_eq!(world.forks(), 1);
    // And the other way round.
    let mut world = serving(1);
    world.send(Event::Reload(Which::All));
    world.take();
    let (old, new) = (world.current(0), world.successor(0));
    world.dies(new, CRASH);
    world.dies(old, CRASH);
    world.pass(50);
    assert_eq!(world.forks(), 1, "at once, for the old one was a healthy one, but no sooner than a place may fork");
    world.pass(1_000);
    assert_eq!(world.forks(), 1);
}

#[test]
fn the_pid_of_an_old_one_that_is_its_successors_next_is_the_successors() {
    let mut machine = Supervisor::new(&[group(1)]);
    let _ = machine.handle(0, Event::Tick);
    let _ = machine.handle(0, Event::Forked { id: 0, pid: 7 });
    let _ = machine.handle(0, Event::Ready { id: 0, generation: 1 });
    // It dies, is reaped, and the kernel gives its pid to the next one.
    assert!(machine.handle(5_000, Event::Died { pid: 7, end: CRASH }).contains(&fork(0, 2)));
    let _ = machine.handle(5_000, Event::Forked { id: 0, pid: 7 });
    let _ = machine.handle(5_000, Event::Ready { id: 0, generation: 2 });
    let _ = machine.handle(9_000, Event::Reload(Which::All));
    let _ = machine.handle(9_000, Event::Forked { id: 0, pid: 8 });
    let asked = machine.handle(9_000, Event::Ready { id: 0, generation: 3 });
    assert!(asked.contains(&ask(0, 2, 7)));
    let log = machine.handle(9_001, Event::Died { pid: 7, end: End::Exit(0) });
    assert_eq!(vacated(&log), [(0, false)]);
    assert!(!log.iter().any(|command| matches!(command, Command::Fork { .. })));
    assert!(machine.handle(9_900, Event::Died { pid: 8, end: CRASH }).contains(&fork(0, 4)));
}

#[test]
fn a_late_word_of_a_dead_successor_lets_nobody_take_over() {
    let mut world = serving(1);
    world.send(Event::Reload(Which::All));
    world.dies(world.successor(0), CRASH);
    world.pass(50);
    world.take();
    world.send(Event::Ready { id: 0, generation: 2 });
    world.send(Event::Ready { id: 0, generation: 1 });
    assert_eq!(world.take(), []);
    world.send(Event::Ready { id: 0, generation: 3 });
    assert!(world.take().contains(&ask(0, 1, 101)));
    // Nor does one of who has been asked to leave already.
    world.send(Event::Ready { id: 0, generation: 1 });
    assert_eq!(world.take(), []);
}

#[test]
fn a_place_that_is_empty_when_the_reload_comes_needs_no_successor() {
    let mut world = serving(2);
    world.die(0, CRASH);
    world.die(0, CRASH);
    world.take();
    world.send(Event::Reload(Which::Place(0)));
    assert_eq!(world.take(), [Command::TellReload, Command::TellReloaded { renewed: 0, kept: 0 }]);
    world.pass(1_000);
    world.make_ready(0);
    world.pass(1_000);
    assert_eq!(world.forks(), 1);
}

#[test]
fn reloads_without_end_renew_all_in_turn_and_no_place_more_often_than_it_may() {
    // As fast as places may fork, and so slowly that the first one may always be renewed again.
    for (step, rounds) in [(1, 1_000), (60, 51)] {
        let mut world = serving(3);
        for _ in 0..rounds {
            world.send(Event::Reload(Which::All));
            for old in (0..3).filter_map(|id| world.leaving(id)).collect::<Vec<_>>() {
                world.dies(Some(old), End::Exit(0));
            }
            if let Some(id) = (0..3).find(|id| world.successor(*id).is_some()) {
                world.make_ready(id);
            }
            world.pass(step);
        }
        for id in 0..3 {
            let of = |command: &Command| matches!(command, Command::Fork { seat, .. } if seat.id == id);
            let forks = world.log.iter().filter(|(_, command)| of(command)).count();
            assert!((15..=21).contains(&forks), "{forks} forks of place {id}, a step of {step}");
        }
    }
}
