"""Small torch modules, well behaved and otherwise, named by tests as `tests.fakes.modules:...`."""

from __future__ import annotations

import os
import signal
import time

import torch
from torch import Tensor, nn


def tiny(width: int = 8) -> nn.Module:
    """A convolutional classifier of ten classes for images `[N, 3, 16, 16]`."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=2, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, groups=width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 10),
    )


class TwoByTwo(nn.Module):
    """Two inputs of different shapes, two outputs by name; neither pair can be exchanged unnoticed."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(6, 3)
        self.right = nn.Linear(4, 3)

    def forward(self, wide: Tensor, narrow: Tensor) -> dict[str, Tensor]:
        return {"total": self.left(wide) + self.right(narrow), "difference": self.left(wide) - self.right(narrow)}


class ManyOutputs(nn.Module):
    """Twelve outputs, of which an alphabetical order would put the eleventh before the third."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.layer(x) * (index + 1) + index for index in range(12))


class DiffersWhenExported(nn.Module):
    """Its second output is another function when it is exported."""

    def __init__(self, factor: float = 2.0) -> None:
        super().__init__()
        self.factor = factor
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        right: Tensor = self.layer(x)
        return right, right * (self.factor if torch.compiler.is_exporting() else 1.0)


class NotFinite(nn.Module):
    """Answers with NaN."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.log(-x.abs() - 1)


class Unsupported(nn.Module):
    """Uses an operator that neither format has."""

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = torch.special.airy_ai(x)
        return answer


class NoBatch(nn.Module):
    """Answers without a batch dimension."""

    def forward(self, x: Tensor) -> Tensor:
        return x[0]


def crashing() -> nn.Module:
    os.kill(os.getpid(), signal.SIGSEGV)
    return tiny()


def killed() -> nn.Module:
    os.kill(os.getpid(), signal.SIGKILL)
    return tiny()


def out_of_memory() -> nn.Module:
    return nn.Linear(1 << 30, 1 << 30)


def sleeping() -> nn.Module:
    time.sleep(600)
    return tiny()


def raising() -> nn.Module:
    raise ValueError("no weights today")


def not_a_module() -> str:
    return "a string"
