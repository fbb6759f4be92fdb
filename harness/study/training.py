"""Make the networks of a study: trained, pruned, distilled; each kept as an ordinary model as soon as it is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from harness.catalog.models import find_model
from harness.compress.compress import Teaching, compress, distill, fit
from harness.compress.model_folder import open_module, save_model
from harness.records import BuiltinSource, InputSpec, ModelSpec
from harness.study.variants import TEACHER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.catalog.datasets.dataset import Split
    from harness.compress.train import Epoch
    from harness.study.profiles import Profile
    from harness.study.variants import Variant


@dataclass(frozen=True, kw_only=True)
class Maker:
    """Makes the networks of one fold.

    Attributes:
        profile: How large the study is.
        split: The fold's images. Networks are trained on `train`; nothing here ever sees `test`.
        folder: `trained/` holds each network with its classifier, `models/` as it is deployed.
    """

    profile: Profile
    split: Split
    folder: Path

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
        if variant.kind == "teacher":
            return fit(self.untrained(variant), folder, samples=samples, training=profile.training, watch=watch)
        teacher = find_model(str(self.folder / "trained" / TEACHER)).spec
        if variant.kind == "student":
            student = self.untrained(variant)
            return distill(
                student,
                folder,
                teaching=Teaching(teacher=teacher),
                samples=samples,
                training=profile.distillation,
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
            watch=watch,
        )

    def untrained(self, variant: Variant) -> ModelSpec:
        """A network as it is before anything was learnt. Draws nothing yet."""
        profile = self.profile
        size, channels = profile.size, self.split.train.channels
        return ModelSpec(
            schema=1,
            name=variant.name,
            source=BuiltinSource(
                network=variant.network,
                arguments={"num_classes": len(self.split.train.subjects), "embedding": profile.embedding},
            ),
            task="classification",
            trained=False,
            seed=profile.seed,
            inputs=(InputSpec(name="images", shape=(1, channels, size, size)),),
        )

    def _deploy(self, variant: Variant, trained: ModelSpec) -> None:
        """Store a network without its classifier."""
        from torch import nn  # noqa: PLC0415

        module = open_module(trained)
        module.classifier = nn.Identity()
        assert isinstance(trained.source, BuiltinSource)
        source = msgspec.structs.replace(trained.source, arguments={**trained.source.arguments, "num_classes": 0})
        spec = msgspec.structs.replace(trained, source=source, task="embedding")
        folder = self.deployed(variant)
        folder.parent.mkdir(parents=True, exist_ok=True)
        save_model(spec, module, folder, compression=trained.compression, samples=self.split.train)
