"""The command itself: its help is quick, its errors are short."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stream_app import cli
from stream_app.core.errors import Misconfigured, Unavailable
from stream_app.core.pseudonym import Pseudonyms
from tests.servers import ROOT


def shopsentry(*arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stream_app", *arguments],
        cwd=ROOT,
        input=said,
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_names_every_command_and_loads_nothing_heavy() -> None:
    program = (
        "import sys; from stream_app.cli import app\n"
        "try: app(['--help'], prog_name='shopsentry')\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'faust', 'numpy', 'pydantic', 'aiokafka', 'pyarrow', 'redis'}\n"
        "sys.exit(f'loaded: {heavy & set(sys.modules)}' if heavy & set(sys.modules) else 0)"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    assert all(name in told.stdout for name in cli.COMMANDS)


@pytest.mark.parametrize("arguments", [["--config", "nix.toml", "config"], ["produce", "nix.csv"]])
def test_an_error_is_a_line_on_stderr(arguments: list[str]) -> None:
    told = shopsentry(*arguments)
    assert told.returncode == 2
    assert told.stderr.startswith("shopsentry: ")
    assert "Traceback" not in told.stderr
    assert told.stdout == ""


def test_the_names_that_stand_for_users_are_told_to_the_holder_of_the_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = "a key of 32 characters or more.."
    monkeypatch.setenv("SHOPSENTRY_PRIVACY__KEY", key)
    told = shopsentry("pseudonym", said="u17\nKäufer 1\n")
    names = Pseudonyms(key.encode())
    assert told.stdout == f"{names.of('u17')}\tu17\n{names.of('Käufer 1')}\tKäufer 1\n"
    monkeypatch.delenv("SHOPSENTRY_PRIVACY__KEY")
    told = shopsentry("pseudonym", said="u17\n")
    assert (told.returncode, told.stdout) == (2, "")
    assert "privacy.key" in told.stderr


def test_a_worker_scores_only_with_a_model_that_is_signed_where_it_must_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = str(shutil.copytree(ROOT / "models" / "pretrained" / "shop-tiny", tmp_path / "model"))
    events = tmp_path / "events.jsonl"
    events.write_text('{"user_id": "u", "type": "click", "event_time": 0}\n')
    told = shopsentry("sign", "--model", model, "--key", str(tmp_path / "key.pem"), "--new-key")
    assert told.returncode == 0, told.stderr
    monkeypatch.setenv(
        "SHOPSENTRY_SCORER__TRUSTED_KEYS", told.stdout.strip().rpartition("KEYS=")[2]
    )
    score = ("score", "--in", str(events), "--out", "-", "--model", model)
    assert shopsentry(*score).returncode == 0
    (tmp_path / "model" / "signature.json").unlink()
    told = shopsentry(*score)
    assert (told.returncode, "not signed" in told.stderr) == (1, True)
    monkeypatch.setenv("SHOPSENTRY_SCORER__BUNDLE", model)
    told = shopsentry("audit")  # it reads its rules from there
    assert (told.returncode, "not signed" in told.stderr) == (1, True)
    monkeypatch.delenv("SHOPSENTRY_SCORER__TRUSTED_KEYS")
    with (tmp_path / "model" / "schema.toml").open("a") as schema:
        schema.write("\n")
    told = shopsentry("audit")
    assert (told.returncode, "schema.toml is not the file" in told.stderr) == (1, True)


def test_scores_never_go_over_the_file_they_are_made_of(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("{}")
    other = tmp_path / "more.jsonl"
    other.write_text("{}")
    for source, history in ((path, other), (other, path)):
        told = shopsentry(
            "score", "--in", str(source), "--history", str(history), "--out", str(path)
        )
        assert (told.returncode, path.read_text()) == (2, "{}")
        assert told.stderr.startswith("shopsentry: --out ")


def test_rejects_never_go_over_the_file_that_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("{}")
    told = shopsentry("produce", str(path), "--rejects", str(path))
    assert (told.returncode, path.read_text()) == (2, "{}")
    assert told.stderr.startswith("shopsentry: --rejects ")


def test_a_folder_that_cannot_be_is_an_error_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = shopsentry("simulate", "--out", str(tmp_path / "file" / "data"), "--events", "1")
    assert told.returncode == 2
    assert told.stderr.startswith("shopsentry: ")
    assert "cannot be written: Not a directory" in told.stderr


def test_debug_shows_where_an_error_comes_from() -> None:
    assert "Traceback" in shopsentry("--debug", "produce", "nix.csv").stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [(Misconfigured("wrong"), 2), (Unavailable("away"), 1), (KeyboardInterrupt(), 130)],
)
def test_the_exit_code_says_what_kind_of_end_it_was(
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken() -> None:
        raise error

    monkeypatch.setitem(cli.COMMANDS, "broken", cli.Command("broken_module:broken", "Ends badly."))
    module = type(sys)("broken_module")
    module.__dict__["broken"] = broken
    monkeypatch.setitem(sys.modules, "broken_module", module)
    with pytest.raises(SystemExit) as ended:
        cli.main(["broken"])
    assert ended.value.code == code
    assert capsys.readouterr().err.count("\n") == 1


def test_a_typing_error_gets_a_suggestion() -> None:
    told = shopsentry("confg")
    assert told.returncode == 2
    assert "config" in told.stderr


@pytest.mark.parametrize("name", ["produce", "alerts", "replay", "doctor", "config"])
def test_a_command_is_where_the_registry_says(name: str) -> None:
    module, _, function = cli.COMMANDS[name].place.partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_config_prints_a_table_for_the_documentation() -> None:
    told = shopsentry("config", "--docs").stdout
    assert "| `kafka.bootstrap` | `SHOPSENTRY_KAFKA__BOOTSTRAP` | `localhost:9092` |" in told
    assert str(Path.home()) not in told
