#!/bin/sh
# Makes the environment where it is missing, and opens the page. Arguments go to `python run.py ui`.
set -eu
cd "$(dirname "$0")"
sh .ci/environment requirements.txt
exec .venv/bin/python run.py ui "$@"
