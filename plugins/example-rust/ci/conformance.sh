#!/bin/sh
# Builds the plugin and holds it against Camelid's conformance suite: what every continuous integration of it runs.
# `camelid` must be on the PATH, or CAMELID name it. The reports are left in conformance-report.
set -eu
cd "$(dirname "$0")/.."
camelid="${CAMELID:-camelid}"
target="${CARGO_TARGET_DIR:-target}"

cargo build --release
cp libcamelid_example.plugin.toml "$target/release/"
library="$target/release/libcamelid_example.so"

code=0
"$camelid" conformance run --plugin "$library" --claims conformance.toml --out conformance-report || code=$?
if [ -n "${GITHUB_STEP_SUMMARY:-}" ] && [ -f conformance-report/summary.md ]; then
  cat conformance-report/summary.md >>"$GITHUB_STEP_SUMMARY"
fi
[ "$code" -eq 0 ] || exit "$code"
"$camelid" conformance verify conformance-report/report.json --plugin "$library"
