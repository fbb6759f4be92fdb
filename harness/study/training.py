"""Make the networks of a study: trained, pruned, distilled; each kept as an ordinary model as soon as it is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from harness.catalog.models import find_model
from harness.compress.compress import Teaching, compress, distill, example_of, fit, without_classifier
from harness.compress.model_folder import open_module
from harness.compress.parts import parts_of
from harness.compress.prune import kept_fraction_for
from harness.compress.structured import require_channels
from harness.records import BuiltinSource, InputSpec, ModelSpec
from harness.study.variants import TEACHER, variants_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.catalog.datasets.dataset import Dataset, LearntFrom, Split
    from harness.compress.train import Epoch
    from harness.study.folder import StudyFolder
    from harness.study.profiles import Profile
    from harness.study.variants import Variant


@dataclass(frozen=True, kw_only=True)
class Maker:
    """Makes the networks of one fold.

    Attributes:
        profile: How large the study is.
        split: The fold's images. Networks are trained on `train`; nothing here ever sees `test`.
        learnt_from: What networks remember of the data set.
        folder: `trained/` holds each network with its classifier, `models/` as it is deployed.
    """

    profile: Profile
    split: Split
    learnt_from: LearntFrom
    folder: Path

    @classmethod
    def of(cls, study: StudyFolder, dataset: Dataset, fold: int) -> Self:
        """The one for a fold of a study."""
        return cls(
            profile=study.study.profile,
            split=dataset.split(fold),
            learnt_from=dataset.remembered(fold),
            folder=study.fold(fold),
        )

    def deployed(self, variant: Variant) -> Path:
        """Where the deployed network is, once it is made."""
        return self.folder / "models" / variant.name

    def is_made(self, variant: Variant) -> bool:
        """Whether nothing is left to do for it."""
        return (self.deployed(variant) / "model.toml").is_file()

    def make(self, variant: Variant, watch: Callable[[Epoch], None]) -> ModelSpec:
        """Make one network, or go on where it was left; its parents are made already.

        Returns:
            The network as it is deployed: without the classifier of the people it was trained on, who are no others'.
        """
        if not self.is_made(variant):
            is_untrained = variant.kind == "untrained"
            self._deploy(variant, self.untrained(variant) if is_untrained else self._train(variant, watch))
        return find_model(str(self.deployed(variant))).spec

    def _train(self, variant: Variant, watch: Callable[[Epoch], None]) -> ModelSpec:
        profile, samples, folder = self.profile, self.split.train, self.folder / "trained" / variant.name
        if (folder / "model.toml").is_file():
            return find_model(str(folder)).spec
        folder.parent.mkdir(parents=True, exist_ok=True)
        learnt_from = self.learnt_from
        if variant.kind in {"teacher", "control"}:
            training = profile.training if variant.kind == "teacher" else profile.distillation
            return fit(
                self.untrained(variant),
                folder,
                samples=samples,
                training=training,
                learnt_from=learnt_from,
                watch=watch,
            )
        teacher = find_model(str(self.folder / "trained" / TEACHER)).spec
        if variant.kind == "student":
            student = self.untrained(variant)
            return distill(
                student,
                folder,
                teaching=Teaching(teacher=teacher),
                samples=samples,
                training=profile.distillation,
                learnt_from=learnt_from,
                watch=watch,
            )
        assert variant.pruning is not None
        return compress(
            teacher,
            folder,
            method=variant.pruning,
            ratio=variant.ratio,
            samples=samples,
            finetune=profile.finetuning,
            seed=profile.seed,
            learnt_from=learnt_from,
            watch=watch,
        )

    def untrained(self, variant: Variant) -> ModelSpec:
        """A network as it is before anything was learnt. Draws nothing yet."""
        return _untrained(self.profile, self.split, variant)

    def _deploy(self, variant: Variant, trained: ModelSpec) -> None:
        """Store a network without its classifier."""
        folder = self.deployed(variant)
        folder.parent.mkdir(parents=True, exist_ok=True)
        without_classifier(trained, folder, samples=self.split.train)


def require_possible(profile: Profile, split: Split) -> None:
    """Refuse what the teacher cannot be pruned to, now and not after it was trained.

    How large a network can be made does not depend on its weights.

    Raises:
        ImpossibleRatio: The first such ratio, with the largest possible one.
    """
    variants = variants_of(profile)
    spec = _untrained(profile, split, next(variant for variant in variants if variant.kind == "teacher"))
    module = open_module(spec)
    parts = parts_of(module, spec)
    for ratio in profile.ratios:
        kept_fraction_for(module, parts, ratio=ratio)
    if profile.structured_ratios:
        require_channels(module, parts, example_of(spec), ratio=max(profile.structured_ratios))


def _untrained(profile: Profile, split: Split, variant: Variant) -> ModelSpec:
    return ModelSpec(
        schema=1,
        name=variant.name,
        source=BuiltinSource(
            network=variant.network,
            arguments={"num_classes": len(split.train.subjects), "embedding": profile.embedding},
        ),
        task="classification",
        trained=False,
        seed=profile.seed,
        inputs=(InputSpec(name="images", shape=(1, split.train.channels, profile.size, profile.size)),),
    )
