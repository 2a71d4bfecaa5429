//! What the models of the timer must catch.

use crate::Mutant;

/// See the head of this file.
pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "timer_seen_without_acquire",
        file: "src/timer/look.rs",
        find: "State(entry.state.load(Ordering::Acquire))",
        replace: "State(entry.state.load(Ordering::Relaxed))",
        caught_by: &["timer::a_reader_sees_no_mixture"],
    },
    Mutant {
        name: "timer_count_seen_without_acquire",
        file: "src/timer/look.rs",
        find: "if state.ticks() { self.fired(number, state).load(Ordering::Acquire) } else { 0 }",
        replace: "if state.ticks() { self.fired(number, state).load(Ordering::Relaxed) } else { 0 }",
        caught_by: &["timer::a_reader_sees_a_tick_whole"],
    },
    Mutant {
        name: "timer_read_without_a_fence",
        file: "src/timer/look.rs",
        find: "fence(Ordering::Acquire);",
        replace: "",
        caught_by: &["timer::a_reader_sees_no_mixture"],
    },
    Mutant {
        name: "timer_seen_again_without_acquire",
        file: "src/timer/look.rs",
        find: "entry.state.load(Ordering::Acquire) == state.0 && fired() == before",
        replace: "entry.state.load(Ordering::Relaxed) == state.0 && fired() == before",
        caught_by: &["timer::a_reader_sees_a_tick_whole"],
    },
    Mutant {
        name: "timer_count_not_seen_again",
        file: "src/timer/look.rs",
        find: "entry.state.load(Ordering::Acquire) == state.0 && fired() == before",
        replace: "entry.state.load(Ordering::Acquire) == state.0",
        caught_by: &["timer::a_reader_sees_a_tick_whole"],
    },
    Mutant {
        name: "timer_state_not_seen_again",
        file: "src/timer/look.rs",
        find: "entry.state.load(Ordering::Acquire) == state.0 && fired() == before",
        replace: "fired() == before",
        caught_by: &["timer::a_reader_sees_no_mixture"],
    },
    Mutant {
        name: "timer_made_without_a_fence",
        file: "src/timer/change.rs",
        find: r#"fence(Ordering::Release);
        if interval != 0 {
            ground.ticks[number].interval.store(interval, Ordering::Relaxed);
            ground.fired(number, state).store(0, Ordering::Relaxed);
        }"#,
        replace: "if interval != 0 { ground.ticks[number].interval.store(interval, Ordering::Relaxed); ground.fired(number, state).store(0, Ordering::Relaxed); }",
        caught_by: &["timer::a_reader_sees_no_mixture"],
    },
    Mutant {
        name: "timer_made_without_release",
        file: "src/timer/change.rs",
        find: "entry.state.store(state.0, Ordering::Release);",
        replace: "entry.state.store(state.0, Ordering::Relaxed);",
        caught_by: &["timer::a_reader_sees_no_mixture"],
    },
    Mutant {
        name: "timer_fired_without_a_fence",
        file: "src/timer/change.rs",
        find: r#"fence(Ordering::Release);
            ground.due(number, then).store(next, Ordering::Relaxed);"#,
        replace: "ground.due(number, then).store(next, Ordering::Relaxed);",
        caught_by: &["timer::a_reader_sees_a_tick_whole"],
    },
    Mutant {
        name: "timer_counted_without_release",
        file: "src/timer/change.rs",
        find: "ground.fired(number, then).store(fired, Ordering::Release);",
        replace: "ground.fired(number, then).store(fired, Ordering::Relaxed);",
        caught_by: &["timer::a_reader_sees_a_tick_whole"],
    },
    Mutant {
        name: "timer_fired_without_release",
        file: "src/timer/change.rs",
        find: "entry.state.store(then.0, Ordering::Release);",
        replace: "entry.state.store(then.0, Ordering::Relaxed);",
        caught_by: &["timer::a_reader_sees_a_tick_whole"],
    },
    Mutant {
        name: "timer_nobody_is_woken",
        file: "src/timer/change.rs",
        find: "turn & 1 == 1 && futex::wake(&head.turn, u32::MAX) == 0",
        replace: "turn & 1 == 1",
        caught_by: &["timer::a_driver_sleeps_over_nobody"],
    },
    Mutant {
        name: "timer_turn_moved_before_next",
        file: "src/timer/change.rs",
        find: "head.next.store(due, Ordering::Relaxed);",
        replace: "{ let turn = head.turn.fetch_add(2, Ordering::AcqRel); if turn & 1 == 1 { futex::wake(&head.turn, u32::MAX); } head.next.store(due, Ordering::Relaxed); return; }",
        caught_by: &["timer::a_driver_sleeps_over_nobody"],
    },
    Mutant {
        name: "timer_turn_moved_without_release",
        file: "src/timer/change.rs",
        find: "head.turn.fetch_add(TURN, Ordering::AcqRel)",
        replace: "head.turn.fetch_add(TURN, Ordering::Acquire)",
        caught_by: &["timer::a_driver_sleeps_over_nobody"],
    },
    Mutant {
        name: "timer_turn_moved_without_acquire",
        file: "src/timer/change.rs",
        find: "head.turn.fetch_add(TURN, Ordering::AcqRel)",
        replace: "head.turn.fetch_add(TURN, Ordering::Release)",
        caught_by: &["timer::a_descriptor_tells_or_the_time_does"],
    },
    Mutant {
        name: "timer_descriptor_watched_without_release",
        file: "src/timer/drive.rs",
        find: "head.turn.fetch_add(0, Ordering::AcqRel);",
        replace: "head.turn.fetch_add(0, Ordering::Acquire);",
        caught_by: &["timer::a_descriptor_tells_or_the_time_does"],
    },
    Mutant {
        name: "timer_descriptor_watched_without_acquire",
        file: "src/timer/drive.rs",
        find: "head.turn.fetch_add(0, Ordering::AcqRel);",
        replace: "head.turn.fetch_add(0, Ordering::Release);",
        caught_by: &["timer::a_descriptor_tells_or_the_time_does"],
    },
    Mutant {
        name: "timer_turn_not_armed",
        file: "src/timer/drive.rs",
        find: "arm(turn)",
        replace: "turn.load(Ordering::Relaxed)",
        caught_by: &["timer::a_driver_sleeps_over_nobody"],
    },
    Mutant {
        name: "timer_made_before_anybody_is_woken",
        file: "src/timer/change.rs",
        find: r#"if due < owned(&head.next) {
            self.hasten(due);
        }"#,
        replace: "entry.payload.store(payload, Ordering::Relaxed); let state = State::made(generation, false); ground.due(number, state).store(due, Ordering::Relaxed); entry.state.store(state.0, Ordering::Release); if due < owned(&head.next) { self.hasten(due); }",
        caught_by: &["timer_death::an_adder_dies_and_a_driver_sleeps"],
    },
    Mutant {
        name: "timer_not_built_anew",
        file: "src/timer/change.rs",
        find: "self.rebuild();",
        replace: "",
        caught_by: &["timer_death::who_builds_anew_after_a_clearer_dies_too"],
    },
    Mutant {
        name: "timer_built_anew_with_the_old_count",
        file: "src/timer/heap.rs",
        find: r#"self.head.live.store(live as u64, Ordering::Relaxed);
        self.head.free.store(free, Ordering::Relaxed);"#,
        replace: "self.head.free.store(free, Ordering::Relaxed);",
        caught_by: &["timer_death::who_builds_anew_after_an_adder_dies_too"],
    },
    Mutant {
        name: "timer_built_anew_without_order",
        file: "src/timer/heap.rs",
        find: "self.sink(at, self.node(at), live);",
        replace: "",
        caught_by: &["timer_death::who_builds_anew_after_an_adder_dies_too"],
    },
    Mutant {
        name: "timer_ended_twice",
        file: "src/timer/change.rs",
        find: "!state.is_of(id.generation)",
        replace: "false",
        caught_by: &["timer::one_is_fired_or_cleared"],
    },
];
