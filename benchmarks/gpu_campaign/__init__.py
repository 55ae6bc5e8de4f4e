"""Everything that wants one CUDA device, measured in one command.

`python -m benchmarks.gpu_campaign out=FOLDER [minutes=8] [device=cuda|cpu] [models=a,b]
[sizes=real|tiny]`

Checks gradients, compares predictions with measurements, measures how much of the host copies is
hidden, looks for the largest batch, runs PyTorch's own ways to save memory beside ours, and writes
what it measured as a dataset. Every model runs in a process of its own: one that crashes, hangs or
runs out of memory is a recorded fault, and the campaign goes on. Called again with the same
`out=`, it goes on where it stopped. Needs torch, transformers, numba, pyarrow and this repository.
"""
