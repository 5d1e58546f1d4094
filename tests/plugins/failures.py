"""What failed is told when it fails: a run that is cut off, or ends with its machine, has said by then why."""

from __future__ import annotations

import time

import pytest


class FailuresAtOnce:
    """Writes each failure to the terminal as soon as it is reported, with the time since the run began."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal
        self._began = time.monotonic()

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write the failure of a test, of its fixtures, or of the process that ran it."""
        if not report.failed:
            return
        self._terminal.write(f"\n{report.nodeid} ({report.when}) after {time.monotonic() - self._began:.0f} s:\n")
        self._terminal.write_line(report.longreprtext)
        for title, text in report.sections:
            self._terminal.write_line(f"{title}:\n{text}")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Take part where a terminal is written, which is not in the processes that pytest-xdist starts."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(FailuresAtOnce(terminal))
