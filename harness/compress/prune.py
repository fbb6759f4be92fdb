"""The five pruning baselines: which weights become zero.

Source: Blalock et al. 2020, "What is the State of Neural Network Pruning?", arXiv 2003.03033, section 5.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from harness.compress.parts import Parts, prunable
from harness.errors import ImpossibleRatio, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor, nn

Masks: TypeAlias = "Mapping[str, Tensor]"
"""Parameter name -> boolean, True where the weight stays."""

MASKING_METHODS = ("global-magnitude", "layer-magnitude", "global-gradient", "layer-gradient", "random")


def prune(
    module: nn.Module,
    parts: Parts,
    *,
    method: str,
    ratio: float,
    seed: int = 0,
    batches: Iterable[tuple[Tensor, Tensor]] = (),
    masks: Masks | None = None,
) -> Masks:
    """Choose weights by score and make the others zero.

    Magnitude scores |w|, gradient |w x dL/dw| with the loss's mean gradient over `batches`, random draws. `global`
    ranks all weights together, `layer` keeps the same share of each layer, one weight at least. Ties go to the lower
    index, so that two runs give the same masks.

    Args:
        module: Its weights are changed in place.
        parts: What is left alone.
        method: One of `MASKING_METHODS`.
        ratio: All parameters / those that are left, over the whole model, more than 1.
        seed: Of `random`.
        batches: Images and labels, for the gradient methods only.
        masks: Of an earlier step: what was zero stays zero.

    Raises:
        ImpossibleRatio: More would have to go than may be touched. Nothing was changed.
        UsageError: The method is unknown, or needs batches.
    """
    import torch  # noqa: PLC0415

    if method not in MASKING_METHODS:
        raise UsageError(f"there is no pruning method {method!r}; known: {', '.join(MASKING_METHODS)}")
    weights = prunable(module, parts)
    kept_fraction = kept_fraction_for(module, parts, ratio=ratio)
    scores = _scores(module, weights, method, seed, batches)
    for name, mask in (masks or {}).items():
        scores[name] = scores[name].masked_fill(~mask, -1.0)
    if method.startswith("layer-"):
        chosen = {name: _best(score, max(1, round(kept_fraction * score.numel()))) for name, score in scores.items()}
    else:
        together = torch.cat([score.flatten() for score in scores.values()])
        best = _best(together, max(1, round(kept_fraction * together.numel())))
        split = torch.split(best, [score.numel() for score in scores.values()])
        chosen = {name: mask.view(scores[name].shape) for name, mask in zip(scores, split, strict=True)}
    for name, mask in (masks or {}).items():  # where more may stay than the earlier step has left
        chosen[name] = chosen[name] & mask
    hold(module, chosen)
    return chosen


def hold(module: nn.Module, masks: Masks) -> None:
    """Make what is masked zero again. Changes `module` in place."""
    import torch  # noqa: PLC0415

    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for name, mask in masks.items():
            parameters[name].mul_(mask)


def kept_fraction_for(module: nn.Module, parts: Parts, *, ratio: float) -> float:
    """The share of prunable weights that has to stay.

    Raises:
        ImpossibleRatio: It is not more than 0, or more than 1.
    """
    total, touchable = _sizes(module, parts)
    largest = largest_ratio(module, parts)
    if not 1 <= ratio < largest or touchable == 0:
        raise ImpossibleRatio(ratio, largest, total, total - touchable)
    return (total / ratio - (total - touchable)) / touchable


def ratio_for(module: nn.Module, parts: Parts, *, kept_fraction: float) -> float:
    """The ratio at which a share of the prunable weights stays.

    Raises:
        UsageError: The share is not within (0, 1].
    """
    if not 0 < kept_fraction <= 1:
        raise UsageError(f"a kept fraction of {kept_fraction:g} is not more than 0 and at most 1")
    total, touchable = _sizes(module, parts)
    return total / (total - touchable + kept_fraction * touchable)


def largest_ratio(module: nn.Module, parts: Parts) -> float:
    """All parameters / those that may not be touched: no ratio can reach it. Infinite where all may be."""
    total, touchable = _sizes(module, parts)
    return total / (total - touchable) if total > touchable else float("inf")


def _sizes(module: nn.Module, parts: Parts) -> tuple[int, int]:
    total = sum(parameter.numel() for parameter in module.parameters())
    return total, sum(weight.numel() for weight in prunable(module, parts).values())


def _scores(
    module: nn.Module,
    weights: Mapping[str, nn.Parameter],
    method: str,
    seed: int,
    batches: Iterable[tuple[Tensor, Tensor]],
) -> dict[str, Tensor]:
    import torch  # noqa: PLC0415

    if method == "random":
        generator = torch.Generator().manual_seed(seed)
        return {name: torch.rand(weight.shape, generator=generator) for name, weight in weights.items()}
    if method.endswith("magnitude"):
        return {name: weight.detach().abs() for name, weight in weights.items()}
    gradients = _mean_gradients(module, weights, batches)
    return {name: (weight.detach() * gradients[name]).abs() for name, weight in weights.items()}


def _mean_gradients(
    module: nn.Module, weights: Mapping[str, nn.Parameter], batches: Iterable[tuple[Tensor, Tensor]]
) -> dict[str, Tensor]:
    """The gradient of the cross entropy, in evaluation mode: BatchNorm statistics stay as they are."""
    import torch  # noqa: PLC0415

    from harness.catalog.networks.network import evaluating  # noqa: PLC0415

    sums = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    count = 0
    with evaluating(module):
        for images, labels in batches:
            loss = torch.nn.functional.cross_entropy(module(images), labels, reduction="sum")
            found = torch.autograd.grad(loss, list(weights.values()))
            for name, gradient in zip(weights, found, strict=True):
                sums[name] += gradient
            count += len(labels)
    if count == 0:
        raise UsageError("pruning by gradient needs labelled images: give --data")
    return {name: total / count for name, total in sums.items()}


def _best(scores: Tensor, count: int) -> Tensor:
    """Mark the highest scores; of equal ones, those of the lower index."""
    import torch  # noqa: PLC0415

    order = torch.sort(scores.flatten(), descending=True, stable=True).indices
    mask = torch.zeros(scores.numel(), dtype=torch.bool)
    mask[order[:count]] = True
    return mask.view(scores.shape)
