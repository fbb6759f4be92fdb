"""What training makes small: the error on labels, or the distance from a teacher."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from harness.compress.parts import Parts, embed_and_answer

if TYPE_CHECKING:
    from torch import Tensor, nn


class Loss(Protocol):
    """A number to make small, for one batch."""

    def __call__(self, module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Run the module in its present mode and compute the mean loss of a batch."""
        ...

    def own_layers(self) -> nn.Module | None:
        """Layers that are trained along and thrown away; None where there are none."""
        ...

    def frozen(self) -> tuple[nn.Module, ...]:
        """Networks that are run and not trained, to be kept where the trained one is."""
        ...


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """The plain error on labels."""

    label_smoothing: float = 0.0

    def __call__(self, module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """See `Loss`."""
        from torch.nn.functional import cross_entropy  # noqa: PLC0415

        return cross_entropy(module(images), labels, label_smoothing=self.label_smoothing)

    def own_layers(self) -> nn.Module | None:
        """None."""
        return None

    def frozen(self) -> tuple[nn.Module, ...]:
        """None."""
        return ()


@dataclass(frozen=True, kw_only=True)
class LogitDistillation:
    """The teacher's softened answers, and the labels: (1 - a) CE + a T^2 KL(softmax(t / T) || softmax(s / T)).

    Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531, section 2.
    """

    teacher: nn.Module
    temperature: float = 4.0
    alpha: float = 0.9

    def __call__(self, module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """See `Loss`."""
        import torch  # noqa: PLC0415
        from torch.nn.functional import cross_entropy, kl_div, log_softmax  # noqa: PLC0415

        with torch.no_grad():
            wanted = log_softmax(self.teacher(images) / self.temperature, dim=1)
        answer = module(images)
        softened = log_softmax(answer / self.temperature, dim=1)
        distance = kl_div(softened, wanted, reduction="batchmean", log_target=True)
        return (1 - self.alpha) * cross_entropy(answer, labels) + self.alpha * self.temperature**2 * distance

    def own_layers(self) -> nn.Module | None:
        """None."""
        return None

    def frozen(self) -> tuple[nn.Module, ...]:
        """The teacher."""
        return (self.teacher,)


@dataclass(frozen=True, kw_only=True)
class EmbeddingDistillation:
    """The teacher's embedding (template): one minus the cosine, and a share of the error on labels.

    Verification compares by the cosine alone, so lengths are free. Where the student's embedding has another length, a
    linear layer in between is trained along.

    The idea of teaching templates is that of Boutros et al. 2022; this loss is our own.
    """

    teacher: nn.Module
    teacher_parts: Parts
    student_parts: Parts
    alpha: float = 0.9
    bridge: nn.Module | None = field(default=None)

    def __call__(self, module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """See `Loss`."""
        import torch  # noqa: PLC0415
        from torch.nn.functional import cosine_similarity, cross_entropy  # noqa: PLC0415

        with torch.no_grad():
            wanted, _ = embed_and_answer(self.teacher, self.teacher_parts, images)
        found, answer = embed_and_answer(module, self.student_parts, images)
        if self.bridge is not None:
            found = self.bridge(found)
        distance = 1 - cosine_similarity(found, wanted, dim=1).mean()
        return (1 - self.alpha) * cross_entropy(answer, labels) + self.alpha * distance

    def own_layers(self) -> nn.Module | None:
        """The layer between embeddings of different lengths."""
        return self.bridge

    def frozen(self) -> tuple[nn.Module, ...]:
        """The teacher."""
        return (self.teacher,)
