"""`harness compress`, `distill`, `train` and `embed`: models to smaller, taught, trained and verifying models."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands.console import FormatOption, Output, note, saying_how_to_go_on
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.catalog.datasets.dataset import LearntFrom
    from harness.catalog.datasets.samples import Samples
    from harness.compress.compress import Teaching
    from harness.compress.train import Epoch
    from harness.records import Compression, ModelSpec


class Method(StrEnum):
    """What goes: single weights by one of five scores, or whole channels."""

    GLOBAL_MAGNITUDE = "global-magnitude"
    LAYER_MAGNITUDE = "layer-magnitude"
    GLOBAL_GRADIENT = "global-gradient"
    LAYER_GRADIENT = "layer-gradient"
    RANDOM = "random"
    CHANNELS = "channels"


class Kind(StrEnum):
    """What a teacher teaches: its answers, or its embeddings."""

    LOGIT = "logit"
    EMBEDDING = "embedding"


DataOption = Annotated[str | None, typer.Option("--data", help="`synthetic`, or a folder <subject>/<session>/<image>.")]
FoldOption = Annotated[
    int, typer.Option("--fold", min=0, max=2, help="0 to 2: whose images are held back for testing.")
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="The new model's folder; its name is the model's.")
]
EpochsOption = Annotated[int, typer.Option("--epochs", min=1, help="How often each image is seen.")]
BatchOption = Annotated[int, typer.Option("--batch", min=2, help="Images a step.")]
RateOption = Annotated[float, typer.Option("--learning-rate", min=1e-9, max=10.0, help="The largest step of AdamW.")]
ThreadsOption = Annotated[int, typer.Option("--threads", min=1, help="CPU threads to train on.")]
SeedOption = Annotated[
    int, typer.Option("--seed", min=0, help="Of what training and pruning draw; first weights have the model's own.")
]
KindOption = Annotated[Kind | None, typer.Option("--kind", help="What the teacher teaches; default: embedding.")]
TemperatureOption = Annotated[
    float | None, typer.Option("--temperature", help="Softens answers, for --kind logit; default: 4.")
]
AlphaOption = Annotated[
    float | None, typer.Option("--alpha", min=0, max=1, help="The teacher's share of the loss; default: 0.9.")
]
LARGEST_SIZE = 1024
"""Height and width of images, beyond which a batch of a built-in network takes more memory than machines have."""
GOES_ON = "the same command goes on behind the last whole epoch"


def compress(
    model: Annotated[str, typer.Argument(help="A network in PyTorch code: a name, or the folder of its model.toml.")],
    method: Annotated[
        Method, typer.Option("--method", help="What goes: single weights, or whole channels (structured pruning).")
    ] = Method.LAYER_MAGNITUDE,
    ratio: Annotated[float | None, typer.Option("--ratio", help="All parameters / those that are left.")] = None,
    kept_fraction: Annotated[
        float | None, typer.Option("--kept-fraction", help="Instead: of the weights that may go, how many stay.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Prune in so many steps, fine-tuning after each.")] = 1,
    round_to: Annotated[
        int | None, typer.Option("--round-to", min=1, help="Channels left are a multiple of this; default: 8.")
    ] = None,
    finetune: Annotated[int, typer.Option("--finetune", min=0, help="Epochs of training afterwards.")] = 0,
    teacher: Annotated[str | None, typer.Option("--teacher", help="Fine-tune with this model's help.")] = None,
    kind: KindOption = None,
    temperature: TemperatureOption = None,
    alpha: AlphaOption = None,
    data: DataOption = None,
    fold: FoldOption = 0,
    gradient_batches: Annotated[
        int, typer.Option("--gradient-batches", min=1, help="Batches of 64 images behind a gradient.")
    ] = 4,
    batch: BatchOption = 64,
    learning_rate: RateOption = 3e-4,
    threads: ThreadsOption = 1,
    seed: SeedOption = 0,
    output: OutputOption = None,
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Prune a model, and fine-tune what is left. The result is a model like any other.

    The same command again goes on where a killed one stopped.

    Examples:
        harness compress resnet18 --method layer-magnitude --ratio 8

        harness compress models/teacher --method channels --ratio 4 --finetune 3 --data eyes/ -o models/slim

        harness run models/slim
    """
    from harness.catalog.models import find_model  # noqa: PLC0415
    from harness.compress import compress as stage  # noqa: PLC0415
    from harness.records import Training  # noqa: PLC0415

    _refuse_without_effect(teacher, kind, temperature, alpha)
    if round_to is not None and method.value != "channels":
        raise UsageError("--round-to without --method channels would have no effect: leave it out")
    spec = find_model(model).spec
    amount = f"{ratio:g}x" if ratio is not None else f"keeps-{kept_fraction or 0:g}"
    amount = amount.replace("+", "")  # of 1e+06, which no name may have
    folder = _new_folder(output, f"{spec.name}-{method.value}-{amount}")
    samples, learnt_from = _samples(spec, data, fold) if data is not None else (None, None)
    with saying_how_to_go_on(GOES_ON):
        made = stage.compress(
            spec,
            folder,
            method=method.value,
            ratio=ratio,
            kept_fraction=kept_fraction,
            steps=steps,
            **({} if round_to is None else {"round_to": round_to}),
            samples=samples,
            learnt_from=learnt_from,
            gradient_batches=gradient_batches,
            finetune=Training(epochs=finetune, batch=batch, learning_rate=learning_rate, seed=seed, threads=threads)
            if finetune
            else None,
            teaching=_teaching(teacher, kind, temperature, alpha) if teacher is not None else None,
            seed=seed,
            watch=_say_epoch,
        )
    _show(made, output_format)


def distill(
    teacher: Annotated[str, typer.Argument(help="The model that knows.")],
    student: Annotated[str, typer.Argument(help="The model that learns: a built-in name, or any PyTorch model.")],
    data: DataOption = None,
    fold: FoldOption = 0,
    kind: KindOption = None,
    temperature: TemperatureOption = None,
    alpha: AlphaOption = None,
    epochs: EpochsOption = 20,
    batch: BatchOption = 64,
    learning_rate: RateOption = 1e-3,
    threads: ThreadsOption = 1,
    seed: SeedOption = 0,
    output: OutputOption = None,
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Teach a small model what a large one knows.

    An untrained built-in student takes the images and the length of embedding of its teacher.

    The same command again goes on where a killed one stopped.

    Example:
        harness distill models/teacher mobilenet_v2 --data eyes/ --epochs 20 -o models/student
    """
    from harness.catalog.models import find_model  # noqa: PLC0415
    from harness.compress import compress as stage  # noqa: PLC0415
    from harness.records import BuiltinSource, Training  # noqa: PLC0415

    _refuse_without_effect(teacher, kind, temperature, alpha)
    knowing, learning = find_model(teacher).spec, find_model(student).spec
    folder = _new_folder(output, f"{learning.name}-from-{knowing.name}")
    samples, learnt_from = _samples(knowing, data, fold)
    if isinstance(learning.source, BuiltinSource) and learning.source.weights is None:
        embedding = getattr(knowing.source, "arguments", {}).get("embedding")
        learning = stage.suited(
            learning,
            classes=int(samples.labels.max()) + 1,
            shape=knowing.inputs[0].shape,
            embedding=embedding if isinstance(embedding, int) else None,
        )
    with saying_how_to_go_on(GOES_ON):
        made = stage.distill(
            learning,
            folder,
            teaching=_teaching(teacher, kind, temperature, alpha),
            samples=samples,
            training=Training(epochs=epochs, batch=batch, learning_rate=learning_rate, seed=seed, threads=threads),
            learnt_from=learnt_from,
            watch=_say_epoch,
        )
    _show(made, output_format)


def train(
    model: Annotated[str, typer.Argument(help="A built-in name, or any PyTorch model.")],
    data: DataOption = None,
    fold: FoldOption = 0,
    size: Annotated[
        int | None,
        typer.Option("--size", min=8, max=LARGEST_SIZE, help="Height and width of the images, built-in only."),
    ] = None,
    embedding: Annotated[
        int | None, typer.Option("--embedding", min=1, help="Length to project to, built-in only.")
    ] = None,
    epochs: EpochsOption = 20,
    batch: BatchOption = 64,
    learning_rate: RateOption = 1e-3,
    threads: ThreadsOption = 1,
    seed: SeedOption = 0,
    output: OutputOption = None,
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Train a model on labelled images. The same command again goes on where a killed one stopped.

    Example:
        harness train resnet18 --data eyes/ --size 64 --embedding 128 -o models/teacher
    """
    from harness.catalog.models import find_model  # noqa: PLC0415
    from harness.compress import compress as stage  # noqa: PLC0415
    from harness.records import BuiltinSource, Training  # noqa: PLC0415

    spec = find_model(model).spec
    folder = _new_folder(output, f"{spec.name}-trained")
    shape = spec.inputs[0].shape if size is None else (*spec.inputs[0].shape[:2], size, size)
    samples, learnt_from = _samples(spec, data, fold, size=size)
    if isinstance(spec.source, BuiltinSource) and spec.source.weights is None:
        spec = stage.suited(spec, classes=int(samples.labels.max()) + 1, shape=shape, embedding=embedding)
    elif size is not None or embedding is not None:
        raise UsageError("--size and --embedding are for untrained built-in networks; a model.toml says its own")
    with saying_how_to_go_on(GOES_ON):
        made = stage.fit(
            spec,
            folder,
            samples=samples,
            training=Training(epochs=epochs, batch=batch, learning_rate=learning_rate, seed=seed, threads=threads),
            learnt_from=learnt_from,
            watch=_say_epoch,
        )
    _show(made, output_format)


def embed(
    model: Annotated[str, typer.Argument(help="A classifier: a built-in network, or the folder of its model.toml.")],
    output: OutputOption = None,
    output_format: FormatOption = Output.TABLE,
) -> None:
    """Take a classifier off its network: what is left answers with embeddings.

    Embeddings tell apart people whom the network was not trained on, which its classes cannot. Train, prune and
    distill with the classifier; evaluate and deploy without it.

    Examples:
        harness embed models/student

        harness evaluate models/student-embedding --data eyes/ --fold 0
    """
    from harness.catalog.models import find_model  # noqa: PLC0415
    from harness.compress.compress import without_classifier  # noqa: PLC0415
    from harness.tables import to_json  # noqa: PLC0415

    spec = find_model(model).spec
    folder = _new_folder(output, f"{spec.name}-embedding")
    made = without_classifier(spec, folder)
    typer.echo(to_json(made) if output_format is Output.JSON else f"{folder}: {spec.name} without its classifier")


def _new_folder(output: Path | None, usual_name: str) -> Path:
    """Where the new model goes; what forbids it is said before any work."""
    from harness.compress.model_folder import require_new_model  # noqa: PLC0415

    folder = output or Path("models") / usual_name
    require_new_model(folder)
    return folder


def _samples(spec: ModelSpec, data: str | None, fold: int, *, size: int | None = None) -> tuple[Samples, LearntFrom]:
    """The images of a fold's training part, and what is to be remembered of them."""
    from harness.catalog.datasets import open_dataset  # noqa: PLC0415

    if data is None:
        raise UsageError("training needs labelled images: give --data a folder, or `synthetic`")
    if not spec.inputs or len(spec.inputs[0].shape) != 4:
        raise UsageError(f"{spec.name} does not take images [1, C, H, W]")
    _, channels, height, _ = spec.inputs[0].shape
    dataset = open_dataset(data, size=size or height, channels=channels)
    return dataset.split(fold).train, dataset.remembered(fold)


def _refuse_without_effect(
    teacher: str | None, kind: Kind | None, temperature: float | None, alpha: float | None
) -> None:
    """Refuse what would change nothing, before any work; None is what was not given."""
    if teacher is None:
        asked = {"--kind": kind, "--temperature": temperature, "--alpha": alpha}
        given = [option for option, value in asked.items() if value is not None]
        if given:
            raise UsageError(f"{' and '.join(given)} without --teacher would have no effect: name one, or leave it out")
    elif temperature is not None and kind is not Kind.LOGIT:
        raise UsageError("--temperature softens answers, and embeddings have none: give --kind logit, or leave it out")


def _teaching(teacher: str, kind: Kind | None, temperature: float | None, alpha: float | None) -> Teaching:
    from harness.catalog.models import find_model  # noqa: PLC0415
    from harness.compress.compress import Teaching  # noqa: PLC0415

    said = {"kind": kind and kind.value, "temperature": temperature, "alpha": alpha}
    given: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    return Teaching(teacher=find_model(teacher).spec, **given)


def _say_epoch(epoch: Epoch) -> None:
    left = (epoch.epochs - epoch.number) * epoch.seconds
    speed = epoch.images / epoch.seconds if epoch.seconds else 0.0
    note(f"epoch {epoch.number} of {epoch.epochs}: loss {epoch.loss:.4f}, {speed:.0f} images/s, {left:.0f} s left")


def _show(made: ModelSpec, output_format: Output) -> None:
    from harness.tables import to_json  # noqa: PLC0415

    if output_format is Output.JSON:
        typer.echo(to_json(made))
        return
    done = made.compression
    assert done is not None
    kept = done.settings.get("kept_fraction")
    lines: list[tuple[str, Any]] = [
        ("model", made.name),
        ("method", done.method),
        ("from", done.parent),
        ("teacher", done.teacher),
        ("learnt from", _learnt_from(done)),
        ("weights to stay", kept and f"{100 * float(kept):.4g} % of those that may go"),
        ("ratio asked", done.asked_ratio and f"{done.asked_ratio:.4g}"),
        ("ratio reached", done.reached_ratio and f"{done.reached_ratio:.4g}"),
        ("without its head", done.reached_backbone_ratio and f"{done.reached_backbone_ratio:.4g}"),
        ("parameters", done.parameters and f"{done.parameters:,}"),
        ("not zero", done.nonzero_parameters and f"{done.nonzero_parameters:,}"),
        ("MACs", done.macs and f"{done.macs:,}"),
    ]
    for name, value in lines:
        if value is not None:
            typer.echo(f"{name:<18}{value}")


def _learnt_from(done: Compression) -> str | None:
    """Whose images a network was trained on last; what a program drew is always called so."""
    if "data" not in done.settings:
        return None
    drawn = ", synthetic images" if done.settings.get("data_is_synthetic") else ""
    return f"{done.settings['data']}{drawn}, fold {done.settings['fold']} held back"
