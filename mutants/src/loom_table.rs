//! What the models of the table must catch.
//!
//! Tried, and green, because something else stands in for it: the fences of `Ground::hold` and `Change::arm` stand in for each other (the first
//! is owed where a settler gives back a row, the second to the order of the instructions of one who dies), and for the Release of a row's mark
//! when it is taken; the Release of `Change::begin` and the Acquire of `Ground::sweep`, because a death hands over all that the dead one did;
//! the Release of a mark that is struck and the Acquire of `Ground::touched`, because a scan goes by the bucket's lock.
//!
//! Not yet shown either way: that a search ends only the one that it began, which takes three that search and two rows; the Acquire of
//! `settle_left`; the Release of `write_back`, of `Change::enter`, and of the figures as they are filled; the Acquire of the state between two
//! looks at the figures, and of each figure as it is read.

use super::Mutant;

/// See the head of this file.
pub const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "reader_begins_without_acquire",
        file: "src/robust/lock.rs",
        find: r#"let word = self.load();
        word.is_free().then_some(Stamp(word))"#,
        replace: r#"let word = LockWord(self.word.load(Ordering::Relaxed));
        word.is_free().then_some(Stamp(word))"#,
        caught_by: &["table::a_reader_sees_all_of_a_change_or_nothing"],
    },
    Mutant {
        name: "reader_ends_without_a_fence",
        file: "src/robust/lock.rs",
        find: "fence(Ordering::Acquire);",
        replace: "",
        caught_by: &["table::a_reader_sees_all_of_a_change_or_nothing"],
    },
    Mutant {
        name: "reader_does_not_look_again",
        file: "src/table/read.rs",
        find: "!bucket.lock.still(stamp)",
        replace: "false",
        caught_by: &["table::a_reader_sees_all_of_a_change_or_nothing"],
    },
    Mutant {
        name: "row_taken_without_a_fence",
        file: "src/table/pool.rs",
        find: "fence(Ordering::Release);",
        replace: "",
        caught_by: &["table::a_row_is_handed_from_one_writer_to_another"],
    },
    Mutant {
        name: "record_begun_without_acquire",
        file: "src/table/change.rs",
        find: "State(record.state.load(Ordering::Acquire))",
        replace: "State(record.state.load(Ordering::Relaxed))",
        caught_by: &["table_death::a_seat_has_a_new_tenant"],
    },
    Mutant {
        name: "record_begun_though_its_last_tenant_left_it",
        file: "src/table/change.rs",
        find: "left.phase() == Phase::Free",
        replace: "true",
        caught_by: &["table_death::a_seat_has_a_new_tenant"],
    },
    Mutant {
        name: "shared_record_begun_without_acquire",
        file: "src/table/change.rs",
        find: "record.state.compare_exchange(seen.0, state.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()",
        replace: "record.state.compare_exchange(seen.0, state.0, Ordering::Release, Ordering::Relaxed).is_ok()",
        caught_by: &["table_death::two_wait_for_one_record"],
    },
    Mutant {
        name: "committed_without_release",
        file: "src/table/hold.rs",
        find: "record.state.store(state.0, Ordering::Release);",
        replace: "record.state.store(state.0, Ordering::Relaxed);",
        caught_by: &["table_death::a_seat_has_a_new_tenant"],
    },
    Mutant {
        name: "nothing_is_written_back",
        file: "src/table/hold.rs",
        find: "self.write_back(index, bucket);",
        replace: "",
        caught_by: &["table_death::who_settles_an_inserter_dies_too"],
    },
    Mutant {
        name: "leaving_row_is_not_sent_on",
        file: "src/table/hold.rs",
        find: "self.give_noted(&record.leaving, bucket, patience)?",
        replace: "()",
        caught_by: &["table_death::who_settles_a_deleter_dies_too"],
    },
    Mutant {
        name: "pool_is_not_mended",
        file: "src/table/pool.rs",
        find: "self.mend(pool);",
        replace: "",
        caught_by: &["table_death::who_settles_an_inserter_dies_too"],
    },
    Mutant {
        name: "scan_does_not_look_at_the_mark_again",
        file: "src/table/iter.rs",
        find: "belongs && bucket.lock.still(stamp)",
        replace: "bucket.lock.still(stamp)",
        caught_by: &["table::a_scan_meets_no_mixture"],
    },
    Mutant {
        name: "scan_does_not_look_at_the_lock_again",
        file: "src/table/iter.rs",
        find: "belongs && bucket.lock.still(stamp)",
        replace: "belongs",
        caught_by: &["table::a_scan_meets_no_mixture"],
    },
    Mutant {
        name: "scan_holds_a_bucket_and_believes_the_mark",
        file: "src/table/iter.rs",
        find: r#"if mark.load(Ordering::Relaxed) == seen {
                copy();
                return !ground.has_expired(words);
            }"#,
        replace: r#"copy();
            return !ground.has_expired(words);"#,
        caught_by: &["table::a_scan_meets_no_mixture"],
    },
    Mutant {
        name: "figures_checked_before_and_after",
        file: "src/table/stats.rs",
        find: r#"let counts = State(self.state.load(Ordering::Acquire)).parity() == parity;
            if counts && self.halves[parity].read() == first {
                return first;
            }"#,
        replace: r#"if self.halves[parity].read() == first && State(self.state.load(Ordering::Acquire)).parity() == parity {
                return first;
            }"#,
        caught_by: &["table::the_figures_of_one_moment"],
    },
    Mutant {
        name: "time_is_written_without_a_fence",
        file: "src/table/soonest.rs",
        find: "fence(Ordering::SeqCst);\n            self.lower(due >> TICK);",
        replace: "self.lower(due >> TICK);",
        caught_by: &["table_soonest::a_time_that_is_set_behind_a_search_is_found_by_the_next"],
    },
    Mutant {
        name: "search_begins_without_a_fence",
        file: "src/table/soonest.rs",
        find: "// SeqCst: the word, then the times.\n        fence(Ordering::SeqCst);",
        replace: "",
        caught_by: &["table_soonest::a_time_that_is_set_behind_a_search_is_found_by_the_next"],
    },
    Mutant {
        name: "search_says_never_when_it_ends",
        file: "src/table/soonest.rs",
        find: "Soonest::new(word.tick(), word.search(), 0)",
        replace: "Soonest::new(NEVER, word.search(), 0)",
        caught_by: &["table_soonest::a_time_that_is_set_behind_a_search_is_found_by_the_next"],
    },
];
