"""The commands, their keys and what ``--help`` prints; held against the schema by a test.

A command of two words, ``bench quality``, is one of a family that begins with the same word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["COMMANDS", "Command", "command_help", "config_name", "family", "overview"]


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Attributes:
        summary: what it does, in a line.
        keys: what it takes, with a line each; empty if it takes nothing.
        example: a command line.
    """

    summary: str
    keys: Mapping[str, str]
    example: str


_OPTIMIZER = "adamw, adam, sgd_momentum, sgd, or none to leave it out of the count"
_MEMORY = "budget per device: 8GiB, 60% (of keep-all), range:0.4; default: free memory less 5 %"
_MODEL = "a name of conf/model; custom with model.target=package.module:function is your own"
_HARDWARE = (
    "local (measured) or a name of conf/hardware; hardware.state.KEY= with free_memory, "
    "host_link_share or link_share goes before the state that is read"
)
_COST_MODEL = "auto, profiled, gnn (learned; cost_model.weights= takes your own) or roofline"
_UNITS = "module paths that begin units, as [a,b]; default: found"
_OUT = "folder of the files; default: outputs/COMMAND/DATE"
_MODE = "train, or inference: passes without gradients, loss and optimizer"
_PROMPT = "tokens of one sequence that the cache of a decoder begins with"
_GENERATED = "tokens of one sequence after the prompt, in inference"
_TRACKER = "none, csv, tensorboard or wandb (offline; online by tracker.mode=online)"

COMMANDS: Mapping[str, Command] = {
    "optimize": Command(
        "find the fastest schedule of a training step, or of a pass, within a memory budget",
        {
            "model": _MODEL,
            "memory": _MEMORY + "; sweep draws the Pareto front",
            "hardware": _HARDWARE,
            "optimizer": _OPTIMIZER,
            "world_size": "number of devices",
            "micro_batches": "parts that the batch is cut into; null leaves the number open",
            "move_state": "whether weights and optimizer state may be sharded or wait on the host; "
            "null: on several devices and in inference",
            "tensor_degree": "devices that share every layer; null tries all within a node",
            "global_batch": "whether the replicas share the batch, so that their number is part of "
            "the plan; null: on several nodes only",
            "agent": "best, or the name of one scheduler",
            "time_limit_s": "seconds of the search",
            "mode": _MODE,
            "prompt_tokens": _PROMPT + "; null: those of the example",
            "generated_tokens": _GENERATED,
            "precision": "what units may compute in besides the model's own, of [bf16,int8,fp8] as "
            "far as the device has them; changes gradients a little",
            "cost_model": _COST_MODEL,
            "units": _UNITS,
            "verify": "true runs the schedule here and compares it with the plain model",
            "verify_time_limit_s": "seconds after which that run is ended",
            "rounds": "more than 1: search, measure the best, learn from them, search again "
            "(cost_model=gnn)",
            "top_k": "schedules that are measured in every round",
            "dataset": "folder that these steps are added to; default: profiled_runs in out",
            "figures": "svg, pdf or png: writes the pictures of the report as files, too",
            "tracker": _TRACKER,
            "out": _OUT,
        },
        "remora optimize model=gpt2 model.values.batch=4 memory=range:0.5 verify=true",
    ),
    "fits": Command(
        "say whether a step, or a pass, fits, what takes the memory, and the largest batch",
        {
            "model": _MODEL,
            "memory": _MEMORY,
            "hardware": _HARDWARE,
            "optimizer": _OPTIMIZER,
            "mode": _MODE,
            "prompt_tokens": _PROMPT + "; null: those of the example",
            "generated_tokens": _GENERATED,
            "cost_model": _COST_MODEL,
            "units": _UNITS,
            "largest_batch": "false leaves the search for the largest batch out",
            "out": _OUT,
        },
        "remora fits model=llama_1b hardware=rtx4090",
    ),
    "verify": Command(
        "run a saved schedule on this machine and compare it with the plain model",
        {
            "schedule": "schedule.json, or the folder it lies in",
            "model": _MODEL + "; default: the one in estimate.json",
            "memory": _MEMORY + "; default: the one in estimate.json",
            "hardware": "local",
            "optimizer": _OPTIMIZER + "; default: the one in estimate.json",
            "world_size": "number of ranks, each a process; default: one pipeline of the schedule",
            "mode": _MODE + "; default: the one in estimate.json",
            "prompt_tokens": _PROMPT + "; default: those in estimate.json",
            "generated_tokens": "tokens after them; default: those in estimate.json",
            "cost_model": _COST_MODEL,
            "units": _UNITS,
            "allow_lossy": "true runs a schedule that compresses saved tensors",
            "time_limit_s": "seconds after which the run is ended",
            "out": _OUT,
        },
        "remora verify schedule=outputs/demo",
    ),
    "replan": Command(
        "adjust a saved plan to other free memory or link rates, in about a second",
        {
            "schedule": "folder of a plan, as optimize writes it",
            "memory": "new budget per device, as in optimize; default: the old one as far as that "
            "much is free",
            "hardware": "hardware.state.KEY= with free_memory (6GiB, 75%), host_link_share or "
            "link_share; default: read where the plan is for this machine, else as planned",
            "scope": "options keeps pipeline, cuts, micro-batches and state; all may change them",
            "time_limit_s": "seconds of the search",
            "cost_model_weights": "folder of the gnn that the plan was made with, if it is your "
            "own",
            "out": _OUT,
        },
        "remora replan schedule=outputs/demo hardware.state.free_memory=75%",
    ),
    "train-agent": Command(
        "train a policy for whole plans: imitation of searches, MaskablePPO, self-imitation",
        {
            "experiment": "a name of conf/experiment",
            "stages": "some of cloning, lookahead, ppo, rounds",
            "start": "folder of a policy to go on from",
            "labels": "problems to learn from, by labels.KEY=",
            "validation": "problems that checkpoints are chosen by, by validation.KEY=",
            "network": "sizes by network.KEY=",
            "cloning": "the imitation of searches, by cloning.KEY=",
            "ppo": "reinforcement learning, by ppo.KEY=",
            "lookahead": "learning from what other actions lead to, by lookahead.KEY= and "
            "lookahead.look.KEY=",
            "rounds": "self-imitation, by rounds.KEY= and rounds.round.KEY=",
            "evaluation": "what the policy is compared with, by evaluation.KEY=",
            "seed": "of weights and draws",
            "resume": "true goes on where the run in out stopped",
            "tracker": _TRACKER,
            "out": _OUT,
        },
        "remora train-agent experiment=policy_fast seed=1 tracker=csv",
    ),
    "train-cost-model": Command(
        "train the learned cost model on profiled runs and judge it by runs that are held out",
        {
            "dataset": "folder of profiled runs, or several as [a,b]",
            "held_out_share": "share of every family's subjects that it is judged by",
            "leave_out": "a family to be judged by instead",
            "training": "single values by training.KEY=, training.op.KEY=, training.step.KEY=",
            "resume": "true goes on from the checkpoints in out",
            "tracker": _TRACKER,
            "out": _OUT,
        },
        "remora train-cost-model dataset=outputs/profiled_runs tracker=csv",
    ),
    "bench quality": Command(
        "compare schedulers on the problems of a suite, at equal time",
        {
            "suite": "a name of conf/suite",
            "methods": "agents as [greedy,{name:local_search,evaluations:10000}]; "
            "default: [greedy,best], or [best,annealing] with update_best_known",
            "seeds": "of agents that draw random numbers; default: [0], or [0,1] likewise",
            "time_limit_s": "seconds of every run",
            "jobs": "processes at once, one thread each",
            "resume": "true goes on from the rows in out",
            "update_best_known": "true keeps schedules that are better than the best known ones",
            "best_known": "file of those; default: the one of the suite in the package",
            "out": _OUT,
        },
        "remora bench quality suite=smoke methods=[greedy,best] time_limit_s=2 out=outputs/smoke",
    ),
    "bench fidelity": Command(
        "judge cost models by measured runs of families that they have learned nothing of",
        {
            "dataset": "folder of profiled runs, or several as [a,b]",
            "families": "families to leave out, as [decoder,unet]; default: every one",
            "seeds": "of splits and trainings",
            "baseline_seeds": "seeds with which the other methods are judged",
            "held_out_share": "share of the subjects of the other families that judge too",
            "training": "single values as in train-cost-model",
            "jobs": "processes at once, one thread each",
            "resume": "true goes on from the judgements in out",
            "out": _OUT,
        },
        "remora bench fidelity families=[spectral] seeds=[0] out=outputs/fidelity",
    ),
    "bench transfer": Command(
        "judge a policy on models, hardware and sizes that it never saw, as it is and after "
        "practice",
        {
            "policy": "folder of a policy, or one that ships with the package",
            "groups": "names of conf/transfer, or mappings such as {name: mine, env: joint}",
            "problems": "problems of every group",
            "practice": "how the policy practises, by practice.KEY=",
            "fine_tune_s": "seconds of practice, for the policy and for fresh weights alike",
            "time_limit_s": "seconds of every plan",
            "reference_s": "seconds of the long search where no best schedule is known",
            "seeds": "of draws and trainings",
            "jobs": "processes at once, one thread each; practice runs alone",
            "resume": "true goes on from the rows and trained policies in out",
            "out": _OUT,
        },
        "remora bench transfer groups=[held_out,larger] problems=4 out=outputs/transfer",
    ),
    "bench peers": Command(
        "measure what PyTorch offers against memory beside Remora at equal peaks, and solve the "
        "problems of other planners on the same costs",
        {
            "models": "names of conf/model, as [gpt2_tiny,vit_tiny]",
            "ranges": "budgets of the problems, from 0 (least) to 1 (keeping all)",
            "time_limit_s": "seconds of every search",
            "repetitions": "timed steps of every run",
            "costs": "of Remora's plans: profiled or roofline",
            "out": _OUT,
        },
        "remora bench peers models=[gpt2_tiny] out=outputs/peers",
    ),
    "profile": Command(
        "measure operators, units and steps of models here and add them to a dataset",
        {
            "subjects": "a name of conf/subjects",
            "model": _MODEL + "; takes the place of subjects",
            "family": "group of architectures that the model belongs to",
            "batches": "batches of the model, as [2,8]; default: its own",
            "dtypes": "number formats of the model, as [float32,bfloat16]; default: its own",
            "dataset": "folder of the dataset, which grows; default: profiled_runs in out",
            "schedules": "schedules to run per subject",
            "repetitions": "timed runs of a unit, and of a step in each of two passes",
            "optimizer": _OPTIMIZER,
            "threads": "of PyTorch; null leaves them",
            "seed": "of weights, schedules and the order of the subjects",
            "round": "another number measures again what is there",
            "part": "which part of the subjects to measure, for several machines",
            "parts": "number of parts",
            "subject_time_limit_s": "seconds after which the process of a subject is ended",
            "time_limit_s": "no subject is begun later; null for no limit",
            "tracker": _TRACKER,
            "out": _OUT,
        },
        "remora profile subjects=zoo_small threads=1 dataset=outputs/profiled_runs",
    ),
    "completion bash": Command(
        "print what completes commands, keys and names in bash",
        {},
        "remora completion bash > ~/.remora-completion.bash",
    ),
    "completion zsh": Command(
        "print the same for zsh",
        {},
        "remora completion zsh > ~/.remora-completion.zsh",
    ),
    "doctor": Command(
        "show what is installed, which accelerators there are, and what is missing for what",
        {},
        "remora doctor",
    ),
}


def config_name(command: str) -> str:
    """Return the name of a command's configuration and module."""
    return command.replace("-", "_").replace(" ", "_")


def family(word: str) -> tuple[str, ...]:
    """Return the second words that a first word allows; empty for a command of one word."""
    return tuple(name.split()[1] for name in COMMANDS if name.startswith(f"{word} "))


def overview() -> str:
    """Return the help of the whole program."""
    width = max(len(name) for name in COMMANDS)
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: remora COMMAND [WORD] [key=value ...] [-m] [-v]",
            "",
            *lines,
            "",
            "remora COMMAND --help lists the keys of a command.",
            "-m runs every combination of comma-separated values (Hydra's multirun);",
            "-v shows tracebacks and what is logged.",
        ]
    )


def command_help(name: str) -> str:
    """Return the help of one command, a key of ``COMMANDS``."""
    command = COMMANDS[name]
    lines = [f"remora {name}: {command.summary}", ""]
    width = max((len(key) for key in command.keys), default=0)
    lines += [f"  {key:<{width}}  {text}" for key, text in command.keys.items()]
    return "\n".join([*lines, "", f"example: {command.example}"])
