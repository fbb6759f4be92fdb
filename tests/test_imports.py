"""Who may import what. The rules here are those of CONTRIBUTING; each failure says what to do.

Imports inside functions and under TYPE_CHECKING count like any other: a type that is named is a thing that is known.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "harness"

LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"decoding", "errors", "text", "units"}),
    frozenset({"records"}),
    frozenset({"events", "protocol", "settings", "workspace"}),
    frozenset({"matrix", "parity", "prefork", "statistics", "tensors"}),
    frozenset({"child"}),
    frozenset({"checkout", "jobs", "series", "summary"}),
    frozenset({"device", "store"}),
    frozenset({"catalog", "farm"}),
    frozenset({"compress", "convert", "deploy", "evaluate", "measure", "regress", "report"}),
    frozenset({"doctor", "pipeline", "run"}),
    frozenset({"comparison", "live", "tables"}),
    frozenset({"selftest", "selftest_page"}),
    frozenset({"study"}),
    frozenset({"commands"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)
"""Lowest first. A unit is a module of harness/ or one of its folders; it imports from lower layers only, so that units
of one layer, the stages above all, never know one another."""
DEVICE_USERS = frozenset({"deploy", "measure"})
"""The only stages that talk to a device."""
CATALOG_USERS = frozenset({"compress", "convert", "evaluate"})
"""The only stages that load models, for which the catalog is there; the others see files and records."""
DOOR = "harness/__init__.py"
"""What `import harness` offers. It may reach for `run`, inside a function; everybody may ask it for the version."""
WORKER = "harness/deploy/worker/"
WORKER_MAY_IMPORT = frozenset({"decoding", "errors", "protocol", "records", "tensors"})
"""It travels to devices, and its own memory is part of what is measured."""

HEAVY = frozenset(
    {
        *("adb_shell", "adbutils", "ai_edge_litert", "ai_edge_quantizer", "coremltools", "executorch", "litert_torch"),
        *("onnx", "onnxruntime", "onnxscript", "pandas", "safetensors", "scipy", "sympy", "tensorflow", "torch"),
        *("asyncssh", "duckdb", "matplotlib", "sklearn", "torch_pruning", "transformers", "vl_convert"),
    }
)
NETWORKS = "harness/catalog/networks/"
"""Network definitions are subclasses of a torch class, and loaded by name from the table in `__init__.py` there."""
OPERATORS = "harness/catalog/ml_program/operators/"
"""One torch expression an operation; imported when a program first runs, never with `harness.catalog.ml_program`."""
SUBCLASSES = (NETWORKS, OPERATORS, "harness/device/adb_wire.py")
"""What subclasses or needs an optional package at its top is imported by who needs it, inside a function."""

SAYS = {
    "harness/cli.py": "says errors, and exits",
    "harness/commands/": "the only place that talks to people",
    "harness/deploy/worker/__main__.py": "a program of its own; its output is read by harness.measure",
    "harness/deploy/probe.py": "a program of its own; its output is read by harness.doctor",
    "harness/catalog/child.py": "a program of its own; run by harness.child",
    "harness/convert/child.py": "a program of its own; run by harness.child",
}
"""Who may print, ask and exit, and why."""
STARTS_PROCESSES = (
    "harness/device/",
    "harness/deploy/",
    "harness/child.py",
    "harness/prefork.py",
    "harness/checkout.py",
)

FILES = sorted(path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py"))


def test_every_file_is_in_a_layer() -> None:
    known = frozenset().union(*LAYERS)
    homeless = sorted({_unit(file) for file in FILES if file != DOOR} - known)

    assert not homeless, f"say in LAYERS where harness/{', harness/'.join(homeless)} stands"


@pytest.mark.parametrize("file", FILES)
def test_imports_go_down(file: str) -> None:
    wrong = [
        f"{file}:{line} imports harness.{target}. {advice}"
        for line, target in _own_imports(file)
        if (advice := _why_not(file, target)) is not None
    ]

    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith(WORKER)])
def test_the_worker_imports_nothing_that_a_device_does_not_need(file: str) -> None:
    wrong = [
        f"{file}:{line} imports harness.{target}; the worker may know {', '.join(sorted(WORKER_MAY_IMPORT))} only. "
        "Hand it in as a flag of harness.protocol.Job, or move the code into the worker."
        for line, target in _own_imports(file)
        if target.split(".")[0] not in WORKER_MAY_IMPORT and not target.startswith("deploy.worker")
    ]

    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("file", [f for f in FILES if not f.startswith(SUBCLASSES)])
def test_heavy_packages_are_imported_inside_functions(file: str) -> None:
    wrong = [
        f"{file}:{line} imports {name} when it is itself imported. Move it into the function that needs it, and turn "
        "its absence into MissingExtra there."
        for line, name in _imports_when_imported(_tree(file))
        if name.split(".")[0] in HEAVY
    ]

    assert not wrong, "\n".join(wrong)


def test_every_module_can_be_imported_where_no_optional_package_is() -> None:
    modules = [_module(file) for file in FILES if not file.startswith(SUBCLASSES) or file == f"{NETWORKS}__init__.py"]
    program = f"""
        import importlib, sys, traceback

        class Refuse:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in {sorted(HEAVY)!r}:
                    raise ImportError(name + " is optional: import it inside the function that needs it")

        sys.meta_path.insert(0, Refuse())
        sys.argv = ["test"]
        failed = 0
        for name in {modules!r}:
            if name == "harness.__main__":
                continue  # it runs the program
            try:
                importlib.import_module(name)
            except ImportError:
                failed = 1
                traceback.print_exc()
        sys.exit(failed)
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("file", FILES)
def test_only_the_command_line_prints_asks_and_exits(file: str) -> None:
    if file.startswith(tuple(SAYS)):
        return
    wrong = [
        f"{file}:{line} calls {name}. Return the value, or raise one of harness.errors, and let a command say it."
        for line, name in _calls(_tree(file))
        if name in {"print", "input", "exit", "quit", "sys.exit"}
    ]

    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("file", FILES)
def test_processes_are_started_in_few_places_only(file: str) -> None:
    if file.startswith(STARTS_PROCESSES):
        return
    tree = _tree(file)
    names = [(line, name) for line, name in _all_imports(tree) if name.split(".")[0] == "subprocess"]
    names += [(line, name) for line, name in _calls(tree) if name in {"os.system", "os.popen", "os.fork"}]

    wrong = [
        f"{file}:{line} uses {name}. Ask a Device for it (shell, start), or harness.child for a module of ours."
        for line, name in names
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("file", "target", "advice"),
    [
        ("harness/records.py", "pipeline", "higher layer"),
        ("harness/convert/onnx.py", "measure.session", "never know one another"),
        ("harness/convert/onnx.py", "device.host", "only deploy, measure"),
        ("harness/measure/session.py", "catalog.modules", "only compress, convert, evaluate"),
        ("harness/catalog/models.py", "device.host", "knows nothing of devices"),
        ("harness/errors.py", "units", "never know one another"),
        ("harness/store.py", "cli", "higher layer"),
        ("harness/__init__.py", "pipeline", "may import run only"),
    ],
)
def test_an_import_that_breaks_the_rules_is_found(file: str, target: str, advice: str) -> None:
    assert advice in (_why_not(file, target) or "allowed")


@pytest.mark.parametrize(
    ("file", "target"),
    [
        ("harness/records.py", "errors"),
        ("harness/measure/session.py", "device.host"),
        ("harness/measure/session.py", "measure.program"),
        ("harness/convert/onnx.py", "catalog.modules"),
        ("harness/pipeline.py", "convert.onnx"),
        ("harness/cli.py", ""),
        ("harness/__init__.py", "run"),
    ],
)
def test_an_import_that_keeps_the_rules_is_let_through(file: str, target: str) -> None:
    assert _why_not(file, target) is None


def test_an_import_under_type_checking_or_in_a_function_counts_for_the_layers_but_loads_nothing() -> None:
    tree = ast.parse(
        "import a\n"
        "if TYPE_CHECKING:\n    import b\nelse:\n    import c\n"
        "try:\n    import d\nexcept ImportError:\n    pass\n"
        "def f():\n    import e\n"
        "class G:\n    import g\n"
    )

    assert {name for _, name in _all_imports(tree)} == {"a", "b", "c", "d", "e", "g"}
    assert {name for _, name in _imports_when_imported(tree)} == {"a", "c", "d", "g"}


def _why_not(file: str, target: str) -> str | None:
    """Why a file may not import a module of ours, named without `harness.`; None where it may."""
    here, there = _unit(file), target.split(".", maxsplit=1)[0]
    if there in {"", here}:
        return None
    if file == DOOR:
        return (
            None if there == "run" else "harness/__init__.py may import run only: the rest is for `import harness.x`."
        )
    if _layer(there) > _layer(here):
        return f"That is a higher layer: move what {here} needs down, or hand it in as an argument."
    if _layer(there) == _layer(here):
        return "Units of one layer never know one another: move what both need to a lower one, or join in pipeline.py."
    is_stage = here in next(layer for layer in LAYERS if "measure" in layer)
    if there == "device" and is_stage and here not in DEVICE_USERS:
        return f"Of the stages only {', '.join(sorted(DEVICE_USERS))} talk to devices."
    if there == "catalog" and is_stage and here not in CATALOG_USERS:
        return f"Of the stages only {', '.join(sorted(CATALOG_USERS))} load models."
    if here == "catalog" and there in {"device", "store"}:
        return "A model knows nothing of devices and runs."
    return None


def _layer(unit: str) -> int:
    found = [number for number, layer in enumerate(LAYERS) if unit in layer]
    assert found, f"say in LAYERS where harness/{unit} stands"
    return found[0]


def _unit(file: str) -> str:
    """`harness/measure/session.py` -> measure, `harness/cli.py` -> cli."""
    return file.split("/")[1].removesuffix(".py")


def _module(file: str) -> str:
    return file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def _tree(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(encoding="utf-8"), filename=file)


def _own_imports(file: str) -> Iterator[tuple[int, str]]:
    """Line and module, without `harness.`, of every import of ours; empty for `harness` itself."""
    for line, name in _all_imports(_tree(file)):
        if name == "harness" or name.startswith("harness."):
            target = name.removeprefix("harness").removeprefix(".")
            is_module = (target and (PACKAGE / target.split(".")[0]).is_dir()) or (PACKAGE / f"{target}.py").is_file()
            yield line, target if is_module or "." in target else ""


def _all_imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        yield from _imported(node)


def _imports_when_imported(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Those that run when the file is imported: not in functions, not under TYPE_CHECKING."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from _imported(other)
                yield from _imports_when_imported(other)
            continue
        yield from _imported(child)
        yield from _imports_when_imported(child)


def _imported(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.Import):
        yield from ((node.lineno, alias.name) for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module == "harness":
        yield from ((node.lineno, f"harness.{alias.name}") for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.lineno, node.module


def _calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)
