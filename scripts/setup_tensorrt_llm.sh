#!/usr/bin/env bash
# Checks driver, GPU and Python, then installs TensorRT-LLM and ModelOpt into the Python that $PYTHON names.
#
#   scripts/setup_tensorrt_llm.sh                      install 1.2.1, the last release with TensorRT engines
#   scripts/setup_tensorrt_llm.sh --version 1.3.0rc5   install another one (trtllm-torch alone from 1.3 on)
#   scripts/setup_tensorrt_llm.sh --check              check, install nothing
#
# NVIDIA's container is the surer way (docs/tensorrt-llm.md): it brings MPI and CUDA in the versions that fit.
set -euo pipefail

VERSION=1.2.1
CHECK_ONLY=0
PYTHON=${PYTHON:-python3}
MIN_CAPABILITY=8.0
MIN_DRIVER=550

fail() {
    echo "setup_tensorrt_llm: $1" >&2
    echo "  hint: $2" >&2
    exit 1
}

while [ $# -gt 0 ]; do
    case "$1" in
        --version) VERSION=${2:?--version needs a value}; shift 2 ;;
        --check) CHECK_ONLY=1; shift ;;
        -h | --help) sed -n '2,8p' "$0" | cut -c3-; exit 0 ;;
        *) fail "unknown option $1" "see --help" ;;
    esac
done

command -v nvidia-smi >/dev/null 2>&1 ||
    fail "nvidia-smi is not found, so no NVIDIA driver is visible" \
        "install the driver, or start the container with --gpus all"

gpus=$(nvidia-smi --query-gpu=name,compute_cap,driver_version,memory.total --format=csv,noheader,nounits) ||
    fail "nvidia-smi does not answer: $gpus" "see dmesg and reload the driver"
[ -n "$gpus" ] || fail "the driver shows no GPU" "check the container's --gpus and CUDA_VISIBLE_DEVICES"

while IFS=, read -r name capability driver memory; do
    capability=${capability// /}
    driver=${driver// /}
    echo "found $name, compute capability $capability, driver $driver,${memory} MiB"
    awk -v have="$capability" -v need="$MIN_CAPABILITY" 'BEGIN { exit !(have + 0 >= need + 0) }' ||
        fail "$name has compute capability $capability, TensorRT-LLM needs $MIN_CAPABILITY" "use an Ampere GPU or newer"
    [ "${driver%%.*}" -ge "$MIN_DRIVER" ] ||
        fail "driver ${driver%%.*} is too old for CUDA 12.4 and later, needed is $MIN_DRIVER" "update the driver"
    awk -v have="$capability" 'BEGIN { exit !(have + 0 < 8.9) }' && echo "  fp8 and an fp8 KV cache need 8.9: not on this one"
    awk -v have="$capability" 'BEGIN { exit !(have + 0 < 10.0) }' && echo "  nvfp4 needs 10.0: not on this one"
done <<<"$gpus"

"$PYTHON" - <<'CHECK' || fail "this Python does not fit" "use 64-bit CPython 3.10 or 3.12 on Linux; set PYTHON to it"
import platform, sys
fits = sys.version_info[:2] >= (3, 10) and platform.system() == "Linux" and platform.machine() in ("x86_64", "aarch64")
print(f"found Python {platform.python_version()} on {platform.system()} {platform.machine()}")
sys.exit(0 if fits else 1)
CHECK

echo "checks passed"
[ "$CHECK_ONLY" = 1 ] && exit 0

if command -v apt-get >/dev/null 2>&1 && ! ldconfig -p | grep -q 'libmpi\.so'; then
    echo "note: OpenMPI is missing; install it with: apt-get install -y libopenmpi-dev"
fi
"$PYTHON" -m pip install "tensorrt_llm==$VERSION" nvidia-modelopt --extra-index-url https://pypi.nvidia.com
"$PYTHON" -c 'import tensorrt_llm; print("TensorRT-LLM", tensorrt_llm.__version__)'
