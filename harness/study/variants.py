"""The networks of a study, each with what it is made from. Parents come before their children."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from harness.records import PruningMethod, Record

if TYPE_CHECKING:
    from harness.study.profiles import Profile

Kind: TypeAlias = Literal["untrained", "teacher", "pruned", "structured", "control", "student"]
TEACHER = "teacher"
INT8 = ("onnx/int8", "tflite/int8")
SPARSE = "coreml/sparse"
"""Of the three formats the one that stores zeros as a mask. No runtime here computes less for them."""


class Variant(Record, frozen=True, kw_only=True):
    """One network to make."""

    name: str
    kind: Kind
    network: str
    """The built-in network that it is, or was before channels were taken out."""
    method: str
    """As the table shows it."""
    pruning: PruningMethod | None = None
    ratio: float | None = None
    """Asked for: parameters before to parameters that are left."""
    is_quantized: bool = False
    """Also converted to int8."""


def variants_of(profile: Profile) -> tuple[Variant, ...]:
    """All networks of a study. An untrained one comes first: what is known before anything was learnt."""
    made = [
        Variant(name="untrained", kind="untrained", network=profile.teacher, method="untrained"),
        Variant(name=TEACHER, kind="teacher", network=profile.teacher, method="none"),
    ]
    made += [
        Variant(
            name=f"{method}-{ratio:g}x",
            kind="pruned",
            network=profile.teacher,
            method=method,
            pruning=method,
            ratio=ratio,
        )
        for method in profile.methods
        for ratio in profile.ratios
    ]
    made += [
        Variant(
            name=f"structured-{ratio:g}x",
            kind="structured",
            network=profile.teacher,
            method="structured",
            pruning="channels",
            ratio=ratio,
        )
        for ratio in profile.structured_ratios
    ]
    made += [
        Variant(name=f"labels-{network}", kind="control", network=network, method="labels alone")
        for network in profile.controls
    ]
    made += [
        Variant(name=f"student-{network}", kind="student", network=network, method="distilled")
        for network in profile.students
    ]
    return tuple(
        Variant(
            name=variant.name,
            kind=variant.kind,
            network=variant.network,
            method=variant.method,
            pruning=variant.pruning,
            ratio=variant.ratio,
            is_quantized=variant.kind == "student" or variant.name in profile.quantized,
        )
        for variant in made
    )


def artifacts_of(profile: Profile, variant: Variant) -> tuple[str, ...]:
    """The files that are made of a network, as `format/precision`."""
    if variant.kind == "untrained":
        return ()
    is_sparse = variant.kind == "pruned" and any(text.startswith("coreml/") for text in profile.artifacts)
    return (*profile.artifacts, *((SPARSE,) if is_sparse else ()), *(INT8 if variant.is_quantized else ()))
