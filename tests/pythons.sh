#!/usr/bin/env bash
# Each version of Python that pyproject.toml promises: what the extras need, at the versions of
# constraints.txt, can be had as wheels (uv resolves for an interpreter that is not there); and for
# each interpreter named, the demo runs:
#
#     tests/pythons.sh                                  # resolve: a minute, the package index
#     tests/pythons.sh python3.10 /opt/py313/bin/python # and install into build/pythons, and run
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build/pythons
for version in 3.10 3.11 3.12 3.13 3.14; do
  for extras in cpu,train,test,bench,live,fidelity,video,gl,examples,hub,spandrel,scale,serve gpu gpu,test; do
    options=()
    for extra in ${extras//,/ }; do options+=(--extra "$extra"); done
    uv pip compile --quiet pyproject.toml "${options[@]}" --constraint constraints.txt \
      --python-version "$version" --python-platform x86_64-manylinux_2_28 --only-binary :all: \
      --output-file "build/pythons/$version-${extras//,/-}.txt" > /dev/null
    echo "Python $version: $extras resolved"
  done
done
for python in "$@"; do
  venv="build/pythons/venv-$(basename "$(dirname "$(dirname "$python")")")-$(basename "$python")"
  make demo PYTHON="$python" VENV="$venv"
  echo "$python: made out/grid.png"
done
