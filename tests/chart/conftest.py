"""The chart, rendered by the real Helm."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

CHART = Path(__file__).parents[2] / "charts" / "llmspell-storage"


@dataclass(frozen=True, slots=True)
class Helm:
    """The helm program and folders of its own, so that nothing of the user's is read or written."""

    program: Path
    home: Path

    def run(self, *arguments: str, values: Mapping[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
        """Run helm; values go through a file, with the types they have in JSON."""
        if values is not None:
            file = self.home / "values.json"
            file.write_text(json.dumps(values), encoding="utf-8")
            arguments = (*arguments, "--values", str(file))
        environment = {f"HELM_{name}_HOME": str(self.home / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
        return subprocess.run(
            [self.program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={"HOME": str(self.home), "PATH": "/usr/bin:/bin", **environment},
        )

    def template(self, values: Mapping[str, Any] | None = None, namespace: str = "storage") -> Rendered:
        """Render the chart as release ``demo``."""
        done = self.run("template", "demo", str(CHART), "--namespace", namespace, values=values or {})
        assert done.returncode == 0, done.stderr
        return Rendered([each for each in yaml.safe_load_all(done.stdout) if each])


@dataclass(frozen=True, slots=True)
class Rendered:
    """The objects of a rendered chart."""

    objects: list[dict[str, Any]]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the objects of a kind."""
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, kind: str) -> dict[str, Any]:
        """Return the only object of a kind."""
        (found,) = self.of(kind)
        return found

    def rules(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Go through the rules of roles: the role's namespace (or name) and the rule."""
        for role in self.of(kind):
            for rule in role["rules"]:
                yield role["metadata"].get("namespace", role["metadata"]["name"]), rule


@pytest.fixture
def chart(helm: Path, tmp_path: Path) -> Helm:
    """Give Helm with a home of its own."""
    return Helm(helm, tmp_path)
