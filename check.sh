#!/usr/bin/env bash
# Every check there is, in order of how soon it tells. Less than 25 minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")"

usage() {
  cat <<'EOF'
./check.sh          every check: format, lints, docs, tests, kill harness, loom at preemption bound 2, mutants, fuzz smoke, instruction counts
./check.sh STEP…    only these: format lint doc test step loom mutants fuzz cost

Longer, on request:
  ./check.sh server-mutants                   the mutants of the process server, each against the one test that must go red on it: three minutes
  COMMONS_STEP_DEEP=1 ./check.sh step         kills inside recovery at every image that an operation leaves, not at every fifth
  COMMONS_LOOM_BOUND=3 ./check.sh loom        the loom models at preemption bound 3
  COMMONS_CHAOS_SECS=600 ./check.sh test      ten minutes of chaos in each of the chaos tests
  COMMONS_LONG=1 cargo test --test reload     thirty seconds of reloads under load, not six
  COMMONS_SOAK_MESSAGES=30000000 cargo test --release --test channel_processes
                                              thirty million messages through a channel whose producers and consumers are killed
  COMMONS_FUZZ_SECS=3600 ./check.sh fuzz      an hour of fuzzing for each target
  cargo bench                                 the bars, as ratios; COMMONS_BARS=enforce makes a miss an error
EOF
}

step() {
  printf '\n== %s\n' "$1"
}

format() {
  step "format"
  cargo fmt --check
  for package in loom-tests fuzz mutants; do
    cargo fmt --check --manifest-path "$package/Cargo.toml"
  done
}

lint() {
  step "lints"
  cargo clippy --all-targets -- -D warnings
  cargo clippy --no-default-features --all-targets -- -D warnings
  cargo clippy --manifest-path mutants/Cargo.toml -- -D warnings
}

doc() {
  step "docs"
  RUSTDOCFLAGS="-D warnings" cargo doc --no-deps
}

# What the later steps are made of, built while the tests mostly wait: four long optimizations, each on one core. Whatever fails here fails again, and is told,
# where it belongs.
ahead() {
  exec >/dev/null 2>&1
  cargo test --release --no-default-features --test step --no-run
  (cd loom-tests && cargo test --release --no-run)
  cargo run --quiet --release --manifest-path mutants/Cargo.toml -- build
  COMMONS_FUZZ_SECS=0 ./fuzz/smoke.sh none
}

# Without the kill harness, which has a step of its own and wants code as it is shipped.
test_() {
  step "tests"
  cargo test
  step "tests of the structures alone"
  cargo test --no-default-features --lib
}

# Every instruction of every operation; inside recovery, at every fifth of the images that an operation leaves.
step_() {
  step "kill at every instruction"
  STEP_DEEP=${COMMONS_STEP_DEEP:-5} cargo test --release --no-default-features --test step
}

loom() {
  step "loom, preemption bound ${COMMONS_LOOM_BOUND:-2}"
  # From inside the folder: cargo reads the cfg from there.
  (cd loom-tests && cargo test --release)
}

mutants() {
  step "mutants"
  cargo run --quiet --release --manifest-path mutants/Cargo.toml -- all
}

# Not among those of a plain run: most of it is a wait for tests that have lost what they wait for.
server-mutants() {
  step "mutants of the process server"
  cargo run --quiet --release --manifest-path mutants/Cargo.toml -- server
}

fuzz() {
  command -v c++ >/dev/null || { echo "check.sh: fuzzing builds libFuzzer, which needs a C++ compiler (apt-get install g++)" >&2; exit 2; }
  step "fuzz, ${COMMONS_FUZZ_SECS:-12} s a target"
  ./fuzz/smoke.sh
}

cost() {
  step "instruction counts"
  cargo bench --no-default-features --bench instructions
}

all=(format lint doc test step loom mutants fuzz cost)
more=(server-mutants)
case "${1:-}" in
  -h | --help) usage; exit 0 ;;
esac
for name in "$@"; do
  # shellcheck disable=SC2076
  [[ " ${all[*]} ${more[*]} " =~ " $name " ]] || { printf 'check.sh: %s is no step; see ./check.sh --help\n' "$name" >&2; exit 2; }
done
[ $# -gt 0 ] || set -- "${all[@]}"
[ "$(uname -s)" = Linux ] || { echo "check.sh: commons runs on Linux only" >&2; exit 2; }
command -v cargo >/dev/null || { echo "check.sh: cargo is not here; https://rustup.rs installs Rust" >&2; exit 2; }

building=
# The builds would go on without us.
trap '[ -z "$building" ] || kill -- "-$building" 2>/dev/null || true' EXIT
started=$SECONDS
for name in "$@"; do
  began=$SECONDS
  case "$name" in
    test)
      if [ "$*" = "${all[*]}" ]; then
        set -m
        (renice -n 10 "$BASHPID" >/dev/null 2>&1 || true; ahead) &
        building=$!
        set +m
      fi
      test_
      ;;
    step) step_ ;;
    mutants)
      # It writes where this one reads; the others wait for each other by themselves.
      if [ -n "$building" ]; then
        wait "$building" || true
        building=
      fi
      mutants
      ;;
    *) "$name" ;;
  esac
  printf -- '-- %s: %s s\n' "$name" $((SECONDS - began))
done
printf '\ncheck.sh: all of %s passed in %s s\n' "$*" $((SECONDS - started))
