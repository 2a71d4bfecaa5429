//! What the models of the small structures must catch: atomics that are waited for, counters, read-write locks, semaphores, barriers.

use super::Mutant;

/// See the head of `loom.rs`.
pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "raised_without_release",
        file: "src/atomic/room.rs",
        find: "self.exchange(Ordering::Release, |seen| (width.number(seen) == 0).then(|| seen.wrapping_add(1)));",
        replace: "self.exchange(Ordering::Relaxed, |seen| (width.number(seen) == 0).then(|| seen.wrapping_add(1)));",
        caught_by: &["wait::no_wake_up_is_lost"],
    },
    Mutant {
        name: "wakeup_wakes_nobody",
        file: "src/atomic/room.rs",
        find: "futex::wake(&this.permits, granted);",
        replace: "",
        caught_by: &[
            "wait::no_wake_up_is_lost",
            "wait::two_wake_ups_wake_two",
            "wait_death::a_waker_dies",
            "wait_death::a_sleeper_dies_and_the_other_does_not_notice",
        ],
    },
    Mutant {
        name: "newcomers_may_steal",
        file: "src/atomic/room.rs",
        find: "sleeper.is_some_and(|(_, registered)| registered != now.epoch())",
        replace: "true",
        caught_by: &["wait::a_newcomer_cannot_steal"],
    },
    Mutant {
        name: "the_dead_are_counted_as_sleepers",
        file: "src/atomic/room.rs",
        find: "other.sleeps_on(self.key).is_some_and(&among) && other.is_alive()",
        replace: "other.sleeps_on(self.key).is_some_and(&among)",
        caught_by: &["wait_death::the_permit_of_the_dead_is_for_the_next"],
    },
    Mutant {
        name: "notified_without_order",
        file: "src/atomic/room.rs",
        find: "self.watch.fetch_add(TURN, Ordering::AcqRel)",
        replace: "self.watch.fetch_add(TURN, Ordering::Relaxed)",
        caught_by: &["watch::no_notification_is_lost", "watch::a_notifier_dies", "watch::all_are_notified"],
    },
    Mutant {
        name: "granted_without_counting_permits",
        file: "src/atomic/room.rs",
        find: "n.min(sleepers.saturating_sub(claimed))",
        replace: "n",
        caught_by: &["wait::each_sleeper_is_granted_its_own"],
    },
    Mutant {
        name: "grant_within_the_epoch",
        file: "src/atomic/room.rs",
        find: "self.epoch().wrapping_add(1)",
        replace: "self.epoch()",
        caught_by: &[
            "wait::no_wake_up_is_lost",
            "wait_death::a_waker_dies_and_nobody_helps",
            "wait_death::the_permit_of_a_dead_sleeper_goes_on",
        ],
    },
    Mutant {
        name: "notify_wakes_nobody",
        file: "src/atomic/room.rs",
        find: "futex::wake(&self.watch, u32::try_from(n).unwrap_or(u32::MAX))",
        replace: "0",
        caught_by: &["watch::a_waiter_dies"],
    },
    Mutant {
        name: "value_set_without_release",
        file: "src/atomic/cell.rs",
        find: "self.cell.value.store(value as u64, Ordering::Release);",
        replace: "self.cell.value.store(value as u64, Ordering::Relaxed);",
        caught_by: &["watch::no_notification_is_lost"],
    },
    Mutant {
        name: "one_stripe_for_all",
        file: "src/atomic/counter.rs",
        find: "&self.stripes[seat.index()].sum",
        replace: "&self.stripes[1].sum",
        caught_by: &["counter::nothing_is_lost_when_a_stripe_is_handed_on"],
    },
    Mutant {
        name: "reader_without_full_fence",
        file: "src/lock/rwlock.rs",
        find: r#"// sees the other. An AcqRel pair would let both look at the past.
        fence(Ordering::SeqCst);"#,
        replace: "fence(Ordering::AcqRel);",
        caught_by: &["rwlock::a_reader_and_a_writer", "rwlock::those_who_only_try", "rwlock::two_readers_and_a_writer"],
    },
    Mutant {
        name: "leaving_reader_without_full_fence",
        file: "src/lock/rwlock.rs",
        find: r#"// Pairs with the fence in `drained`: either the writer sees that the reader is gone, or this sees that the writer may sleep.
        fence(Ordering::SeqCst);"#,
        replace: "fence(Ordering::AcqRel);",
        caught_by: &["rwlock::a_reader_and_a_writer"],
    },
    Mutant {
        name: "writer_without_full_fence",
        file: "src/lock/rwlock.rs",
        find: "            fence(Ordering::SeqCst);",
        replace: "fence(Ordering::AcqRel);",
        caught_by: &["rwlock::a_reader_and_a_writer"],
    },
    Mutant {
        name: "leaving_reader_wakes_nobody",
        file: "src/lock/rwlock.rs",
        find: r#"self.place.drain.fetch_add(TURN, Ordering::Release);
            futex::wake(&self.place.drain, 1);"#,
        replace: "",
        caught_by: &["rwlock::a_reader_and_a_writer"],
    },
    Mutant {
        name: "leaving_reader_strikes_first",
        file: "src/lock/rwlock.rs",
        find: "seat.recount(held, 0);",
        replace: "seat.strike(held);",
        caught_by: &["rwlock::a_reader_dies_and_the_manager_wakes_the_writer"],
    },
    Mutant {
        name: "reader_keeps_the_news",
        file: "src/lock/rwlock.rs",
        find: "self.place.lock.release_dirty(owned);",
        replace: "self.place.lock.release(owned);",
        caught_by: &["rwlock::a_writer_dies"],
    },
    Mutant {
        name: "writer_never_looks_closely",
        file: "src/lock/rwlock.rs",
        find: "reads && (!closely || other.is_alive())",
        replace: "reads",
        caught_by: &["rwlock::a_reader_dies"],
    },
    Mutant {
        name: "release_does_not_move_the_turn",
        file: "src/lock/semaphore.rs",
        find: "shared.turn.fetch_add(TURN, Ordering::Release)",
        replace: "shared.turn.fetch_add(0, Ordering::Release)",
        caught_by: &["semaphore::one_permit_excludes"],
    },
    Mutant {
        name: "release_wakes_nobody",
        file: "src/lock/semaphore.rs",
        find: "futex::wake(&shared.turn, 1) == 0",
        replace: "false",
        caught_by: &[
            "semaphore::one_permit_excludes",
            "semaphore::one_release_wakes_one_of_two",
            "semaphore::one_who_only_tries",
        ],
    },
    Mutant {
        name: "counted_before_armed",
        file: "src/lock/semaphore.rs",
        find: r#"if !matches!(patience, Patience::None) {
                        // Before the count: a burial that comes too late to be counted moves the turn on, or finds the bit.
                        armed = arm(&shared.turn);
                    }
                    self.recount(closely);"#,
        replace: r#"self.recount(closely);
                    if !matches!(patience, Patience::None) {
                        armed = arm(&shared.turn);
                    }"#,
        caught_by: &["semaphore::the_manager_wakes_those_who_wait_for_the_dead"],
    },
    Mutant {
        name: "permits_never_looked_at_closely",
        file: "src/lock/semaphore.rs",
        find: "(!closely || other.is_alive())",
        replace: "true",
        caught_by: &["semaphore::a_holder_dies"],
    },
    Mutant {
        name: "round_completed_without_release",
        file: "src/lock/barrier.rs",
        find: "shared.round.store(round.wrapping_add(1), Ordering::Release);",
        replace: "shared.round.store(round.wrapping_add(1), Ordering::Relaxed);",
        caught_by: &["barrier::two_meet"],
    },
    Mutant {
        name: "round_seen_without_acquire",
        file: "src/lock/barrier.rs",
        find: "shared.round.load(Ordering::Acquire) == round",
        replace: "shared.round.load(Ordering::Relaxed) == round",
        caught_by: &["barrier::two_meet"],
    },
    Mutant {
        name: "leader_wakes_nobody",
        file: "src/lock/barrier.rs",
        find: "futex::wake(&shared.round, u32::MAX);",
        replace: "",
        caught_by: &["barrier::two_meet", "barrier::the_last_to_arrive_dies"],
    },
    Mutant {
        name: "the_dead_are_counted_at_the_barrier",
        file: "src/lock/barrier.rs",
        find: "self.asleep(round, true) >= others",
        replace: "true",
        caught_by: &["barrier::one_that_dies_asleep_is_not_counted"],
    },
    Mutant {
        name: "round_not_noted",
        file: "src/lock/barrier.rs",
        find: "seat.lie_down(self.key, round as u32);",
        replace: "seat.lie_down(self.key, 0);",
        caught_by: &["barrier::they_meet_again"],
    },
];
