#!/usr/bin/env bash
# Make the environment if there is none, and run the tests (arguments go to pytest).
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
exec python -m pytest "$@"
