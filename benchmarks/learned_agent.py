"""The learned policy on architectures that it never saw, against other schedulers.

Run `python benchmarks/learned_agent.py [policy=NAME_OR_FOLDER] [experiment=NAME] [out=FOLDER]`;
writes `learned_agent.json` and `learned_agent.md` there (default `benchmarks/results`). The
problems are those of the experiment's evaluation: models of the zoo with roofline costs.
"""

import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

PACKAGES = ("torch", "torch-geometric", "stable-baselines3", "sb3-contrib", "gymnasium", "numpy")


def policy_folder(name: str) -> Path:
    """A folder as given, or a policy that ships with the package."""
    from remora.agents.learned.policy_files import pretrained_path

    return Path(name) if Path(name).is_dir() else pretrained_path(name)


def run(policy: str, experiment: str) -> dict[str, Any]:
    """Compare on every problem; rows hold step time over keep-all, less 1."""
    from remora.agents.learned.comparison import (
        GREEDY_DECODE,
        NO_DECISIONS,
        SAMPLED_DECODE,
        UNTRAINED,
        summarise,
    )
    from remora.agents.learned.policy_files import load_policy
    from remora.api.train_agent import compare_policy, experiment_config

    network, card = load_policy(policy_folder(policy))
    config = experiment_config(experiment)
    rows = []
    for row in compare_policy(network, config):
        rows.append(row)
        print(row.case, row.share, {n: r.overhead for n, r in row.results.items()}, flush=True)
    summaries = {}
    for model in config.evaluation.models:
        own = [row for row in rows if row.case.split("/")[0] == model]
        for decode in (GREEDY_DECODE, SAMPLED_DECODE):
            for other in (NO_DECISIONS, UNTRAINED, *config.evaluation.schedulers):
                summaries[f"{model}: {decode} over {other}"] = summarise(own, decode, other)
    return {
        "command": " ".join(["python", "benchmarks/learned_agent.py", *sys.argv[1:]]),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread",
        "versions": {"python": platform.python_version(), **{n: version(n) for n in PACKAGES}},
        "trained_on": card.get("config", {}).get("env", {}),
        "evaluation": asdict(config.evaluation),
        "summaries": summaries,
        "rows": [asdict(row) for row in rows],
    }


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def percent(value: float | None) -> str:
    """A share as percent; a dash where there is none."""
    return "-" if value is None else f"{100 * value:.1f}"


def markdown(result: dict[str, Any]) -> str:
    """The result as a page."""
    names = list(result["rows"][0]["results"])
    problems = table(
        ["model / hardware", "range", *(f"{name} %" for name in names)],
        [
            [
                row["case"].replace("/", " / "),
                f"{row['share']:g}",
                *(percent(row["results"][name]["overhead"]) for name in names),
            ]
            for row in result["rows"]
        ],
    )
    summaries = table(
        ["pair", "problems", "at least as fast %", "median gap %", "mean gap %", "worst gap %"],
        [
            [
                name,
                str(values["problems"]),
                *(percent(values[key]) for key in ("at_least_as_fast", "median_gap")),
                *(percent(values[key]) for key in ("mean_gap", "worst_gap")),
            ]
            for name, values in result["summaries"].items()
            if values
        ],
    )
    means = {
        name: fmean(row["results"][name]["search_s"] for row in result["rows"]) for name in names
    }
    seconds = ", ".join(f"{name} {mean:.2f}" for name, mean in means.items())
    trained = ", ".join(result["trained_on"].get("models", []))
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    random_plans = result["evaluation"]["random_plans"]
    samples = result["evaluation"]["samples"]
    return f"""# Learned policy on unseen architectures

`{result["command"]}`, {result["date"]}. Trained on: {trained}. Costs: roofline.

`learned_greedy` takes the policy's likeliest decision at every unit; `learned_samples` is the best
of that and {samples} drawn plans; `random` the best of {random_plans} random plans; `greedy` has
its clean-up; `ladder` is the environment's own completion of no decisions, from which every
episode starts; `untrained` the greedy decode of the network before training, which follows the
simulated outlook of each decision only. A gap below 0 means that the policy's plan is faster.

## Pairs

{summaries}

## Step time over keeping everything

{problems}

Mean search seconds per problem: {seconds}.
Those of the policy leave out what is worked out when its episode begins (ladders
and the polished rung), which costs some hundred simulations.

{versions}; {result["machine"]}.
"""


def main() -> None:
    """Run and write both files."""
    values = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
    out = Path(values.get("out", Path(__file__).parent / "results"))
    result = run(values.get("policy", "default"), values.get("experiment", "learned_small"))
    out.mkdir(parents=True, exist_ok=True)
    (out / "learned_agent.json").write_text(json.dumps(result, indent=1) + "\n")
    (out / "learned_agent.md").write_text(markdown(result))
    print(markdown(result))


if __name__ == "__main__":
    main()
