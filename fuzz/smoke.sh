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
for target in ${*:-atomics channel locks table timer}; do
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
    exit 1
  fi
  printf 'fuzz %s: ' "$target"
  sed -n 's/^stat::number_of_executed_units: */executions /p; s/^stat::average_exec_per_sec: */a second /p; s/^stat::new_units_added: */new inputs /p' "$log" |
    paste -sd ' ' -
  rm -f "$log"
done
