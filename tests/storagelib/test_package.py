"""The package as a whole: what it exports, how light it is, its examples, its types."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import subprocess
import sys
from importlib import resources

import pytest

import storagelib
from storage_operator.resources import tenant

MODULES = ["storagelib", *(f"storagelib.{module.name}" for module in pkgutil.iter_modules(storagelib.__path__))]
# The conformance tests are no modules to import outside pytest; their report is.
DOCUMENTED = ["storagelib", "storagelib.conformance.report"] + [
    module.name
    for module in pkgutil.walk_packages(storagelib.__path__, "storagelib.")
    if not module.name.startswith("storagelib.conformance.")
]
IMPORT_SECONDS_MAX = 0.150


def test_all_is_what_is_public() -> None:
    """``__all__`` is sorted as ruff sorts it (constants, classes, functions) and names every public object."""
    here = {name for name in vars(storagelib) if not name.startswith("_") and name not in {"annotations", "Any"}}
    public = here - {"TYPE_CHECKING"} | set(storagelib._LATER)
    submodules = {name.rpartition(".")[2] for name in MODULES}
    assert set(storagelib.__all__) == public - submodules
    assert storagelib.__all__ == sorted(storagelib.__all__, key=lambda name: (not name.isupper(), name))


@pytest.mark.parametrize("name", DOCUMENTED)
def test_examples_in_docstrings_are_true(name: str) -> None:
    """Every example in a docstring prints what it says."""
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


@pytest.mark.parametrize("name", sorted(storagelib._LATER))
def test_what_is_loaded_later_is_there(name: str) -> None:
    """Both twins are reached from the package, and nothing else is."""
    assert getattr(storagelib, name).__name__ == name
    assert name in dir(storagelib)
    with pytest.raises(AttributeError, match="no attribute"):
        getattr(storagelib, name + "s")


def test_the_blocking_twin_is_what_the_generator_makes() -> None:
    """Nobody changed it by hand, and nobody forgot to make it anew."""
    run = subprocess.run([sys.executable, "scripts/sync", "--check"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


def test_importing_is_light() -> None:
    """An import loads no driver, no numpy and no event loop, and works for less than 150 ms in the best of five.

    Work is counted, not waiting: other tests beside this one would make it a matter of luck.
    """
    code = (
        "import sys, time; start = time.process_time(); import storagelib; took = time.process_time() - start;"
        "heavy = {'asyncio', 'numpy', 'psycopg', 'psycopg_pool', 'jinja2'} & set(sys.modules);"
        "print(took); sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(5)]
    assert min(float(run.stdout) for run in runs) < IMPORT_SECONDS_MAX


def test_types_are_shipped() -> None:
    """Type checkers of users find ``py.typed``."""
    assert resources.files("storagelib").joinpath("py.typed").is_file()


def test_reader_and_writer_name_the_same_keys() -> None:
    """The keys that the operator writes under are the keys that the library reads: one class."""
    assert tenant.SecretKeys is storagelib.SecretKeys
    assert (tenant.MODE_KEY, tenant.SCHEMA_KEY) == (storagelib.MODE_KEY, storagelib.SCHEMA_KEY)
