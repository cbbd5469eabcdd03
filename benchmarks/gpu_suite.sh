#!/usr/bin/env bash
# the GPU suite in one call, within nine minutes, without a network: benchmarks/gpu_suite.sh [OUT] [PART ...] [--device cpu] [--quick]
# OUT (or the variable OUT) is a folder for gpu-suite.json, .md and figures; a second call goes on where the first one stopped
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
has_torch() { "$1" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)'; }

python=${PYTHON:-python3}
# the environment of `make`, where the system's Python has no torch
if [[ -z ${PYTHON:-} && -x $root/.venv/bin/python ]] && ! has_torch python3; then python=$root/.venv/bin/python; fi
if ! has_torch "$python"; then
  echo "gpu suite: $python has no torch; set PYTHON to one that has it" >&2
  exit 2
fi
if [[ " $* " != *" --device"* ]] && ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  echo "gpu suite: there is no GPU here (torch.cuda.is_available() is false), nothing was run"
  exit 0
fi
# in place, so that nothing outside this folder changes; the suite also runs without the compiled parts, and says what it leaves out
if [[ " $* " == *" --device cpu"* ]]; then cuda=0; else cuda=1; fi
build() { (cd "$root" && EFCN_CUDA=$1 "$python" setup.py -q build_ext --inplace 2>&1); }
if ! log=$(build $cuda); then
  echo "$log"
  if ((cuda)) && build 0 >/dev/null; then
    echo "gpu suite: the CUDA library could not be built, see above; the suite goes on without it"
  else
    echo "gpu suite: the compiled parts could not be built, see above; the suite goes on without them"
  fi
fi
exec "$python" -m benchmarks.suite "$@" --seconds "$((540 - SECONDS))"
