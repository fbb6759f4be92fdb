"""Counts and lists as sentences have them. How text of strangers is cleaned is tested beside the reports."""

from __future__ import annotations

import pytest

from harness.text import count, few


def test_a_count_has_its_noun() -> None:
    assert [count(number, "cell", "cells") for number in (0, 1, 2)] == ["0 cells", "1 cell", "2 cells"]


@pytest.mark.parametrize(
    ("names", "said"), [([], ""), (["a"], "a"), (["a", "b"], "a, b"), (["a", "b", "c", "d"], "a, b and 2 more")]
)
def test_a_list_that_is_too_long_says_how_many_more_there_are(names: list[str], said: str) -> None:
    assert few(names, 2) == said
