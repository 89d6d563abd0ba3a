#!/usr/bin/env bash
# What a graphics card brings, in at most eight minutes, from this checkout: nothing is installed, nothing downloaded.
# Needs a Python with aspk's dependencies.   PYTHON=python3 benchmarks/gpu.sh [--device cpu] [--json FILE]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$here"
PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python3}" benchmarks/gpu.py "$@"
