"""How fast networks are trained: `python -m tests.bench.training_speed [size]`, on a machine that does nothing else.

First each network in both memory layouts, by CPU time of one thread, which other work disturbs least. Then one network
on all processors beside one network a processor, by wall time, with the optimizer's step.
"""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from harness.catalog.networks import NETWORKS

NAMES = ("resnet18", "resnet10_w32", "mobilenet_v2", "mobilenet_v3_small", "light_cnn9")
BATCH, REPEATS, SECONDS = 32, 5, 8.0


def main() -> None:
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 48
    torch.set_num_threads(1)
    for name in NAMES:
        for layout in (torch.contiguous_format, torch.channels_last):
            print(f"{name:<20}{layout!s:<26}{_cpu_speed(name, size, layout):8.0f} images per CPU second", flush=True)
    count = os.cpu_count() or 1
    for networks, threads in ((1, count), (count, 1)):
        with ProcessPoolExecutor(networks, mp_context=get_context("spawn")) as pool:
            speeds = list(pool.map(_wall_speed, [size] * networks, [threads] * networks))
        what = f"resnet18, {networks} at once, {threads} threads each"
        print(f"{what:<46}{sum(speeds):8.0f} images per second in all", flush=True)


def _cpu_speed(name: str, size: int, layout: torch.memory_format) -> float:
    module, images = _made(name, size, layout)
    seconds = []
    for _ in range(REPEATS):
        began = time.process_time()
        module(images).square().mean().backward()
        seconds.append(time.process_time() - began)
    return BATCH / min(seconds[1:])


def _wall_speed(size: int, threads: int) -> float:
    torch.set_num_threads(threads)
    module, images = _made("resnet18", size, torch.channels_last)
    optimizer = torch.optim.AdamW(module.parameters(), fused=True)

    def step() -> None:
        optimizer.zero_grad()
        module(images).square().mean().backward()
        optimizer.step()

    step()
    steps, began = 0, time.monotonic()
    while time.monotonic() - began < SECONDS:
        step()
        steps += 1
    return steps * BATCH / (time.monotonic() - began)


def _made(name: str, size: int, layout: torch.memory_format) -> tuple[torch.nn.Module, torch.Tensor]:
    module = NETWORKS[name].build(num_classes=180, embedding=128, image_size=size).train()
    module = module.to(memory_format=layout)  # type: ignore[call-overload]
    channels = NETWORKS[name].input_shape[1]
    return module, torch.randn(BATCH, channels, size, size).contiguous(memory_format=layout)


if __name__ == "__main__":
    main()
