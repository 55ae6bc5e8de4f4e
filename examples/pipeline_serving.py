"""Plan passes of a small decoder for two ranks, save the plan, and generate by it under torchrun.

Run ``python -m examples.pipeline_serving``; it starts torchrun on itself. On a cluster, start
``torchrun ... -m examples.pipeline_serving PLAN`` on every node instead.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

import remora

BATCH, PROMPT, NEW = 4, 16, 8


def make_model() -> GPT2LMHeadModel:
    """A decoder with random weights."""
    torch.manual_seed(0)
    size = {"n_layer": 4, "n_embd": 64, "n_head": 4, "vocab_size": 512, "n_positions": 64}
    config = GPT2Config(**size, bos_token_id=None, eos_token_id=None)
    return GPT2LMHeadModel(config).eval()


def make_prompt() -> Tensor:
    """Token ids.  # [BATCH, PROMPT]."""
    return torch.randint(512, (BATCH, PROMPT), generator=torch.Generator().manual_seed(1))


def make_plan(folder: str) -> None:
    """Plan for two devices and save the files that every rank reads."""
    plan = remora.optimize(
        make_model(),
        {"input_ids": make_prompt()},
        "range:1",  # what a rank of two takes, so that the whole model does not fit on one
        mode="inference",
        generated_tokens=NEW,
        world_size=2,
        move_state=False,
        time_limit_s=3,
    )
    plan.save(folder)
    pipeline = plan.schedule.pipeline
    print(
        f"planned: {pipeline.num_ranks} ranks, {pipeline.micro_batches} micro-batches", flush=True
    )


def serve(folder: str) -> None:
    """What every rank runs."""
    plan, prompt = remora.load(folder), make_prompt()
    with plan.serve_on_ranks(make_model(), {"input_ids": prompt}) as ranks:
        output = ranks.forward({"input_ids": prompt})
        tokens = ranks.generate(prompt)
        # The last rank of a pipeline has its output.
        if output is not None and ranks.replica == 0:
            print(f"logits {tuple(output[0].shape)}, tokens {tuple(tokens.shape)}", flush=True)
            plain = make_model().generate(
                prompt, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, pad_token_id=0
            )
            print(f"equal to one process: {torch.equal(tokens, plain)}", flush=True)


def main(arguments: list[str]) -> None:
    """Plan, then start the ranks; with a folder as argument, be one of them."""
    if arguments:
        serve(arguments[0])
        return
    with tempfile.TemporaryDirectory() as folder:
        make_plan(folder)
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        this = ["--nproc-per-node=2", "-m", "examples.pipeline_serving", folder]
        subprocess.run([*torchrun, *this], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
