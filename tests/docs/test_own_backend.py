"""The conformance tests find a fault in the guide's backend, and the report names it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.docs.pages import DOCS, blocks_of

FILES = {block.value: block.text for block in blocks_of(DOCS / "how-to" / "write-a-backend.md") if block.mark == "file"}


def test_a_backend_without_order_is_found_out(tmp_path: Path) -> None:
    """Keys in the order of their writing are not what is promised."""
    for name, text in FILES.items():
        (tmp_path / str(name)).write_text(text)
    right = FILES["one_file.py"]
    wrong = right.replace("found = sorted(key for", "found = list(key for")
    assert wrong != right
    (tmp_path / "one_file.py").write_text(wrong)
    tests = ["--pyargs", "storagelib.conformance.test_kv", "-p", "storagelib.conformance.plugin", "--llmspell-report"]
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", *tests, "-k", "one_file and (in_order or counts_every)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 1, finished.stdout
    assert "kv on one_file-sync: 1 of 2" in finished.stdout
    assert "not: test_keys_are_paged_in_order_of_code_points[one_file-sync]" in finished.stdout
