"""Counts and lists as sentences have them. How text of strangers is cleaned is tested beside the reports."""

from __future__ import annotations

import pytest

from harness.text import count, few, without_name


def test_a_count_has_its_noun() -> None:
    assert [count(number, "cell", "cells") for number in (0, 1, 2)] == ["0 cells", "1 cell", "2 cells"]


@pytest.mark.parametrize(
    ("names", "said"), [([], ""), (["a"], "a"), (["a", "b"], "a, b"), (["a", "b", "c", "d"], "a, b and 2 more")]
)
def test_a_list_that_is_too_long_says_how_many_more_there_are(names: list[str], said: str) -> None:
    assert few(names, 2) == said


def test_a_name_in_front_is_said_once() -> None:
    assert without_name("phone: phone: it is full", "phone") == "phone: it is full"
    assert without_name("phones: none", "phone") == "phones: none"
