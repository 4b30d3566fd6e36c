#!/usr/bin/env bash
# What a GPU does with all of this: tests, Fisher kernels, the demo, CIFAR-10 with ResNet-18, one
# GPU shared by several workers. Under nine minutes on one H100; no network; nothing is installed
# outside OUT. Each part has its own limit, so that one that hangs costs the others nothing.
#
#   benchmarks/gpu_report.sh DATA OUT            DATA holds CIFAR-10 (Parquet or torchvision's files)
#   benchmarks/gpu_report.sh DATA OUT --smallest on the CPU, one epoch of little: does the script work?
#
# Needs a python3 with PyTorch >= 2.11, timm and what pyproject.toml lists (pydantic, platformdirs,
# docstring-parser may come from a folder of wheels on PYTHONPATH).
set -uo pipefail
data=${1:?usage: benchmarks/gpu_report.sh DATA OUT [--smallest]}
out=${2:?usage: benchmarks/gpu_report.sh DATA OUT [--smallest]}
mkdir -p "$out" && out=$(cd "$out" && pwd) && data=$(cd "$data" && pwd) || exit 1
cd "$(dirname "$0")/.."

device=cuda model=resnet18 patience=1 methods=finetune,pbu,salun,ssd,scrub seeds=3 epochs=4 demo=all rounds=5 workers="1 4"
kinds="resnet18:true resnet18:empirical vit_tiny:true mobilenetv3:true" marker=gpu
if [ "${3:-}" = --smallest ]; then
  device=cpu model=lenet patience=5 methods=finetune seeds=1 epochs=1 demo=pbu rounds=1 workers="1 2"
  kinds="test_resnet:empirical" marker="not gpu and not thorough and not heavy"
fi

export UNLEARN_BENCH_HOME="$out/home" PYTHONUNBUFFERED=1
python3 -m pip install -q --no-index --no-deps --no-build-isolation --target "$out/site" . || exit 1
export PYTHONPATH="$out/site${PYTHONPATH:+:$PYTHONPATH}"
ub() { python3 -m unlearn_bench "$@"; }

failed=0
part() { # part NAME SECONDS COMMAND...: run it, keep what it says, note how it ended
  local name=$1 limit=$2 start=$SECONDS code
  shift 2
  printf '\n== %s\n' "$name"
  # A function of this script cannot be given to timeout; a copy of the shell that knows it can.
  timeout --kill-after 10 $((patience * limit)) bash -c "$(declare -f ub); \"\$@\"" - "$@" > "$out/$name.log" 2>&1
  code=$?
  tail -n 4 "$out/$name.log"
  printf '| %s | %s | %s |\n' "$name" "$((SECONDS - start))" "$code" >> "$out/parts.md"
  [ $code = 0 ] || failed=1
}

printf '| part | seconds | exit code |\n|---|---:|---:|\n' > "$out/parts.md"
python3 - "$device" > "$out/machine.md" << 'END'
import platform, sys
import timm, torch
on_gpu = sys.argv[1] == "cuda"
name = torch.cuda.get_device_name() if on_gpu else platform.processor() or "CPU"
memory = f", {torch.cuda.get_device_properties(0).total_memory / 2**30:.0f} GiB" if on_gpu else ""
print(f"{name}{memory}; torch {torch.__version__}, timm {timm.__version__}, "
      f"Python {platform.python_version()}")
END
cat "$out/machine.md"

part tests 120 python3 -m pytest -q -p no:cacheprovider -m "$marker" \
  tests/fisher/test_triton.py tests/measure/test_clock.py tests/data/test_batches.py
for each in $kinds; do
  part "fisher-${each/:/-}" 40 ub fisher --model "${each%%:*}" --kind "${each##*:}" \
    --rounds "$rounds" --device "$device"
done
part demo 150 ub run --methods "$demo" --seeds 1 --device "$device" --workers 4 --out "$out/demo"
for count in $workers; do
  # A store of its own for each: what the first left would spare the second its work.
  UNLEARN_BENCH_HOME="$out/home-$count"
  part "shared-by-$count" 60 ub run --methods "$methods" --seeds 1 --device "$device" \
    --workers "$count" --out "$out/shared-$count"
done
UNLEARN_BENCH_HOME="$out/home"
part cifar10 180 ub run cifar10 --data-root "$data" --model "$model" --forget class:3 --methods "$methods" \
  --seeds "$seeds" --epochs "$epochs" --device "$device" --workers 3 --out "$out/cifar10"

{
  echo "# On $(cat "$out/machine.md")"
  echo
  echo "\`benchmarks/gpu_report.sh DATA OUT${3:+ $3}\`"
  echo
  cat "$out/parts.md"
  for log in "$out"/fisher-*.log; do printf '\n```\n%s\n```\n' "$(cat "$log")"; done
  for folder in demo cifar10; do
    [ -f "$out/$folder/records.parquet" ] || continue
    printf '\n## %s: peak memory by method\n\n' "$folder"
    python3 - "$out/$folder/records.parquet" << 'END'
import sys
import pandas as pd
found = pd.read_parquet(sys.argv[1])
found = found[found["metric"].isin(("wall_seconds", "gpu_seconds", "peak_bytes"))]
table = found.pivot_table(index="method", columns="metric", values="value")
if "peak_bytes" in table:
    table["peak_bytes"] /= 2**20
    table = table.rename(columns={"peak_bytes": "peak MiB"})
names = [str(name) for name in table.columns]
print("| method | " + " | ".join(names) + " |\n|---|" + "---:|" * len(names))
for method, row in table.iterrows():
    print(f"| {method} | " + " | ".join(f"{value:.2f}" for value in row) + " |")
END
  done
} > "$out/README.md"
printf '\n%s: written in %s s\n' "$out/README.md" "$SECONDS"
exit $failed
