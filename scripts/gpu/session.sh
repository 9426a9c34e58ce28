#!/usr/bin/env bash
# Everything that is measured on a GPU host, stage by stage: scripts/gpu/session.sh RESULTS STAGE...
#
# Each stage writes its log and run records below RESULTS, and a stage that fails or takes too long stops no other.
# Stages: facts smoke smollm tinyllama profile overhead audit llama phi gpt2 distilgpt2 wrong
set -uo pipefail
results=$(mkdir -p "$1" && cd "$1" && pwd); shift
cd "$(dirname "$0")/../.."
export ENGINEGATE_CACHE=${ENGINEGATE_CACHE:-/tmp/enginegate-cache} PYTHONPATH=$PWD:${PYTHONPATH:-} PYTHONUNBUFFERED=1
export HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis

timed() { # NAME SECONDS COMMAND...
  local name=$1 limit=$2 start=$SECONDS; shift 2
  timeout "$limit" "$@" > "$results/$name.log" 2>&1
  echo "$name: code $? after $((SECONDS - start)) s" | tee -a "$results/stages.txt"
}
suite() { # NAME SECONDS ARGUMENTS...
  local name=$1 limit=$2; shift 2
  timed "$name" "$limit" python3 -m pytest -p no:cacheprovider "$@" --runs "$results/runs-$name" --no-require-baseline -rA
}

for stage in "$@"; do
  case $stage in
    facts) timed facts 60 python3 -m harness doctor ;;
    smoke) timed smoke 400 python3 scripts/gpu/smoke.py --precisions fp16,int4_awq --backends vllm ;;
    smoke-all) timed smoke-all 600 python3 scripts/gpu/smoke.py \
        --precisions bf16,fp8,int8_wo,int4_gptq,w8a8_sq --backends vllm ;;
    static) timed static 200 python3 scripts/gpu/smoke.py --precisions fp16 --backends hf,hf-static ;;
    # Memory at the larger batch alone: the KV pool has one size, and each pass loads an engine anew.
    smollm) suite smollm 1200 tests_perf tests_quality --engine vllm -k "not (test_memory and b1-)" ;;
    smollm-perf) suite smollm-perf 900 tests_perf --engine vllm ;;
    smollm-static) suite smollm-static 400 tests_perf --engine vllm,hf-static --precision fp16 ;;
    prepare) timed prepare 300 nice -n 19 python3 -m harness engines build --model tinyllama-1.1b-random --engine vllm ;;
    tinyllama) suite tinyllama 700 tests_perf --model tinyllama-1.1b-random --engine vllm -k "not (test_memory and b1-)" ;;
    tinyllama-static) suite tinyllama-static 400 tests_perf --model tinyllama-1.1b-random --engine hf-static ;;
    profile)
      for precision in fp16 int8_wo int4_wo; do
        timed "profile-$precision" 200 python3 scripts/gpu/kernels.py --precision "$precision"
      done ;;
    overhead) timed overhead 300 python3 scripts/gpu/overhead.py ;;
    audit) suite audit 400 tests_perf --engine vllm --precision fp16 --batch-size 1 --gate-audit --baselines "$results/audit-baselines" ;;
    wrong) timed wrong 200 python3 scripts/gpu/wrong_precision.py ;;
    llama) suite llama 900 tests_perf --model llama-2-7b-random --engine vllm ;;
    phi) suite phi 600 tests_perf --model phi-2-random --engine vllm ;;
    gpt2 | distilgpt2) suite "$stage" 400 tests_perf --model "$stage-random" --engine vllm ;;
    *) echo "no stage $stage" >&2; exit 2 ;;
  esac
done
