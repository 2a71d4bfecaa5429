#!/bin/sh
# Fuzzes each target for COMMONS_FUZZ_SECS seconds (12). Needs Rust, a C++ compiler (for libFuzzer) and crates.io; not cargo-fuzz: the flags
# below are those with which `cargo fuzz run -s none TARGET` builds, and stable knows them all. With cargo-fuzz installed, that command works
# here too. A finding is left in fuzz/artifacts/TARGET/.
set -eu
cd "$(dirname "$0")"
secs=${COMMONS_FUZZ_SECS:-12}
host=$(rustc -vV | sed -n 's/^host: //p')
# --target keeps the flags away from build scripts and derive macros.
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1" \
  cargo build --release --target "$host" --bins
# For who builds ahead.
if [ "$*" = none ]; then exit 0; fi

one() {
  target=$1
  mkdir -p "corpus/$target" "artifacts/$target"
  # What reaches far at once, where somebody has put it down.
  seeds=
  if [ -d "seeds/$target" ]; then seeds="seeds/$target"; fi
  log=$(mktemp)
  if ! "target/$host/release/$target" -max_total_time="$secs" -max_len=512 -timeout=20 -print_final_stats=1 -verbosity=1 \
    -artifact_prefix="artifacts/$target/" "corpus/$target" $seeds >"$log" 2>&1; then
    cat "$log"
    rm -f "$log"
    echo "fuzz $target: FAILED" >&2
    return 1
  fi
  found=$(sed -n 's/^stat::number_of_executed_units: */executions /p; s/^stat::average_exec_per_sec: */a second /p; s/^stat::new_units_added: */new inputs /p' "$log" |
    paste -sd ' ' -)
  rm -f "$log"
  # In one write, for others do so at the same time.
  printf 'fuzz %s: %s\n' "$target" "$found"
}

# As many at once as there are processors: each is one thread.
all="${*:-atomics channel locks table timer}"
at_once=$(nproc 2>/dev/null || echo 1)
failed=0
running=
for target in $all; do
  one "$target" &
  running="$running $!"
  # shellcheck disable=SC2086
  set -- $running
  if [ $# -ge "$at_once" ]; then
    wait "$1" || failed=1
    shift
    running="$*"
  fi
done
for pid in $running; do
  wait "$pid" || failed=1
done
exit $failed
