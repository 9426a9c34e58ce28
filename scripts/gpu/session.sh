#!/usr/bin/env bash
# Everything that is measured on a GPU host, stage by stage: scripts/gpu/session.sh RESULTS STAGE...
#
# Each stage writes its log and run records below RESULTS, and a stage that fails or takes too long stops no other.
# RESULTS/baselines is where runs are accepted and gated; it starts as a copy of this checkout's.
set -uo pipefail
results=$(mkdir -p "$1" && cd "$1" && pwd); shift
cd "$(dirname "$0")/../.."
# Installed, not taken from the tree: configurations, data and entry points belong to the package. Anew each time, as the
# checkout may have changed; build/ would keep files that are no longer there.
site=$(mktemp -d)
rm -rf build
python3 -m pip install --quiet --no-deps --no-build-isolation --no-index --target "$site" . || exit 1
rm -rf build
export ENGINEGATE_CACHE=${ENGINEGATE_CACHE:-/tmp/enginegate-cache} PYTHONPATH=$site:${PYTHONPATH:-} PYTHONUNBUFFERED=1
export HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis
[ -e "$results/baselines" ] || cp -r baselines "$results/baselines"

timed() { # NAME SECONDS COMMAND...
  local name=$1 limit=$2 start=$SECONDS; shift 2
  timeout -k 90 "$limit" "$@" > "$results/$name.log" 2>&1
  echo "$name: code $? after $((SECONDS - start)) s" | tee -a "$results/stages.txt"
}
suite() { # NAME SECONDS ARGUMENTS...
  local name=$1 limit=$2; shift 2
  timed "$name" "$limit" python3 -m pytest -p no:cacheprovider "$@" --runs "$results/runs-$name" \
    --baselines "${baselines:-$results/baselines}" --no-require-baseline -rA
}
build() { # MODEL PRECISIONS
  OMP_NUM_THREADS=6 timed "build-$1-$2" 500 python3 -m enginegate engines build --engine vllm --model "$1" --precision "$2"
}
variant() { # MODEL NAME CHANGES...: writes that configuration and names it
  local model=$1 file=$results/configs/$2.yaml; shift 2
  mkdir -p "$results/configs"; ln -sfn "$PWD/fixtures" "$results/fixtures"
  rm -f "$file"
  python3 scripts/gpu/variant.py "configs/$model.yaml" "$file" "$@"
  echo "$file"
}
fixed() { # MODEL BLOCKS: with one look, after that many blocks; a first session has nothing to beat
  variant "$1" "$1" "gates.speed.looks=[$2]"
}
# Memory at the larger batch alone: the KV pool has one size, and each pass loads an engine anew.
once='not (test_memory and b1-)'

for stage in "$@"; do
  case $stage in
    facts) timed facts 60 python3 -m enginegate doctor ;;
    build) # the small models, side by side: nothing is timed meanwhile
      build smollm2-135m fp16,bf16,fp8,int8_wo & build smollm2-135m int4_awq & build smollm2-135m int4_gptq,w8a8_sq &
      build tinyllama-1.1b-random fp16,int8_wo,int4_wo &
      build gpt2-random fp16 & build distilgpt2-random fp16 &
      wait ;;
    build:*) build "${stage#build:}" fp16,int8_wo,int4_wo ;; # a large one, alone: quantizing it takes much memory
    smoke) timed smoke 400 python3 scripts/gpu/smoke.py --precisions fp16,int4_awq --backends vllm ;;
    static) timed static 200 python3 scripts/gpu/smoke.py --precisions fp16 --backends hf,hf-static ;;
    check) # does everything work on this card? some five minutes
      build smollm2-135m fp16,int8_wo
      suite check 300 tests_perf --engine vllm --precision fp16,int8_wo --batch-size 1 --time-budget 60
      suite check-quality 200 tests_quality --engine vllm --precision int8_wo -k "perplexity or letters" ;;
    techniques:*) # one model, with prompts longer than a chunk: seven engines are loaded, two at a time; some five minutes
      model=${stage#techniques:}
      suite "techniques-$model" 600 tests_perf -m techniques --engine vllm --precision fp16 \
        --config "$(variant "$model" "techniques-$model" limits.max_input_len=1536 limits.max_output_len=256)" ;;
    quality) suite quality 600 tests_quality --engine vllm ;;
    smollm) suite smollm 600 tests_perf --config "$(fixed smollm2-135m 24)" --engine vllm --time-budget 150 \
        -k "$once and not (test_memory and (bf16 or fp8 or gptq or w8a8))"
      timed accept-smollm 60 python3 -m enginegate accept latest --runs "$results/runs-smollm" --baselines "$results/baselines" ;;
    smollm-again) suite smollm-again 400 tests_perf --engine vllm -k "not test_memory" --time-budget 90 ;;
    memory) suite memory 300 tests_perf/test_memory.py --engine vllm --precision fp16,int8_wo,int4_awq -k "$once" ;;
    slowed) # two of three slowed by 5 and 2 %: the first must FAIL, the last must not
      SLOWED=smollm2-135m-vllm-fp16=0.05,smollm2-135m-vllm-int8_wo=0.02 PYTHONPATH=scripts/gpu:$PYTHONPATH \
        suite slowed 200 -p slowed tests_perf/test_speedup.py --engine vllm --precision fp16,int8_wo,w8a8_sq --batch-size 1 ;;
    wrong) timed wrong 200 python3 scripts/gpu/wrong_precision.py ;;
    audit) suite audit 400 tests_perf --engine vllm --precision fp16 --batch-size 1 --gate-audit --time-budget 150 ;;
    overhead) # int8_wo, as the card holds it up: fp16 is the host's, and a pair tells little
      timed overhead 400 python3 scripts/measure_overhead.py --engine vllm --precision int8_wo --child --pairs 60 ;;
    steadiness) timed steadiness 200 python3 scripts/gpu/steadiness.py ;;
    tinyllama) suite tinyllama 600 tests_perf --config "$(fixed tinyllama-1.1b-random 24)" --engine vllm,hf-static \
        --time-budget 170 -k "$once and not (test_memory and static) and not test_latency" ;;
    llama) suite llama 700 tests_perf --config "$(fixed llama-2-7b-random 16)" --engine vllm --time-budget 120 \
        -k "$once and not test_latency" ;;
    phi) suite phi 500 tests_perf --config "$(fixed phi-2-random 16)" --engine vllm -k "not test_latency" --time-budget 40 ;;
    gpt2 | distilgpt2) suite "$stage" 300 tests_perf --config "$(fixed "$stage-random" 16)" --engine vllm -k "not test_latency" \
        --time-budget 25 ;;
    steady | steady-again | steady-slowed | steady-audit) # gated by a reference that the GPU holds up, and a tighter gate
      # Baselines and floors belong to one reference, so it has none of the others'. What is not slowed is accepted, and
      # judges the stages after it.
      baselines=$results/baselines-steady
      steady=$(variant smollm2-135m steady reference.backend=hf-graph reference.precision=fp16 'gates.speed.looks=[40]' \
        gates.speed.margin=0.01 gates.speed.tolerated=0.03 gates.speed.shift.itl=0.003 floors={})
      speed=(tests_perf/test_speedup.py tests_perf/test_latency.py --config "$steady" --engine vllm
        --precision int8_wo,int4_awq --batch-size 1 --time-budget 90)
      case $stage in
        steady-slowed)
          SLOWED=smollm2-135m-vllm-int8_wo=0.05,smollm2-135m-vllm-int4_awq=0.03 PYTHONPATH=scripts/gpu:$PYTHONPATH \
            suite "$stage" 300 -p slowed "${speed[@]}" ;;
        steady-audit) suite "$stage" 300 tests_perf --config "$steady" --engine vllm --precision int8_wo --batch-size 1 \
            --gate-audit --time-budget 120 ;;
        *) suite "$stage" 300 "${speed[@]}"
          timed "accept-$stage" 60 python3 -m enginegate accept latest --runs "$results/runs-$stage" --baselines "$baselines"
          timed "power-$stage" 60 python3 -m enginegate power latest --runs "$results/runs-$stage" --metric itl ;;
      esac
      baselines= ;;
    live:*) # live:PRECISION:LAUNCHES: against a copy of vLLM unpacked apart (LIVE_COPY), so many launches, no early look
      IFS=: read -r _ precision launches <<< "$stage"
      printf '#!/bin/sh\nPYTHONPATH="$PYTHONPATH:%s/site" exec python3 "$@"\n' "$LIVE_COPY" > "$LIVE_COPY/python"
      chmod +x "$LIVE_COPY/python"
      live=$(variant smollm2-135m live "gates.live.looks=[$launches]")
      timed "live-$precision" "${LIVE_LIMIT:-540}" python3 -m enginegate duet --base "python:$LIVE_COPY/python" \
        --config "$live" --engine vllm --precision "$precision" --time-budget 600 --runs "$results/runs-live-$precision"
      for metric in itl speedup ttft; do
        timed "power-$precision-$metric" 60 python3 -m enginegate power latest --runs "$results/runs-live-$precision" \
          --metric "$metric" --margin 0
      done ;;
    two-workers) # a model each, and a card each
      suite "$stage" 400 tests_perf/test_speedup.py tests_perf/test_memory.py -n 2 --dist loadgroup --engine vllm \
        --model gpt2-random,distilgpt2-random --time-budget 30 ;;
    two-cards) # one engine over both, without NVLink multicast, which not every host allows
      NCCL_NVLS_ENABLE=0 TORCH_SYMM_MEM_DISABLE_MULTICAST=1 NVSHMEM_DISABLE_NVLS=1 VLLM_ALLREDUCE_USE_SYMM_MEM=0 \
        suite "$stage" 400 tests_perf/test_speedup.py tests_perf/test_memory.py --engine vllm --time-budget 30 \
        --config "$(variant gpt2-random two-cards model.name=gpt2-two-cards limits.tensor_parallel=2 'gates.speed.looks=[12]')" ;;
    profile:*) # profile:MODEL, or profile:MODEL:LAYERS for as many layers of a random: model, which is built here
      IFS=: read -r _ model layers <<< "$stage"
      if [ -n "$layers" ]; then
        model=$(variant "$model" "$model-$layers-layers" "model.name=$model-$layers-layers" \
          "model.source=random:${model%-random}?seed=0&layers=$layers")
      fi
      for precision in fp16 int8_wo int4_wo; do
        timed "profile-$(basename "$model" .yaml)-$precision" 200 python3 scripts/gpu/kernels.py --model "$model" \
          --precision "$precision"
      done ;;
    *) echo "no stage $stage" >&2; exit 2 ;;
  esac
done
