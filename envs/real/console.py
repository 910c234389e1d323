"""The operator at a terminal: arranges scenes, can stop the robot with Ctrl-C, and grades what was achieved."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from envs.real.grades import Grade, Judgement, Voided


class ConsoleOperator:
    """Asks in words and reads answers line by line; the end of the input ends the session."""

    def __init__(self, read: TextIO | None = None, write: TextIO | None = None) -> None:
        self._read, self._write = read or sys.stdin, write or sys.stdout

    def prepare(self, scene: str, instruction: str) -> None:
        self._say(f"\n{scene}: {instruction}")
        answer = self._ask(
            "Arrange the scene, keep clear of the robot. Enter starts; `void REASON` skips this attempt: "
        )
        if answer.startswith("void"):
            raise Voided(f"the operator: {answer.removeprefix('void').strip() or 'no reason given'}")

    def judge(self, grades: tuple[Grade, ...], ended: str) -> Judgement:
        self._say(f"The trial ended: {ended}. Count what was achieved; `void REASON` if the trial must not count.")
        while True:
            found = Judgement({grade.name: self._count(grade) for grade in grades})
            try:
                points = found.points(grades)
            except ValueError as error:
                self._say(f"{error}; once more.")
                continue
            if self._ask(f"{points:g} of 100 points. Enter takes it down, anything else asks again: ") == "":
                return found

    def _count(self, grade: Grade) -> int:
        while True:
            answer = self._ask(f"  {grade.name} ({grade.points:g} points each, 0 to {grade.most}): ")
            if answer.startswith("void"):
                raise Voided(f"the operator: {answer.removeprefix('void').strip() or 'no reason given'}")
            if answer.isdecimal() and int(answer) <= grade.most:
                return int(answer)
            self._say(f"  a whole number from 0 to {grade.most}, please")

    @contextmanager
    def watch(self, press: Callable[[], None]) -> Iterator[None]:
        """Ctrl-C stops the robot; a thread waits for it, since the policy may be busy in compiled code."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, lambda *_: press())
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        done = threading.Event()
        listener = threading.Thread(target=_listen, args=(press, done), name="emergency-stop", daemon=True)
        listener.start()
        self._say("Moving. Ctrl-C is the emergency stop.")
        try:
            yield
        finally:
            done.set()
            listener.join()
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)
            signal.signal(signal.SIGINT, before)

    def _ask(self, question: str) -> str:
        self._write.write(question)
        self._write.flush()
        line = self._read.readline()
        if not line:
            raise KeyboardInterrupt("the operator's input has ended")
        return line.strip()

    def _say(self, text: str) -> None:
        self._write.write(f"{text}\n")
        self._write.flush()


def _listen(press: Callable[[], None], done: threading.Event) -> None:
    while not done.is_set():
        if signal.sigtimedwait({signal.SIGINT}, 0.05) is not None:
            press()
