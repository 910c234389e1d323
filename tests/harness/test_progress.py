"""What is printed while and after long work."""

from __future__ import annotations

import shlex

import pytest
from rich.console import Console

from harness.progress import say_command


def test_a_command_is_printed_as_it_must_be_typed_lists_included(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["memvla", "train", "data=[demos/press,demos/pick]", "run.dir=a b"]
    say_command(Console(), command)
    assert shlex.split(capsys.readouterr().out) == command
