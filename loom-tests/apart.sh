#!/usr/bin/env bash
# Runs each model in a process of its own, as many at once as there are processors: what cargo calls instead of the program itself, with its arguments.
#
# loom maps and unmaps the stacks of its threads at each execution. Two models in one process wait for each other over that: together they take 2.5 times as
# long as in two.
set -euo pipefail

program=$1
shift
for argument in "$@"; do
  if [ "$argument" = --list ]; then
    exec "$program" "$@"
  fi
done

model() {
  local began=$SECONDS out
  if out=$("$APART_PROGRAM" --exact "$1" --show-output 2>&1); then
    printf 'test %s ... ok (%s s)\n' "$1" $((SECONDS - began))
  else
    printf '%s\ntest %s ... FAILED\n' "$out" "$1"
    return 1
  fi
}
export -f model
export APART_PROGRAM=$program

started=$SECONDS
models=$("$program" --list --format terse "$@" | sed -n 's/: test$//p')
count=$(printf '%s' "$models" | grep -c '' || true)
printf '\nrunning %s tests\n' "$count"
if ! printf '%s' "$models" | xargs -r -d '\n' -P "$(nproc)" -n 1 bash -c 'model "$1"' model; then
  printf '\ntest result: FAILED\n'
  exit 101
fi
printf '\ntest result: ok. %s passed; finished in %s s\n' "$count" $((SECONDS - started))
