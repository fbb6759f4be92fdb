from __future__ import annotations

import pytest
import torch
from torch import nn

from harness.catalog.networks import NETWORKS
from harness.compress.parts import Parts, parts_of, prunable
from harness.compress.prune import MASKING_METHODS, kept_fraction_for, largest_ratio, prune, ratio_for
from harness.errors import ImpossibleRatio, UnknownName, UsageError

PARTS = Parts(head=("2",))


def weight_of(module: nn.Module, layer: int) -> torch.Tensor:
    return module.get_parameter(f"{layer}.weight")


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False), nn.Linear(4, 2, bias=False))


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(8, 4, generator=generator), torch.arange(8) % 2) for _ in range(2)]


@pytest.mark.parametrize("method", MASKING_METHODS)
def test_every_method_reaches_its_ratio_twice_with_the_same_masks_and_spares_the_head(method: str) -> None:
    first, second = net(), net()
    masks = [prune(m, PARTS, method=method, ratio=2.0, seed=3, batches=batches()) for m in (first, second)]

    assert sum(int(p.count_nonzero()) for p in first.parameters()) == 20  # of 40
    assert all(torch.equal(masks[0][name], masks[1][name]) for name in masks[0])
    assert torch.equal(weight_of(first, 2), weight_of(net(), 2))


def test_the_smallest_weights_of_all_go_or_the_smallest_of_each_layer() -> None:
    module = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False), nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        weight_of(module, 0).copy_(torch.tensor([[1.0, -2.0]]))
        weight_of(module, 1).copy_(torch.tensor([[-30.0, 40.0]]))
    again = nn.Sequential(*[nn.Linear(2, 1, bias=False) for _ in range(2)], nn.Linear(1, 1, bias=False))
    again.load_state_dict(module.state_dict())

    prune(module, PARTS, method="global-magnitude", ratio=5 / 3)
    prune(again, PARTS, method="layer-magnitude", ratio=5 / 3)

    assert [weight_of(module, 0).tolist(), weight_of(module, 1).tolist()] == [[[0.0, 0.0]], [[-30.0, 40.0]]]
    assert [weight_of(again, 0).tolist(), weight_of(again, 1).tolist()] == [[[0.0, -2.0]], [[0.0, 40.0]]]


def test_equal_weights_go_from_the_end() -> None:
    module = nn.Sequential(nn.Linear(4, 1, bias=False), nn.Identity(), nn.Linear(1, 1, bias=False))
    nn.init.ones_(weight_of(module, 0))

    prune(module, PARTS, method="global-magnitude", ratio=5 / 3)

    assert weight_of(module, 0).tolist() == [[1.0, 1.0, 0.0, 0.0]]


def test_the_gradient_score_is_weight_times_the_mean_gradient() -> None:
    module, images, labels = net(), *batches()[0]
    weight = weight_of(module, 0)
    found = torch.autograd.grad(nn.functional.cross_entropy(module(images), labels), weight)[0]
    expected = (weight.detach() * found).abs().flatten().argsort(descending=True)[:6]

    masks = prune(module, PARTS, method="layer-gradient", ratio=40 / (8 + 12), batches=[(images, labels)])

    assert set(masks["0.weight"].flatten().nonzero().flatten().tolist()) == set(expected.tolist())


def test_gradients_leave_batchnorm_and_training_flags_as_they_are() -> None:
    module = NETWORKS["resnet10_w32"].build(num_classes=4)
    module.train()
    before = {name: value.clone() for name, value in module.named_buffers()}

    prune(
        module,
        parts_of(module),
        method="global-gradient",
        ratio=4,
        batches=[(torch.randn(2, 3, 32, 32), torch.tensor([0, 1]))],
    )

    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.named_buffers())


def test_a_second_step_keeps_zero_what_was_zero() -> None:
    module = net()
    first = prune(module, PARTS, method="random", ratio=1.5, seed=1)
    second = prune(module, PARTS, method="random", ratio=3, seed=2, masks=first)

    assert not any((second[name] & ~first[name]).any() for name in first)


def test_a_layer_of_which_less_is_left_than_may_stay_gets_nothing_back() -> None:
    module = net()
    with torch.no_grad():
        next(module.parameters()).mul_(1e-3)
    first = prune(module, PARTS, method="global-magnitude", ratio=2)
    second = prune(module, PARTS, method="layer-magnitude", ratio=2.2, masks=first)

    assert not any((second[name] & ~first[name]).any() for name in first)


@pytest.mark.parametrize(("network", "classes", "largest"), [("resnet50", 1000, 12.16), ("mobilenet_v2", 1000, 2.67)])
def test_the_largest_ratio_is_what_the_literature_has(network: str, classes: int, largest: float) -> None:
    module = NETWORKS[network].build(num_classes=classes)

    assert largest_ratio(module, parts_of(module)) == pytest.approx(largest, abs=0.006)


def test_an_impossible_ratio_is_refused_with_the_largest_one_and_nothing_is_changed() -> None:
    module = net()

    with pytest.raises(ImpossibleRatio, match=r"40 / 8 = 5"):
        prune(module, PARTS, method="layer-magnitude", ratio=5)

    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), net().parameters(), strict=True))


def test_a_kept_fraction_and_its_ratio_are_each_others_inverse() -> None:
    ratio = ratio_for(net(), PARTS, kept_fraction=0.25)

    assert ratio == pytest.approx(40 / 16)
    assert kept_fraction_for(net(), PARTS, ratio=ratio) == pytest.approx(0.25)


def test_gradients_without_images_and_unknown_methods_are_refused() -> None:
    with pytest.raises(UsageError, match="labelled images"):
        prune(net(), PARTS, method="global-gradient", ratio=2)
    with pytest.raises(UsageError, match="no pruning method"):
        prune(net(), PARTS, method="magnitude", ratio=2)


def test_a_module_that_declares_no_head_is_refused_with_a_guess() -> None:
    with pytest.raises(UsageError, match=r'head = \["2"\]'):
        parts_of(net())


def test_what_is_kept_by_a_projected_network_is_found_within_it() -> None:
    module = NETWORKS["resnet10_w32"].build(num_classes=4, embedding=16)
    parts = parts_of(module)

    assert parts == Parts(head=("classifier",), keep=("projection",))
    assert not any(name.startswith(("classifier", "projection")) for name in prunable(module, parts))


def test_a_declared_layer_that_is_not_there_is_named(spec: object) -> None:
    import msgspec

    from harness.records import ModelSpec

    assert isinstance(spec, ModelSpec)
    with pytest.raises(UnknownName, match="fc"):
        parts_of(net(), msgspec.structs.replace(spec, head=("fc",)))
