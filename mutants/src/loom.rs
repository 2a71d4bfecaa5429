//! What the models of `loom-tests/` must catch: an ordering weakened, a step left out or moved. Here: the robust lock, participants, sleep.
//!
//! A model that passes proves nothing unless it fails when it should: loom can pass by looking at too little. `caught_by` are tests of
//! `loom-tests`; each of them fails, alone, under its mutant.

use super::Mutant;

/// See the head of this file.
pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "lock_taken_without_acquire",
        file: "src/robust/lock.rs",
        find: "self.word.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()",
        replace: "self.word.compare_exchange(from.0, to.0, Ordering::Release, Ordering::Relaxed).is_ok()",
        caught_by: &[
            "lock::two_threads_exclude_each_other",
            "lock::one_who_only_tries",
            "lock_death::a_rescuer_dies_too",
            "lock_death::an_owner_dies_and_two_wait",
        ],
    },
    Mutant {
        name: "lock_owner_seen_without_acquire",
        file: "src/robust/lock.rs",
        find: "LockWord(self.word.load(Ordering::Acquire))",
        replace: "LockWord(self.word.load(Ordering::Relaxed))",
        caught_by: &["lock::two_threads_exclude_each_other"],
    },
    Mutant {
        name: "lock_released_without_release",
        file: "src/robust/lock.rs",
        find: "self.word.swap(next.0, Ordering::Release)",
        replace: "self.word.swap(next.0, Ordering::Relaxed)",
        caught_by: &["lock::two_threads_exclude_each_other", "rwlock::two_writers"],
    },
    Mutant {
        name: "lock_wakes_nobody",
        file: "src/robust/lock.rs",
        find: r#"if old.contended() {
            futex::wake(&self.word, 1);
        }
        // Last: a death before the wake-up leaves the entry, and burial wakes in its place.
        if let Some(held) = owned.held() {
            seat.strike(held);
        }"#,
        replace: r#"if let Some(held) = owned.held() {
            seat.strike(held);
        }"#,
        caught_by: &["lock::two_threads_exclude_each_other"],
    },
    Mutant {
        name: "lock_sleeper_forgets_the_others",
        file: "src/robust/lock.rs",
        find: "if slept { taken.with_sleepers() } else { taken }",
        replace: "taken",
        caught_by: &["lock::three_threads_and_their_sleepers"],
    },
    Mutant {
        name: "lock_never_looks_closely",
        file: "src/robust/lock.rs",
        find: "std::mem::take(&mut closely) && certainly_dead(owner, Look::Close)",
        replace: "{ closely = false; closely }",
        caught_by: &["lock_death::an_owner_dies_and_one_waits"],
    },
    Mutant {
        name: "lock_rescuer_is_not_told",
        file: "src/robust/lock.rs",
        find: "Ok((taken, true))",
        replace: "Ok((taken, false))",
        caught_by: &["lock_death::a_manager_recovers_while_others_wait", "participants::three_bury_at_once"],
    },
    Mutant {
        name: "lock_dirty_is_not_told",
        file: "src/robust/lock.rs",
        find: "Ok((taken, seen.dirty()))",
        replace: "Ok((taken, false))",
        caught_by: &["lock_death::an_owner_dies_and_one_waits"],
    },
    Mutant {
        name: "try_lock_does_not_take_over",
        file: "src/robust/lock.rs",
        find: r#"if certainly_dead(owner, Look::Close) {
                    continue;
                }"#,
        replace: "",
        caught_by: &["lock_death::one_who_only_tries_takes_over"],
    },
    Mutant {
        name: "burial_hands_on_without_release",
        file: "src/robust/burial.rs",
        find: "cell.compare_exchange(word.0, word.released_dirty().0, Ordering::AcqRel, Ordering::Relaxed)",
        replace: "cell.compare_exchange(word.0, word.released_dirty().0, Ordering::Relaxed, Ordering::Relaxed)",
        caught_by: &["lock_death::a_manager_recovers_while_others_wait"],
    },
    Mutant {
        name: "burial_wakes_nobody_for_a_lock",
        file: "src/robust/burial.rs",
        find: "futex::wake(cell, 1);",
        replace: "",
        caught_by: &["lock_death::a_manager_alone_is_enough"],
    },
    Mutant {
        name: "burial_does_not_move_the_turn",
        file: "src/robust/burial.rs",
        find: "cell.fetch_add(super::rest::TURN, Ordering::Release);",
        replace: "",
        caught_by: &["semaphore::the_manager_wakes_those_who_wait_for_the_dead"],
    },
    Mutant {
        name: "burial_frees_nothing",
        file: "src/robust/burial.rs",
        find: "slot.advance(state.with(Phase::Dead), state.with(Phase::Free));",
        replace: "",
        caught_by: &["participants::a_newcomer_buries_the_dead"],
    },
    Mutant {
        name: "slot_state_without_acquire",
        file: "src/robust/slot.rs",
        find: "State(self.state.load(Ordering::Acquire))",
        replace: "State(self.state.load(Ordering::Relaxed))",
        caught_by: &["lock_death::a_manager_alone_is_enough"],
    },
    Mutant {
        name: "slot_advances_without_order",
        file: "src/robust/slot.rs",
        find: "self.state.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire).is_ok()",
        replace: "self.state.compare_exchange(from.0, to.0, Ordering::Relaxed, Ordering::Relaxed).is_ok()",
        caught_by: &[
            "counter::nothing_is_lost_when_a_stripe_is_handed_on",
            "counter::a_stripe_of_the_dead_is_handed_on",
        ],
    },
    Mutant {
        name: "slot_unannounced",
        file: "src/robust/participant.rs",
        find: "registry.head.high.fetch_max(index as u64 + 1, Ordering::AcqRel);",
        replace: "",
        caught_by: &["rwlock::a_reader_and_a_writer"],
    },
    Mutant {
        name: "slot_same_generation",
        file: "src/robust/slot.rs",
        find: "self.generation().wrapping_add(1).max(1)",
        replace: "self.generation().max(1)",
        caught_by: &["participants::a_newcomer_buries_the_dead"],
    },
    Mutant {
        name: "claim_without_exchange",
        file: "src/robust/participant.rs",
        find: "slot.advance(state, claimed)",
        replace: "slot.state.store(claimed.0, Ordering::Release); true",
        caught_by: &["participants::claims_are_distinct"],
    },
    Mutant {
        name: "leaving_keeps_the_slot",
        file: "src/robust/participant.rs",
        find: "seat.slot.advance(state, state.with(Phase::Free));",
        replace: "",
        caught_by: &["participants::slots_are_used_again"],
    },
    Mutant {
        name: "newcomers_bury_nobody",
        file: "src/robust/participant.rs",
        find: "(state.phase() == Phase::Dead || identity::is_dead(&slot.who(state), look))",
        replace: "false",
        caught_by: &["participants::a_full_house_with_a_death_has_room"],
    },
    Mutant {
        name: "entry_without_release",
        file: "src/robust/ledger.rs",
        find: "self.tally.store(u64::from(generation) << 32 | u64::from(count), Ordering::Release);",
        replace: "self.tally.store(u64::from(generation) << 32 | u64::from(count), Ordering::Relaxed);",
        caught_by: &["rwlock::a_reader_and_a_writer"],
    },
    Mutant {
        name: "entry_read_without_acquire",
        file: "src/robust/ledger.rs",
        find: "self.tally.load(Ordering::Acquire)",
        replace: "self.tally.load(Ordering::Relaxed)",
        caught_by: &["rwlock::a_reader_and_a_writer"],
    },
    Mutant {
        name: "armed_without_order",
        file: "src/robust/rest.rs",
        find: "word.compare_exchange(seen, armed, Ordering::AcqRel, Ordering::Relaxed)",
        replace: "word.compare_exchange(seen, armed, Ordering::Relaxed, Ordering::Relaxed)",
        caught_by: &["watch::no_notification_is_lost"],
    },
    Mutant {
        name: "arming_does_not_count",
        file: "src/robust/rest.rs",
        find: "seen.wrapping_add(ARMED) | 1",
        replace: "seen | 1",
        caught_by: &["watch::a_bit_left_behind_is_harmless"],
    },
];
