"""How many images a second each network is trained on, by CPU time: `python tests/bench/training_speed.py [size]`.

CPU time of one thread rather than wall time: other work on the machine then counts less.
"""

from __future__ import annotations

import sys
import time

import torch

from harness.catalog.networks import NETWORKS

NAMES = ("resnet18", "resnet10_w32", "mobilenet_v2", "mobilenet_v3_small", "light_cnn9")
BATCH, REPEATS = 32, 5


def main() -> None:
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    torch.set_num_threads(1)
    for name in NAMES:
        for layout in (torch.contiguous_format, torch.channels_last):
            print(f"{name:<20}{layout!s:<26}{_speed(name, size, layout):8.0f} images per CPU second", flush=True)


def _speed(name: str, size: int, layout: torch.memory_format) -> float:
    channels = NETWORKS[name].input_shape[1]
    module = NETWORKS[name].build(num_classes=180, embedding=128, image_size=size).train()
    module = module.to(memory_format=layout)  # type: ignore[call-overload]
    images = torch.randn(BATCH, channels, size, size).contiguous(memory_format=layout)
    seconds = []
    for _ in range(REPEATS):
        began = time.process_time()
        module(images).square().mean().backward()
        seconds.append(time.process_time() - began)
    return BATCH / min(seconds[1:])


if __name__ == "__main__":
    main()
