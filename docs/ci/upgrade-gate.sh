#!/usr/bin/env bash
# May we move from $BASELINE to $CANDIDATE? Report and summary go to out/, on GitHub the summary to the job's page, too.
# Everything comes from the environment and is quoted: what somebody types into a form is never part of a script.
set -euo pipefail

if [ -z "${BASELINE:-}" ] || [ -z "${CANDIDATE:-}" ]; then
    echo "BASELINE and CANDIDATE have to be set: the start of a name (tensorrt-8.6), or an interpreter's path" >&2
    exit 2
fi
mkdir -p out
rm -f out/gate.json out/gate.md
options=(--budget="${BUDGET:-20m}" --report=out/gate.json --summary=out/gate.md)
if [ -n "${MODELS:-}" ]; then options+=(--models="$MODELS"); fi
if [ -n "${MATRIX:-}" ]; then options+=(--matrix="$MATRIX"); fi
if [ "${THOROUGH:-}" = true ]; then options+=(--thorough); fi
if [ -n "${ALLOW_FILE:-}" ]; then options+=(--allow-file="$ALLOW_FILE"); fi

code=0
.venv/bin/harness gate "${options[@]}" -- "$BASELINE" "$CANDIDATE" || code=$?

level=error
case $code in
    0) verdict=pass level=notice said="nothing that blocks was found" ;;
    1) verdict=regression said="a confirmed regression: do not move" ;;
    2) verdict=usage said="no answer: a name, an option or a file is wrong" ;;
    3) verdict=inconclusive level=warning said="nothing is proved either way: a larger BUDGET, or a quieter machine" ;;
    4) verdict=invalid level=warning said="a session cannot be trusted: the machine was disturbed, measure again" ;;
    5) verdict=environment said="no answer: a runtime, a host, a model or room on the disk is missing" ;;
    *) verdict=broken said="no answer: the gate ended with $code" ;;
esac
if [ "$code" -eq 1 ] && [ ! -s out/gate.json ]; then # the interpreter itself ends with 1, too
    verdict=broken said="no answer: the gate failed before it had a report"
fi
echo "gate: $verdict: $said"
if [ "${GITHUB_ACTIONS:-}" = true ]; then
    echo "::$level title=upgrade gate: $verdict::$said"
    echo "verdict=$verdict" >> "$GITHUB_OUTPUT"
    if [ -s out/gate.md ]; then cat out/gate.md >> "$GITHUB_STEP_SUMMARY"; fi
fi
exit "$code"
