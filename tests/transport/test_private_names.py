"""Each private name of Faust, mode and aiokafka that we use has a contract test that names it.

What is used is read from our sources: a new use without a test fails here.
"""

from __future__ import annotations

import ast
import inspect
import re
from importlib.metadata import version
from pathlib import Path

import pytest

from stream_app.edges.web import WebPort
from stream_app.runner import Runner
from stream_app.transport.consumer import BatchConsumer
from stream_app.transport.thread import FetchThread
from stream_app.transport.transactional import (
    NoCommitThread,
    TransactionalConsumer,
    TransactionalTransport,
)
from stream_app.transport.transport import BatchProducer, BatchTransport

ROOT = Path(__file__).resolve().parents[2]
# The versions that were read; with another, read again what the contract tests name.
READ = {"faust-streaming": "0.15.3", "mode-streaming": "0.7.1", "aiokafka": "0.14.0"}
HEIRS = (  # our classes with bases of theirs
    BatchConsumer,
    BatchProducer,
    BatchTransport,
    FetchThread,
    NoCommitThread,
    Runner,
    TransactionalConsumer,
    TransactionalTransport,
    WebPort,
)
SOURCES = sorted((ROOT / "stream_app").rglob("*.py"))
OF_TUPLES = {"_asdict", "_replace"}  # documented, for all their underscore
TESTS = [
    ROOT / "tests" / "transport" / name
    for name in ("test_contract.py", "test_transactional.py", "test_transactions.py")
]
PRIVATE = re.compile(r"_[a-z]\w*")


def accessed(tree: ast.AST) -> set[str]:
    """Private attributes of anything."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and PRIVATE.fullmatch(node.attr)
    }


def defined(tree: ast.AST) -> set[str]:
    """Private methods, and private attributes that are set on `self`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        ):
            found.add(node.attr)
    return {name for name in found if PRIVATE.fullmatch(name)}


def owned(heir: type) -> set[str]:
    return defined(ast.parse(inspect.getsource(heir)))


def inherited(heir: type) -> set[str]:
    """What an heir defines and its foreign bases know too."""
    theirs = "".join(
        inspect.getsource(base)
        for base in heir.__mro__
        if base.__module__.partition(".")[0] in ("faust", "mode", "aiokafka")
    )
    return owned(heir) & set(PRIVATE.findall(theirs))


def borrowed() -> set[str]:
    found = set[str]().union(*map(inherited, HEIRS))
    ours = set[str]().union(*map(owned, HEIRS)) - found
    for source in SOURCES:
        tree = ast.parse(source.read_text())
        found |= accessed(tree) - defined(tree) - ours - OF_TUPLES
    return found


def named_in_tests() -> set[str]:
    """Names in the bodies of contract tests."""
    return {
        name
        for path in TESTS
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for name in PRIVATE.findall(ast.unparse(node))
    }


def test_each_private_name_of_theirs_that_we_use_has_a_contract_test() -> None:
    names = borrowed()
    assert {"_drain_messages", "_txn_manager", "_starting_fut", "_producer"} <= names
    assert names - named_in_tests() == set()


def test_a_use_without_a_test_would_be_seen() -> None:
    tree = ast.parse("class A:\n    def f(self, consumer):\n        consumer._coordinator.close()")
    assert accessed(tree) - defined(tree) == {"_coordinator"}


@pytest.mark.parametrize("package", READ)
def test_the_versions_are_those_that_were_read(package: str) -> None:
    requirements = ROOT / "scripts" / "requirements"
    assert version(package) == READ[package]
    for name in ("run.in", "run.txt"):
        pinned = re.search(rf"^{package}==(\S+)", (requirements / name).read_text(), re.MULTILINE)
        assert pinned is not None, name
        assert pinned[1] == READ[package], name
