#!/usr/bin/env bash
# Everything that only a machine with a GPU can check, in under eight minutes: bash benchmarks/gpu.sh
# DEVICE=cpu tries the script itself; EPOCHS=1 shortens it. Ends with 1 where a step failed, and says which.
set -uo pipefail
cd "$(dirname "$0")/.."
DEVICE=${DEVICE:-cuda} EPOCHS=${EPOCHS:-8} PYTHON=${PYTHON:-.venv/bin/python}
ROOT=$(mktemp -d)
trap 'rm -rf "$ROOT"' EXIT
failed=()

step() {  # NAME COMMAND...: runs it, prints its last lines and its seconds
  local name=$1 began=$SECONDS
  shift
  if "$@" >"$ROOT/log" 2>&1; then echo "== $name: passed, $((SECONDS - began)) s"; else
    echo "== $name: FAILED, $((SECONDS - began)) s"
    failed+=("$name")
  fi
  tail -n 12 "$ROOT/log" | tr '\r' '\n' | tail -n 12
}

kd() { "$PYTHON" -m kd "$@" --root "$ROOT"; }
run_of() { kd runs --json | tail -n 1 | "$PYTHON" -c "
import json, sys
print(next(one['run'] for one in json.load(sys.stdin)['runs'] if '-$1' in one['run']))"; }

set_up=(--data phantom-brain:count=400 --image-size 96 --epochs "$EPOCHS" --device "$DEVICE")
precisions=(32-true bf16-mixed 16-mixed)
[ "$DEVICE" = cpu ] && precisions=(32-true)

[ "$DEVICE" = cuda ] && nvidia-smi --query-gpu=name,memory.total --format=csv,noheader
step "interrupted, resumed and mixed precision" "$PYTHON" -m benchmarks.gpu_check --device "$DEVICE" --precisions "${precisions[@]}"
step "teacher, control, student" kd distill "${set_up[@]}" --teacher resnet18 --depth 5 --width 16
teacher=$(run_of resnet18)
step "another student, of kept teacher outputs" kd distill "${set_up[@]}" --teacher "$teacher" --depth 5 --width 8
step "an explained student" kd distill "${set_up[@]}" --teacher "$teacher" --depth 3 --width 8 --method medtex --mask-area 0.2 --mask-target sensitivity
step "the teacher's maps" "$PYTHON" -m benchmarks.gpu_maps "$teacher" --device "$DEVICE" --root "$ROOT"
step "the student's maps" "$PYTHON" -m benchmarks.gpu_maps "$(run_of plain5w8-kd)" --device "$DEVICE" --root "$ROOT"
step "export" kd export "$(run_of plain5w8-kd)" --int8
if [ "$DEVICE" = cuda ] && [ "$("$PYTHON" -c 'import torch; print(torch.cuda.device_count())')" -ge 2 ]; then
  step "two processes" .venv/bin/torchrun --nproc_per_node 2 -m kd train "${set_up[@]}" --model plain --depth 3 --root "$ROOT"
fi

if [ ${#failed[@]} -gt 0 ]; then
  echo "Failed: ${failed[*]}"
  exit 1
fi
echo "All passed in $SECONDS s."
