#!/usr/bin/env bash
# Install a wheel into an environment of its own, outside the checkout, and use it as a stranger would.
# Usage: try_wheel.sh PYTHON "TORCH_REQUIREMENT" WHEEL [FOLDER]; FOLDER is kept, and used again.
set -euo pipefail
python=$1 torch=$2 wheel=$(realpath "$3") folder=${4:-}
extras=${REMORA_WHEEL_EXTRAS-solvers}

if [ -z "$folder" ]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
fi
mkdir -p "$folder"
cd "$folder"
unset PYTHONPATH
[ -x env/bin/python ] || "$python" -m venv env
pip=(env/bin/python -m pip install --quiet --no-input)
read -r -a words <<< "$torch"
# torch comes first, in the build that is wanted here.
"${pip[@]}" "${words[@]}"
"${pip[@]}" --force-reinstall --no-deps "$wheel"
"${pip[@]}" "$wheel${extras:+[$extras]}"

for tool in pytest ruff mypy hypothesis import_linter mkdocs build; do
    if env/bin/python -c "import $tool" 2> /dev/null; then
        echo "a dev tool came with the wheel: $tool" >&2
        exit 1
    fi
done

cat > own.py <<'PYTHON'
import torch
from torch import nn


def build(width: int = 64, batch: int = 512):
    layers = [nn.Sequential(nn.Linear(width, width), nn.Tanh()) for _ in range(6)]
    return nn.Sequential(*layers), (torch.randn(batch, width),)
PYTHON

env/bin/python - <<'PYTHON'
from importlib.resources import files

import remora

assert "site-packages" in remora.__file__, remora.__file__
package = files("remora")
for name in (
    "py.typed",
    "conf/model/gpt2.yaml",
    "conf/suite/smoke.yaml",
    "conf/suite/best_known",
):
    assert package.joinpath(name).is_file() or package.joinpath(name).is_dir(), name
weights = [path for path in __import__("pathlib").Path(str(package)).rglob("*.safetensors")]
assert len(weights) >= 2, weights
PYTHON

remora=env/bin/remora
"$remora" --version
"$remora" doctor
"$remora" optimize model=custom model.target=own:build memory=range:0.3 agent=greedy out=run
"$remora" verify schedule=run model=custom model.target=own:build
"$remora" optimize model=custom model.target=own:build hardware=4xa100 world_size=2 \
    memory=range:0.5 agent=greedy out=cluster
"$remora" optimize model=custom model.target=own:build cost_model=gnn memory=range:0.4 \
    agent=greedy out=learned
"$remora" completion bash | grep -q "complete -F _remora remora"
for file in run/schedule.json run/report.html cluster/timeline.png learned/estimate.json; do
    [ -s "$file" ] || { echo "$file was not written" >&2; exit 1; }
done
echo "the wheel works outside the checkout"
