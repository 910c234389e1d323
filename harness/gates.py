"""Gates: rules that a policy or a suite keeps or breaks, each checked by running the real thing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Gate:
    """One rule and what running it showed. passed None: could not be asked of this one (the detail says why)."""

    rule: str
    passed: bool | None
    detail: str = ""


class Broken(AssertionError):
    """A rule was broken; the message says how."""


def demand(holds: bool, wrong: str) -> None:
    """Raise Broken unless the rule holds."""
    if not holds:
        raise Broken(wrong)


class NotAsked(Exception):
    """The rule does not apply here; the message says why."""


def run_gates(gates: list[tuple[str, Callable[[], str]]]) -> Iterator[Gate]:
    """Run each gate; an exception of any kind fails it. A gate returns a few words on what was seen."""
    for rule, gate in gates:
        try:
            yield Gate(rule, True, gate())
        except NotAsked as reason:
            yield Gate(rule, None, str(reason))
        except Broken as broken:
            yield Gate(rule, False, str(broken))
        except Exception as error:
            yield Gate(rule, False, " ".join(f"{type(error).__name__}: {error}".split())[:300])
