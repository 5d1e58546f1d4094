"""Progress and errors, as a person sees them on standard error."""

from __future__ import annotations

import sys
from itertools import count

import pytest

from storage_operator.cli import main
from storage_operator.cli.progress import ProgressLine


def test_log_gets_few_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In a log, counting shows up every ten seconds only, and each new step at once."""
    seconds = count(0, 4)
    monkeypatch.setattr("storage_operator.cli.progress.time.monotonic", lambda: float(next(seconds)))
    with ProgressLine() as line:
        for done in range(5):
            line(f"etcd: compiling, {done} of 9 packages")
        line("etcd: linking (5 s)")
    shown = capsys.readouterr().err.splitlines()
    assert shown == [
        "etcd: compiling, 0 of 9 packages",
        "etcd: compiling, 3 of 9 packages",
        "etcd: linking (5 s)",
    ]


def test_terminal_line_rewrites_itself(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal one step stays on its line, another one gets the next, and the end finishes it."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with ProgressLine() as line:
        line("etcd: compiling, 1 of 2 packages")
        line("etcd: compiling, 2 of 2 packages")
        line("PostgreSQL: starting")
    shown = capsys.readouterr().err
    assert shown.count("\r\033[K") == 2
    assert shown.count("\n") == 2
    assert shown.endswith("PostgreSQL: starting\n")


def test_user_error_is_one_line_without_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake at the command line ends with exit code 1 and one sentence that says what to do."""
    monkeypatch.setattr(sys, "argv", ["llmspell", "dev", "env", "--name", "no-such-environment"])
    with pytest.raises(SystemExit) as ended:
        main.run()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "error: the environment no-such-environment is not up. Run: llmspell dev up\n"
