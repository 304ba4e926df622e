#!/bin/sh
# Serves the page to other machines. A stopped container ends every process in it, so running jobs save first.
# Further arguments go to `python run.py ui`.
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-python}
store=${FLUX2_TRAINER_HOME:?names the folder of the token, the queue and the settings}

# numbers of the processes that this page has started: they have its environment
running() {
    for found in $(grep -lsF "FLUX2_TRAINER_HOME=$store" /proc/[0-9]*/environ); do
        process=${found%/environ}
        if grep -qsF job.yaml "$process/cmdline"; then echo "${process#/proc/}"; fi
    done
}

stop() {
    trap '' TERM INT
    kill "$server" 2>/dev/null || true # first: it would start the next job of the queue
    wait "$server" || true
    for run in $(running); do kill -INT "$run" 2>/dev/null || true; done
    while [ -n "$(running)" ]; do sleep 1; done
    exit 0
}

"$python" run.py ui --listen --no-browser "$@" &
server=$!
trap stop TERM INT
wait "$server"
