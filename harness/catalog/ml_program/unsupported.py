"""What the evaluator says instead of guessing."""

from __future__ import annotations

from harness.errors import BadData


class Unsupported(BadData):
    """An ML Program holds something that the evaluator does not know: nothing was computed from it.

    Attributes:
        op_type: `conv`, `constexpr_lut_to_dense`...; "program" where it is not about one operation.
        op_name: The operation's own name in the file.
        parameter: The parameter, mode or output at fault; None when the whole operation is unknown.
        problem: What was found there.
    """

    kind = "unsupported_op"
    hint = "The package may well be right: this evaluator cannot tell, and does not guess."

    def __init__(self, op_type: str, op_name: str, parameter: str | None, problem: str) -> None:
        super().__init__(op_type, op_name, parameter, problem)
        self.op_type, self.op_name, self.parameter, self.problem = op_type, op_name, parameter, problem

    def __str__(self) -> str:
        where = self.op_type if self.parameter is None else f"{self.op_type}.{self.parameter}"
        return f"the Core ML evaluator does not know {where} of {self.op_name!r}: {self.problem}"


class NotCovered(Exception):
    """Raised by an operator, which knows neither its type nor its name; `Program` makes an `Unsupported` of it."""

    def __init__(self, parameter: str | None, problem: object) -> None:
        super().__init__(parameter, problem)
        self.parameter, self.problem = parameter, str(problem)
