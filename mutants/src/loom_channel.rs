//! What the models of the channel must catch.
//!
//! Not here, for no model can tell: that the last look in `End::arm` stays behind the clearing (its AcqRel), since a model's eventfd orders nothing and its
//! threads do not run ahead; the Release of the floor, as far as it keeps a pop's reads before it, since loom lets no read see what is written
//! later (what is done with a message is kept before it by the same Release, and that is seen); the Release of heads, `moving`, `letters`, `before` and
//! `returned`, which keep the stores of one who dies in their order: the lock, or the death itself, orders them for everybody else, and the kill harness has
//! them in its images.

use super::Mutant;

/// See the head of this file.
pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "end_seen_without_acquire",
        file: "src/channel/ground.rs",
        find: "Mark(self.at.load(Ordering::Acquire))",
        replace: "Mark(self.at.load(Ordering::Relaxed))",
        caught_by: &["channel::a_message_is_seen_whole_or_not_at_all"],
    },
    Mutant {
        name: "end_moved_without_release",
        file: "src/channel/ground.rs",
        find: "Mark(self.at.swap(next.0, Ordering::Release))",
        replace: "Mark(self.at.swap(next.0, Ordering::Relaxed))",
        caught_by: &["channel::a_message_is_seen_whole_or_not_at_all"],
    },
    Mutant {
        name: "end_moved_by_a_store",
        file: "src/channel/ground.rs",
        find: "Mark(self.at.swap(next.0, Ordering::Release))",
        replace: "let old = self.at.load(Ordering::Acquire); self.at.store(next.0, Ordering::Release); Mark(old)",
        caught_by: &["channel_sleep::a_push_wakes_who_sleeps"],
    },
    Mutant {
        name: "closed_without_order",
        file: "src/channel/ground.rs",
        find: "self.at.compare_exchange(seen.0, seen.with_closed().0, Ordering::AcqRel, Ordering::Acquire)",
        replace: "self.at.compare_exchange(seen.0, seen.with_closed().0, Ordering::Relaxed, Ordering::Relaxed)",
        caught_by: &["channel_sleep::the_end_wakes_who_sleeps"],
    },
    Mutant {
        name: "not_quietened",
        file: "src/channel/ground.rs",
        find: "Mark(self.at.fetch_and(!ASLEEP, Ordering::Relaxed))",
        replace: "self.mark()",
        caught_by: &["channel_lease::what_is_given_back_wakes_who_sleeps"],
    },
    Mutant {
        name: "armed_and_not_cleared",
        file: "src/channel/ground.rs",
        find: "eventfd.clear();",
        replace: "",
        caught_by: &["channel_lease::a_pop_tells_who_watches_for_room"],
    },
    Mutant {
        name: "last_look_by_a_load",
        file: "src/channel/ground.rs",
        find: "self.at.compare_exchange(armed.0, armed.0, Ordering::AcqRel, Ordering::Acquire).is_ok()",
        replace: "self.at.load(Ordering::Acquire) == armed.0",
        caught_by: &["channel_lease::a_push_tells_who_watches"],
    },
    Mutant {
        name: "no_last_look",
        file: "src/channel/ground.rs",
        find: "self.at.compare_exchange(armed.0, armed.0, Ordering::AcqRel, Ordering::Acquire).is_ok()",
        replace: "true",
        caught_by: &["channel_lease::a_push_tells_who_watches"],
    },
    Mutant {
        name: "signal_that_was_cleared_is_not_made_good",
        file: "src/channel/ground.rs",
        find: "        eventfd.signal();",
        replace: "",
        caught_by: &["channel_lease::all_who_watch_are_told", "channel_told::a_watcher_dies_and_another_is_told"],
    },
    Mutant {
        name: "push_wakes_nobody",
        file: "src/channel/push.rs",
        find: "futex::wake(&self.ends.tail.at, u32::try_from(messages).unwrap_or(u32::MAX));",
        replace: "",
        caught_by: &["channel_sleep::a_push_wakes_who_sleeps"],
    },
    Mutant {
        name: "push_wakes_one_for_all",
        file: "src/channel/push.rs",
        find: "futex::wake(&self.ends.tail.at, u32::try_from(messages).unwrap_or(u32::MAX));",
        replace: "futex::wake(&self.ends.tail.at, 0);",
        caught_by: &["channel_sleep::one_push_of_two_wakes_two"],
    },
    Mutant {
        name: "push_signals_nobody",
        file: "src/channel/push.rs",
        find: "old.armed()",
        replace: "false",
        caught_by: &["channel_lease::a_push_tells_who_watches"],
    },
    Mutant {
        name: "push_does_not_look_for_the_dead",
        file: "src/channel/push.rs",
        find: "self.signal_for_the_dead();",
        replace: "",
        caught_by: &["channel_told::a_watcher_dies_and_another_is_told"],
    },
    Mutant {
        name: "next_producer_tells_nobody",
        file: "src/channel/push.rs",
        find: r#"if owned.recovered() {
            // What it wrote beyond the tail is nobody's; but it may have moved the tail, and told nobody.
            ground.tell_all();
        }"#,
        replace: "",
        caught_by: &["channel_told::a_producer_dies_and_the_next_one_tells"],
    },
    Mutant {
        name: "producer_passes_nothing_on",
        file: "src/channel/push.rs",
        find: "self.pass_on(old.advanced(words, messages, self.words()), words);",
        replace: "",
        caught_by: &["channel_sleep::two_pops_wake_two"],
    },
    Mutant {
        name: "producer_leaves_it_to_the_next_pop",
        file: "src/channel/push.rs",
        find: "futex::wake(&floor.at, 1);\n                return;",
        replace: "",
        caught_by: &["channel_sleep::room_for_two_wakes_two"],
    },
    Mutant {
        name: "end_is_told_to_consumers_alone",
        file: "src/channel/push.rs",
        find: "ground.ends.floor.close();",
        replace: "",
        caught_by: &["channel_sleep::the_end_wakes_who_waits_for_room"],
    },
    Mutant {
        name: "end_is_told_to_nobody",
        file: "src/channel/push.rs",
        find: r#"ground.tell_all();
        // Last: should this process die before it has told all, the next producer is told, and tells them.
        drop(producer);"#,
        replace: "drop(producer);",
        caught_by: &["channel_sleep::the_end_wakes_who_sleeps"],
    },
    Mutant {
        name: "tell_all_wakes_nobody",
        file: "src/channel/notify.rs",
        find: "futex::wake(&end.at, u32::MAX);",
        replace: "",
        caught_by: &["channel_sleep::the_end_wakes_who_sleeps"],
    },
    Mutant {
        name: "tell_all_signals_nobody",
        file: "src/channel/notify.rs",
        find: r#"if self.waited_for() {
            self.filled.signal();
            self.emptied.signal();
        }"#,
        replace: "",
        caught_by: &["channel_lease::the_end_tells_who_watches"],
    },
    Mutant {
        name: "select_takes_a_lease_for_the_end",
        file: "src/channel/notify.rs",
        find: "tail.closed() && consumer.alone()",
        replace: "tail.closed()",
        caught_by: &["channel_lease::the_last_acknowledgement_tells_who_watches"],
    },
    Mutant {
        name: "pop_wakes_nobody",
        file: "src/channel/wait.rs",
        find: "futex::wake(&self.ends.floor.at, u32::try_from(messages).unwrap_or(u32::MAX));",
        replace: "",
        caught_by: &["channel_sleep::a_pop_wakes_who_waits_for_room"],
    },
    Mutant {
        name: "pop_signals_nobody",
        file: "src/channel/wait.rs",
        find: "self.emptied.signal();",
        replace: "",
        caught_by: &["channel_lease::a_pop_tells_who_watches_for_room"],
    },
    Mutant {
        name: "consumer_passes_nothing_on",
        file: "src/channel/pop.rs",
        find: "consumer.pass_on();",
        replace: "",
        caught_by: &["channel_sleep::two_pushes_wake_two"],
    },
    Mutant {
        name: "consumer_leaves_it_to_the_next_push",
        file: "src/channel/pop.rs",
        find: "consumer.pass_on();",
        replace: "self.ends.tail.at.fetch_or(1, Ordering::Relaxed);",
        caught_by: &["channel_sleep::two_pushes_wake_two"],
    },
    Mutant {
        name: "pop_takes_a_lease_for_the_end",
        file: "src/channel/wait.rs",
        find: "tail.closed() && consumer.alone()",
        replace: "tail.closed()",
        caught_by: &["channel_lease::what_is_given_back_after_the_end"],
    },
    Mutant {
        name: "done_behind_a_lease_is_not_counted",
        file: "src/channel/pop.rs",
        find: r#"self.count_out(1);
        self.done(first.index, first.head);"#,
        replace: "self.done(first.index, first.head);",
        caught_by: &["channel_death::an_acknowledgement_and_a_look"],
    },
    Mutant {
        name: "nothing_is_repaired",
        file: "src/channel/pop.rs",
        find: "consumer.repair();",
        replace: "",
        caught_by: &["channel_death::who_buries_a_letter_dies", "channel_death::who_has_a_lease_dies"],
    },
    Mutant {
        name: "lease_is_not_noted",
        file: "src/channel/lease.rs",
        find: "seat.note_lease(ground.tail.at);",
        replace: "",
        caught_by: &["channel_told::the_manager_wakes_those_who_wait_for_a_lease"],
    },
    Mutant {
        name: "given_back_and_nobody_woken",
        file: "src/channel/lease.rs",
        find: "futex::wake(&tail.at, u32::MAX);",
        replace: "",
        caught_by: &["channel_lease::what_is_given_back_wakes_who_sleeps"],
    },
    Mutant {
        name: "given_back_and_nobody_signalled",
        file: "src/channel/lease.rs",
        find: "self.filled.signal();",
        replace: "",
        caught_by: &["channel_lease::what_is_given_back_tells_who_watches"],
    },
    Mutant {
        name: "last_acknowledgement_tells_nobody",
        file: "src/channel/lease.rs",
        find: "consumer.alone() && consumer.ground.ends.tail.mark().closed()",
        replace: "false",
        caught_by: &["channel_lease::the_last_acknowledgement_is_the_end"],
    },
    Mutant {
        name: "letter_forgotten_after_its_room_is_free",
        file: "src/channel/lease.rs",
        find: r#"// Before the floor moves: then the index may be another message's.
        ends.moving.store(0, Ordering::Release);"#,
        replace: r#"if buried {
            self.reclaim();
        }
        ends.moving.store(0, Ordering::Release);"#,
        caught_by: &["channel_death::who_buries_a_letter_dies"],
    },
    Mutant {
        name: "letter_that_arrived_is_kept",
        file: "src/channel/lease.rs",
        find: "undone && arrived",
        replace: "false",
        caught_by: &["channel_death::who_buries_a_letter_dies"],
    },
    Mutant {
        name: "return_is_counted_before_it_has_happened",
        file: "src/channel/lease.rs",
        find: "owned(&ends.before) + u64::from(!undone || arrived)",
        replace: "owned(&ends.returned)",
        caught_by: &["channel_death::who_buries_a_letter_dies"],
    },
    Mutant {
        name: "leases_of_the_dead_are_never_looked_at",
        file: "src/channel/lease.rs",
        find: "(known_dead(tag) || look.is_some_and(|look| certainly_dead(tag, look)))",
        replace: "known_dead(tag)",
        caught_by: &["channel_death::who_has_a_lease_dies"],
    },
    Mutant {
        name: "burial_tells_no_structure",
        file: "src/robust/burial.rs",
        find: "mourn::tell(key);",
        replace: "",
        caught_by: &["channel_told::a_producer_dies_and_one_watches"],
    },
    Mutant {
        name: "burial_of_a_consumer_rings_for_nobody",
        file: "src/channel/notify.rs",
        find: "[self.tail.lock, self.tail.at, self.floor.lock]",
        replace: "[self.tail.lock, self.tail.at, self.tail.at]",
        caught_by: &["channel_told::a_consumer_dies_and_one_watches_for_room"],
    },
    Mutant {
        name: "session_never_gives_way",
        file: "src/channel/session.rs",
        find: "self.shared > 0 || lock.is_wanted()",
        replace: "self.shared > 0",
        caught_by: &["channel_session::who_wants_the_producers_end_gets_it"],
    },
    Mutant {
        name: "session_keeps_its_end_again_at_once",
        file: "src/channel/session.rs",
        find: "self.shared.checked_sub(1).unwrap_or(SHARED)",
        replace: "0",
        caught_by: &["channel_session::who_wants_the_consumers_end_gets_it"],
    },
    Mutant {
        name: "session_sleeps_with_the_producers_end",
        file: "src/channel/session.rs",
        find: r#"self.keep.held = None;
                    let waiting = waiting.get_or_insert_with(|| Waiting::new(&ground.in_vain[1]));
                    ground.wait_for_room(floor, waiting, patience)?;"#,
        replace: r#"let waiting = waiting.get_or_insert_with(|| Waiting::new(&ground.in_vain[1]));
                    ground.wait_for_room(floor, waiting, patience)?;"#,
        caught_by: &["channel_session::a_session_that_waits_for_room_keeps_nothing"],
    },
    Mutant {
        name: "session_sleeps_with_the_consumers_end",
        file: "src/channel/wait.rs",
        find: r#"*held = None;
        patience.check()?;"#,
        replace: "patience.check()?;",
        caught_by: &["channel_session::a_session_that_waits_for_a_message_keeps_nothing"],
    },
    Mutant {
        name: "pop_session_passes_nothing_on",
        file: "src/channel/session.rs",
        find: "consumer.pass_on();",
        replace: "",
        caught_by: &["channel_session::a_session_wakes_the_next_consumer"],
    },
    Mutant {
        name: "push_session_passes_nothing_on",
        file: "src/channel/session.rs",
        find: "ground.announce(old, words_of(message.len()), 1, slept);",
        replace: "ground.announce(old, words_of(message.len()), 1, false);",
        caught_by: &["channel_session::a_session_wakes_the_next_producer"],
    },
    Mutant {
        name: "push_session_announces_nothing",
        file: "src/channel/session.rs",
        find: "ground.announce(old, words_of(message.len()), 1, slept);",
        replace: "",
        caught_by: &["channel_session::two_sessions_and_room_for_one"],
    },
    Mutant {
        name: "pace_of_the_other_end",
        file: "src/channel/ground.rs",
        find: "self.pace.store(pace.after(gain(seen)).0, Ordering::Relaxed);",
        replace: "other.pace.store(pace.after(gain(seen)).0, Ordering::Relaxed);",
        caught_by: &["channel_session::two_sessions_and_room_for_one"],
    },
    Mutant {
        name: "next_consumer_tells_nobody",
        file: "src/channel/lease.rs",
        find: "self.reclaim();\n        ground.tell_all();",
        replace: "self.reclaim();",
        caught_by: &["channel_told::a_consumer_dies_and_the_next_one_tells"],
    },
];
