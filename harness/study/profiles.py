"""How large a study is: the same steps for a test of the program, for a laptop's evening, and for the real thing."""

from __future__ import annotations

from harness.records import MeasurePlan, PruningMethod, Record, Training

PRUNING_METHODS: tuple[PruningMethod, ...] = (
    "global-magnitude",
    "layer-magnitude",
    "global-gradient",
    "layer-gradient",
    "random",
)
"""The baselines of Blalock et al. 2020, arXiv 2003.03033."""


class Profile(Record, frozen=True, kw_only=True):
    """Everything that decides a study, besides the devices."""

    name: str
    data: str
    """What `open_dataset` reads where no other data are given."""
    size: int
    """Height and width of the images."""
    teacher: str
    """A built-in network."""
    embedding: int
    """Length."""
    training: Training
    """Of the teacher."""
    finetuning: Training
    """After pruning, of either kind."""
    distillation: Training
    """Of each student."""
    methods: tuple[PruningMethod, ...] = PRUNING_METHODS
    ratios: tuple[float, ...]
    """Parameters before to parameters that are left, for unstructured pruning."""
    structured_ratios: tuple[float, ...]
    students: tuple[str, ...]
    controls: tuple[str, ...]
    """Students that are also trained as long on labels alone: what the teacher adds."""
    quantized: tuple[str, ...]
    """Variants that are also converted to int8, by name; all students are."""
    artifacts: tuple[str, ...] = ("onnx/fp32", "tflite/fp32", "coreml/fp16")
    folds: tuple[int, ...] = (0,)
    bootstrap_samples: int = 200
    seed: int = 0
    measure: MeasurePlan
    """The protocol of each cell."""


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="smoke",
            data="synthetic:subjects=24,sessions=2,images=2",
            size=32,
            teacher="resnet10_w32",
            embedding=32,
            training=Training(epochs=2, batch=16),
            finetuning=Training(epochs=1, batch=16),
            distillation=Training(epochs=1, batch=16),
            methods=("layer-magnitude",),
            ratios=(4,),
            structured_ratios=(2,),
            students=("mobilenet_v3_small",),
            controls=("mobilenet_v3_small",),
            quantized=("teacher",),
            artifacts=("onnx/fp32", "tflite/fp32"),
            bootstrap_samples=20,
            measure=MeasurePlan(
                processes_min=2,
                processes_max=2,
                blocks=2,
                block_s=0.02,
                warmup_iterations=2,
                warmup_s=0.02,
                warmup_cap_s=0.2,
                memory_iterations=3,
            ),
        ),
        Profile(
            name="small",
            data="synthetic:subjects=300,sessions=4,images=2",
            size=48,
            teacher="resnet18",
            embedding=128,
            training=Training(epochs=12, batch=32, threads=2),
            finetuning=Training(epochs=2, batch=32, learning_rate=5e-4),
            # Chosen by hand on subjects that no table tests; in steps of 1e-3 the MobileNets learn next to nothing.
            distillation=Training(epochs=16, batch=32, learning_rate=3e-3),
            ratios=(2, 8, 32),
            structured_ratios=(2, 4, 8),
            students=("mobilenet_v2", "mobilenet_v3_small", "light_cnn9", "resnet10_w32"),
            controls=("light_cnn9", "resnet10_w32"),
            quantized=("teacher", "layer-magnitude-8x", "structured-4x"),
            measure=MeasurePlan(processes_min=5, processes_max=5, blocks=2, block_s=0.15, budget_s=10.0),
        ),
        Profile(
            name="full",
            data="synthetic:subjects=1200,sessions=4,images=4",
            size=224,
            teacher="resnet50",
            embedding=128,  # the projection is not pruned: of 512, no more than 16.9 times could be had
            training=Training(epochs=60, batch=64),
            finetuning=Training(epochs=20, batch=64),
            distillation=Training(epochs=60, batch=64),
            ratios=(2, 4, 8, 16, 32),
            structured_ratios=(2, 4, 8, 16, 32),
            students=("mobilenet_v2", "mobilenet_v3_small", "light_cnn9", "resnet10_w32"),
            controls=("mobilenet_v2", "mobilenet_v3_small", "light_cnn9", "resnet10_w32"),
            quantized=("teacher", "layer-magnitude-8x", "structured-4x"),
            folds=(0, 1, 2),
            measure=MeasurePlan(),
        ),
    )
}
