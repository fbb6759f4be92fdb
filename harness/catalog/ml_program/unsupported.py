"""What an operator says instead of guessing."""

from __future__ import annotations


class NotCovered(Exception):
    """Raised by an operator, which knows neither its type nor its name; `Program` makes an `Unsupported` of it."""

    def __init__(self, parameter: str | None, problem: object) -> None:
        super().__init__(parameter, problem)
        self.parameter, self.problem = parameter, str(problem)
