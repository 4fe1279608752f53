"""Settings, whatever stands in the file and the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_app.core.errors import Misconfigured
from stream_app.settings import PREFIX, Settings, listing, load

NUMBERS = ("kafka.partitions", "kafka.replication", "window.size", "flow.in_flight", "web.port")
SECRET = ("kafka.password", "kafka.ssl_key_password", "redis.url", "web.token", "privacy.key")
ALL = [s.name for s in listing()]
numbers = st.dictionaries(st.sampled_from(NUMBERS), st.integers(1, 999))
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings")


def in_environment(given: Mapping[str, object]) -> dict[str, str]:
    rest = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    names = {name: PREFIX + name.replace(".", "__").upper() for name in given}
    return rest | {names[name]: str(value) for name, value in given.items()}


def value_of(settings: Settings, name: str) -> object:
    section, _, key = name.partition(".")
    return getattr(getattr(settings, section), key)


@given(numbers, numbers)
def test_each_setting_is_that_of_the_environment_else_the_file_else_the_default(
    folder: Path, written: dict[str, int], said: dict[str, int]
) -> None:
    file = folder / "settings.toml"
    # Dotted names at the top are the same to TOML as sections.
    file.write_text("".join(f"{name} = {value}\n" for name, value in written.items()))
    with patch.dict(os.environ, in_environment(said), clear=True):
        settings, shown = load(file), {s.name: s for s in listing(load(file), file)}
    for name in NUMBERS:
        wanted = said.get(name, written.get(name, value_of(Settings.model_construct(), name)))
        source = "environment" if name in said else "file" if name in written else "default"
        assert value_of(settings, name) == wanted
        assert (shown[name].value, shown[name].source) == (str(wanted), source)


@given(st.dictionaries(st.sampled_from(ALL), words, max_size=4))
def test_whatever_is_said_is_in_force_or_refused_with_a_word(given: dict[str, str]) -> None:
    with patch.dict(os.environ, in_environment(given), clear=True):
        try:
            names = [s.name for s in listing(load())]
        except Misconfigured as error:
            names, told = ALL, str(error)
        else:
            told = "in force"
    assert told
    assert names == ALL


@given(st.dictionaries(st.sampled_from(SECRET), st.integers(0, 1 << 40), min_size=1), st.booleans())
def test_no_secret_is_shown_nor_told_when_it_is_refused(
    folder: Path, given: dict[str, int], in_file: bool
) -> None:
    secrets = {name: f"hush-{value:030}" for name, value in given.items()}
    said = {name: f"redis://u:{s}@h/0" if name == "redis.url" else s for name, s in secrets.items()}
    said |= {"kafka.security_protocol": "SASL_SSL"}  # without a user: refused in half the cases
    if given.get("kafka.password", 1) % 2:
        said |= {"kafka.username": "u"}
    file = folder / "secrets.toml"
    file.write_text("".join(f'{name} = "{value}"\n' for name, value in said.items()))
    with patch.dict(os.environ, in_environment({} if in_file else said), clear=True):
        try:
            settings = load(file if in_file else None)
            told = str(listing(settings)) + repr(settings) + str(settings.model_dump())
        except Misconfigured as error:
            told = str(error)
    assert not any(secret in told for secret in secrets.values())


@given(words)
def test_a_file_of_any_words_is_read_or_refused(folder: Path, content: str) -> None:
    file = folder / "any.toml"
    file.write_text(content, "utf-8")
    with patch.dict(os.environ, in_environment({}), clear=True):
        try:
            load(file)
            told = str(file)
        except Misconfigured as error:
            told = str(error)
    assert str(file) in told
