"""Read a tool's output line by line: each line has to be of a known form, and each form has one meaning."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.measure.official.figures import Figures

NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
Read: TypeAlias = Callable[[re.Match[str]], None]
Form: TypeAlias = tuple[str, Read]
"""A pattern of a whole line, and what to do with it."""


class UnknownText(ValueError):
    """A line is of no known form, or one that must be there is missing.

    Attributes:
        line: The line; empty where one is missing.
    """

    def __init__(self, line: str, problem: str) -> None:
        super().__init__(line, problem)
        self.line, self.problem = line, problem

    def __str__(self) -> str:
        return f"{self.problem}: {self.line!r}" if self.line else self.problem


class ToolFailed(ValueError):
    """The tool says itself that it could not do it."""


LITERT_LOGS = (
    # A runtime's own log, with the source file that writes: nothing that the tool says of its results.
    r"(?:INFO|WARNING|VERBOSE|ERROR): \[(?!benchmark)[\w/]+\.(?:cc|h):\d+\].*",
    # How a message goes on that was passed up through LiteRT.
    r"└ .*",
)


def read_lines(
    text: str,
    forms: Sequence[Form],
    *,
    prefixes: Sequence[str] = (),
    logs: Sequence[str] = (),
    failures: Sequence[str] = (),
) -> None:
    """Give every line to the form that it has.

    Args:
        text: Standard output and standard error together: where a line goes differs between releases.
        forms: The first one that fits a line takes it.
        prefixes: Patterns that may stand before a line, as loggers put them there.
        logs: Patterns of whole lines, prefix and all, that others write in between; a line that has a form is none.
        failures: Patterns of other lines by which the tool says that it failed.

    Raises:
        UnknownText: No form fits a line.
        ToolFailed: It says so.
    """
    known = [(re.compile(pattern), read) for pattern, read in forms]
    before = re.compile("|".join(prefixes)) if prefixes else None
    others = re.compile("|".join(logs)) if logs else None
    for raw, line in _lines(text, before):
        for pattern, read in known:
            found = pattern.fullmatch(line)
            if found is not None:
                read(found)
                break
        else:
            if others is not None and others.fullmatch(raw) is not None:
                continue
            if any(re.fullmatch(pattern, line) for pattern in failures):
                raise ToolFailed(line)
            raise UnknownText(line, "a line of its output is not known")


def once(figures: Figures, name: str, value: float | None, line: str) -> None:
    """Keep a figure that a tool says one time only.

    Raises:
        UnknownText: It says it again.
    """
    if getattr(figures, name) is not None:
        raise UnknownText(line, "it says this twice")
    setattr(figures, name, value)


def ignore(_found: re.Match[str]) -> None:
    """For a line that says nothing that is kept."""


def _lines(text: str, before: re.Pattern[str] | None) -> Iterable[tuple[str, str]]:
    """Each line that is not empty, as it is and without prefixes."""
    for raw in text.splitlines():
        line = raw.strip()
        while before is not None and (found := before.match(line)) and found.end():
            line = line[found.end() :].strip()
        if line:
            yield raw.strip(), line
