//! What the models of the table must catch.
//!
//! Tried, and green, because another ordering or the death itself stands in for it:
//! FILL

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
        name: "bucket_held_without_a_fence",
        file: "src/table/hold.rs",
        find: "fence(Ordering::Release);",
        replace: "",
        caught_by: &[
            "table::a_reader_sees_all_of_a_change_or_nothing",
            "table::a_scan_meets_no_mixture",
            "table::a_row_is_handed_from_one_writer_to_another",
            "table_death::a_writer_dies_and_one_reads",
        ],
    },
    Mutant {
        name: "row_taken_without_a_fence",
        file: "src/table/pool.rs",
        find: "fence(Ordering::Release);",
        replace: "",
        caught_by: &["table::a_row_is_handed_from_one_writer_to_another"],
    },
    Mutant {
        name: "armed_without_a_fence",
        file: "src/table/change.rs",
        find: "fence(Ordering::Release);",
        replace: "",
        caught_by: &["table::a_reader_sees_all_of_a_change_or_nothing", "table_death::a_writer_dies_and_one_reads"],
    },
    Mutant {
        name: "record_begun_without_acquire",
        file: "src/table/change.rs",
        find: "record.state.compare_exchange(seen.0, state.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()",
        replace: "record.state.compare_exchange(seen.0, state.0, Ordering::Release, Ordering::Relaxed).is_ok()",
        caught_by: &["table_death::a_record_of_the_dead_is_to_be_had"],
    },
    Mutant {
        name: "record_begun_without_release",
        file: "src/table/change.rs",
        find: "record.state.compare_exchange(seen.0, state.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()",
        replace: "record.state.compare_exchange(seen.0, state.0, Ordering::Acquire, Ordering::Relaxed).is_ok()",
        caught_by: &[
            "table_death::a_record_of_the_dead_is_to_be_had",
            "table_death::an_inserter_dies_and_one_needs_the_row",
        ],
    },
    Mutant {
        name: "phase_without_release",
        file: "src/table/change.rs",
        find: "self.record.state.store(self.state.0, Ordering::Release);",
        replace: "self.record.state.store(self.state.0, Ordering::Relaxed);",
        caught_by: &["table::a_row_and_its_figure_go_together"],
    },
    Mutant {
        name: "committed_without_release",
        file: "src/table/hold.rs",
        find: "record.state.store(state.0, Ordering::Release);",
        replace: "record.state.store(state.0, Ordering::Relaxed);",
        caught_by: &["table_death::a_record_of_the_dead_is_to_be_had", "table::the_figures_of_one_moment"],
    },
    Mutant {
        name: "repaired_without_acquire",
        file: "src/table/hold.rs",
        find: r#"let state = State(record.state.load(Ordering::Acquire));
            if state.phase() != Phase::Free && state.bucket() == bucket {
                self.settle(index, state, patience, Tally { recoveries: 1, ..Tally::default() })?;
            }"#,
        replace: r#"let state = State(record.state.load(Ordering::Relaxed));
            if state.phase() != Phase::Free && state.bucket() == bucket {
                self.settle(index, state, patience, Tally { recoveries: 1, ..Tally::default() })?;
            }"#,
        caught_by: &["table_death::a_writer_dies_and_one_writes", "table_death::a_record_of_the_dead_is_to_be_had"],
    },
    Mutant {
        name: "swept_without_acquire",
        file: "src/table/hold.rs",
        find: r#"let state = State(record.state.load(Ordering::Acquire));
            if state.phase() != Phase::Free && certainly_dead(state.tag(), Look::Close) {
                drop(self.hold(state.bucket(), patience)?);
                found = true;
            }"#,
        replace: r#"let state = State(record.state.load(Ordering::Relaxed));
            if state.phase() != Phase::Free && certainly_dead(state.tag(), Look::Close) {
                drop(self.hold(state.bucket(), patience)?);
                found = true;
            }"#,
        caught_by: &[
            "table_death::a_record_of_the_dead_is_to_be_had",
            "table_death::an_inserter_dies_and_one_needs_the_row",
        ],
    },
    Mutant {
        name: "nothing_is_written_back",
        file: "src/table/hold.rs",
        find: "self.write_back(index, bucket);",
        replace: "",
        caught_by: &["table_death::a_writer_dies_and_one_reads"],
    },
    Mutant {
        name: "written_back_without_release",
        file: "src/table/hold.rs",
        find: "self.word(bucket, row, at + offset).store(owned(word), Ordering::Release)",
        replace: "self.word(bucket, row, at + offset).store(owned(word), Ordering::Relaxed)",
        caught_by: &["table_death::a_writer_dies_and_one_reads", "table_death::who_settles_a_deleter_dies_too"],
    },
    Mutant {
        name: "leaving_row_is_not_sent_on",
        file: "src/table/hold.rs",
        find: "self.give_noted(&record.leaving, bucket, patience)?",
        replace: "()",
        caught_by: &["table_death::a_deleter_dies_and_one_needs_the_row"],
    },
    Mutant {
        name: "pool_is_not_mended",
        file: "src/table/pool.rs",
        find: "self.mend(pool);",
        replace: "",
        caught_by: &["table_death::an_inserter_dies_and_one_needs_the_row"],
    },
    Mutant {
        name: "mark_without_release",
        file: "src/table/pool.rs",
        find: "self.mark(row).store(bucket as u64 + 1, Ordering::Release);",
        replace: "self.mark(row).store(bucket as u64 + 1, Ordering::Relaxed);",
        caught_by: &["table::a_scan_meets_no_mixture"],
    },
    Mutant {
        name: "mark_struck_without_release",
        file: "src/table/pool.rs",
        find: "self.mark(row).store(0, Ordering::Release);",
        replace: "self.mark(row).store(0, Ordering::Relaxed);",
        caught_by: &["table::a_scan_meets_no_mixture", "table_death::a_deleter_dies_and_one_needs_the_row"],
    },
    Mutant {
        name: "fresh_rows_counted_without_release",
        file: "src/table/pool.rs",
        find: r#"if first != 0 {
                pool.first.store(owned(&self.row(row)[Layout::LINKS]), Ordering::Release);
            } else {
                pool.fresh.store(fresh + 1, Ordering::Release);
            }"#,
        replace: r#"if first != 0 {
                pool.first.store(owned(&self.row(row)[Layout::LINKS]), Ordering::Relaxed);
            } else {
                pool.fresh.store(fresh + 1, Ordering::Relaxed);
            }"#,
        caught_by: &["table::a_scan_meets_no_mixture", "table::a_scan_meets_what_stays"],
    },
    Mutant {
        name: "fresh_rows_seen_without_acquire",
        file: "src/table/ground.rs",
        find: "self.head.pool.fresh.load(Ordering::Acquire)",
        replace: "self.head.pool.fresh.load(Ordering::Relaxed)",
        caught_by: &["table::a_scan_meets_no_mixture", "table::a_scan_meets_what_stays"],
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
        name: "figures_count_without_acquire",
        file: "src/table/stats.rs",
        find: r#"let counts = State(self.state.load(Ordering::Acquire)).parity() == parity;
            if counts && self.halves[parity].read() == first {
                return first;
            }"#,
        replace: r#"let counts = State(self.state.load(Ordering::Relaxed)).parity() == parity;
            if counts && self.halves[parity].read() == first {
                return first;
            }"#,
        caught_by: &["table::a_row_and_its_figure_go_together", "table::the_figures_of_one_moment"],
    },
    Mutant {
        name: "figures_read_without_acquire",
        file: "src/table/stats.rs",
        find: "word.load(Ordering::Acquire)",
        replace: "word.load(Ordering::Relaxed)",
        caught_by: &["table::a_row_and_its_figure_go_together", "table::the_figures_of_one_moment"],
    },
    Mutant {
        name: "figures_filled_without_release",
        file: "src/table/record.rs",
        find: "field(other).store(sum, Ordering::Release);",
        replace: "field(other).store(sum, Ordering::Relaxed);",
        caught_by: &["table::the_figures_of_one_moment"],
    },
];
