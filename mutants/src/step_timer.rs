//! Faults of the timer that the kill harness must find.
//!
//! Not here, because nothing can go wrong by it: the heap changed before the entry, the free list before either. All that follows from the
//! entries is built anew after a death, so its order against them is free; that it is built anew at all, and from what, is what is broken here.

use crate::Mutant;

/// From the wake-up to the commit of a new timer.
const MAKE: &str = r#"if due < owned(&head.next) {
            self.hasten(due);
        }
        let state = State::made(generation, interval != 0);
        // Pairs with the Acquire fence in `look`: who reads any of this for an earlier timer sees that that one has ended.
        fence(Ordering::Release);
        if interval != 0 {
            ground.ticks[number].interval.store(interval, Ordering::Relaxed);
            ground.fired(number, state).store(0, Ordering::Relaxed);
        }
        entry.payload.store(payload, Ordering::Relaxed);
        ground.due(number, state).store(due, Ordering::Relaxed);
        // The commit. Release: pairs with the Acquire in `look`.
        entry.state.store(state.0, Ordering::Release);"#;

/// From the look at a tick to the commit of its firing.
const FIRE: &str = r#"let (fired, then) = (owned(ground.fired(number, state)) + 1, state.fired());
            // As in `make`; who reads any of this half for the time when it last counted sees that another one did since.
            fence(Ordering::Release);
            ground.due(number, then).store(next, Ordering::Relaxed);
            // Release: pairs with the Acquire in `look`, which sees from the count that the due time is another one.
            ground.fired(number, then).store(fired, Ordering::Release);
            // The commit. Release: pairs with the Acquire in `look`.
            entry.state.store(then.0, Ordering::Release);"#;

/// By file.
pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "timer_made_before_it_is_filled",
        file: "src/timer/change.rs",
        find: MAKE,
        replace: "if due < owned(&head.next) { self.hasten(due); } let state = State::made(generation, interval != 0); entry.state.store(state.0, Ordering::Release); entry.payload.store(payload, Ordering::Relaxed); ground.due(number, state).store(due, Ordering::Relaxed);",
        caught_by: &["timer_add_first"],
    },
    Mutant {
        name: "timer_made_before_next_is_lowered",
        file: "src/timer/change.rs",
        find: MAKE,
        replace: "let state = State::made(generation, interval != 0); fence(Ordering::Release); entry.payload.store(payload, Ordering::Relaxed); ground.due(number, state).store(due, Ordering::Relaxed); entry.state.store(state.0, Ordering::Release); if due < owned(&head.next) { self.hasten(due); }",
        caught_by: &["timer_add_first"],
    },
    Mutant {
        name: "timer_old_count_shines_through",
        file: "src/timer/change.rs",
        find: MAKE,
        replace: "if due < owned(&head.next) { self.hasten(due); } let state = State::made(generation, interval != 0); if interval != 0 { ground.ticks[number].interval.store(interval, Ordering::Relaxed); } entry.payload.store(payload, Ordering::Relaxed); ground.due(number, state).store(due, Ordering::Relaxed); entry.state.store(state.0, Ordering::Release);",
        caught_by: &["timer_add_tick"],
    },
    Mutant {
        name: "timer_generation_comes_again",
        file: "src/timer/change.rs",
        find: "head.made.store(generation, Ordering::Relaxed);",
        replace: "",
        caught_by: &["timer_add_full"],
    },
    Mutant {
        name: "timer_tick_changed_in_place",
        file: "src/timer/change.rs",
        find: FIRE,
        replace: "let (fired, then) = (owned(ground.fired(number, state)) + 1, state); ground.due(number, then).store(next, Ordering::Relaxed); ground.fired(number, then).store(fired, Ordering::Release);",
        caught_by: &["timer_expire_tick"],
    },
    Mutant {
        name: "timer_tick_fires_before_it_is_filled",
        file: "src/timer/change.rs",
        find: FIRE,
        replace: "let (fired, then) = (owned(ground.fired(number, state)) + 1, state.fired()); entry.state.store(then.0, Ordering::Release); ground.due(number, then).store(next, Ordering::Relaxed); ground.fired(number, then).store(fired, Ordering::Release);",
        caught_by: &["timer_expire_tick"],
    },
    Mutant {
        name: "timer_tick_loses_its_phase",
        file: "src/timer/change.rs",
        find: "due.saturating_add(interval.saturating_mul(missed + 1)).min(LAST)",
        replace: "now.saturating_add(interval).min(LAST)",
        caught_by: &["timer_expire_tick"],
    },
    Mutant {
        name: "timer_ended_in_the_heap_alone",
        file: "src/timer/change.rs",
        find: "self.ground.entries[number].state.store(state.ended().0, Ordering::Release);",
        replace: "",
        caught_by: &["timer_clear_gone"],
    },
    Mutant {
        name: "timer_not_built_anew",
        file: "src/timer/change.rs",
        find: "self.rebuild();",
        replace: "",
        caught_by: &["timer_clear_gone"],
    },
    Mutant {
        name: "timer_built_anew_with_the_ended",
        file: "src/timer/heap.rs",
        find: "state.is_live()",
        replace: "state.generation() != 0",
        caught_by: &["timer_clear_gone"],
    },
    Mutant {
        name: "timer_built_anew_by_the_other_half",
        file: "src/timer/heap.rs",
        find: "owned(self.due(number, state))",
        replace: "owned(self.due(number, state.fired()))",
        caught_by: &["timer_clear_gone", "timer_expire_tick"],
    },
    Mutant {
        name: "timer_built_anew_without_order",
        file: "src/timer/heap.rs",
        find: "self.sink(at, self.node(at), live);",
        replace: "",
        caught_by: &["timer_clear_root", "timer_rebuild"],
    },
    Mutant {
        name: "timer_built_anew_without_the_free",
        file: "src/timer/heap.rs",
        find: r#"self.head.live.store(live as u64, Ordering::Relaxed);
        self.head.free.store(free, Ordering::Relaxed);"#,
        replace: "self.head.live.store(live as u64, Ordering::Relaxed);",
        caught_by: &["timer_rebuild"],
    },
    Mutant {
        name: "timer_built_anew_with_the_old_count",
        file: "src/timer/heap.rs",
        find: r#"self.head.live.store(live as u64, Ordering::Relaxed);
        self.head.free.store(free, Ordering::Relaxed);"#,
        replace: "self.head.free.store(free, Ordering::Relaxed);",
        caught_by: &["timer_clear_gone"],
    },
    Mutant {
        name: "timer_built_anew_short_of_one",
        file: "src/timer/heap.rs",
        find: "owned(&self.head.fresh) as usize",
        replace: "(owned(&self.head.fresh) as usize).saturating_sub(1)",
        caught_by: &["timer_clear_gone", "timer_clear_last"],
    },
    Mutant {
        name: "timer_next_stays_early",
        file: "src/timer/heap.rs",
        find: "self.head.next.store(due, Ordering::Relaxed);",
        replace: "",
        caught_by: &["timer_clear_gone"],
    },
    Mutant {
        name: "timer_next_is_late",
        file: "src/timer/heap.rs",
        find: "self.head.next.store(due, Ordering::Relaxed);",
        replace: "self.head.next.store(due.saturating_add(1_000_000), Ordering::Relaxed);",
        caught_by: &["timer_expire_tick"],
    },
    Mutant {
        name: "timer_fresh_entry_stays_fresh",
        file: "src/timer/heap.rs",
        find: "head.fresh.store(fresh as u64 + 1, Ordering::Relaxed);",
        replace: "",
        caught_by: &["timer_add_first"],
    },
    Mutant {
        name: "timer_younger_before_older",
        file: "src/timer/heap.rs",
        find: "self.entries[a].held().generation() < self.entries[b].held().generation()",
        replace: "self.entries[a].held().generation() > self.entries[b].held().generation()",
        caught_by: &["timer_expire_equal"],
    },
    Mutant {
        name: "timer_moved_without_its_place",
        file: "src/timer/heap.rs",
        find: "self.entries[entry].place.store(at as u64, Ordering::Relaxed);",
        replace: "",
        caught_by: &["timer_clear_root", "timer_clear_last"],
    },
    Mutant {
        name: "timer_reader_does_not_look_again",
        file: "src/timer/look.rs",
        find: "entry.state.load(Ordering::Acquire) == state.0 && fired() == before",
        replace: "true",
        caught_by: &["pair_timer_info_replaced"],
    },
    Mutant {
        name: "timer_reader_does_not_count_again",
        file: "src/timer/look.rs",
        find: "entry.state.load(Ordering::Acquire) == state.0 && fired() == before",
        replace: "entry.state.load(Ordering::Acquire) == state.0",
        caught_by: &["pair_timer_info_fire_twice"],
    },
];
