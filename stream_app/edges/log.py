"""Log lines: one event of the worker's life each, never a payload, users only as keyed hashes."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

# What Faust and mode say when a worker stops on an error; the command says it for people.
_TOLD_ELSEWHERE: Final = ("Crashed reason", "We experienced a crash", "Error while stopping child")
# They debug by showing all that goes over the wire: passwords, tokens, users' records.
_TELLTALE: Final = ("aiokafka.conn", "aiokafka.producer.producer")
# Normal while a group forms, but logged as errors.
_NORMAL: Final = ("Group Coordinator Request failed", "Heartbeat failed", "Timer commit is overl")


def logging_config(level: str, as_json: bool, debug: bool) -> dict[str, Any]:
    """For `logging.config.dictConfig`. Faust and aiokafka speak from warnings on, or with debug."""
    theirs = "DEBUG" if debug else "WARNING"
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": JsonLine if as_json else PlainLine}},
        "filters": {"quiet": {"()": Quiet, "debug": debug}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "line",
                "filters": ["quiet"],
            }
        },
        "root": {"level": theirs, "handlers": ["stderr"]},
        "loggers": {
            "shopsentry": {"level": "DEBUG" if debug else level.upper()},
            **{name: {"level": "WARNING"} for name in _TELLTALE},
        },
    }


class Quiet(logging.Filter):
    """Drops what is said elsewhere, or is no trouble at all."""

    def __init__(self, debug: bool) -> None:
        super().__init__()
        self._debug = debug

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        return self._debug or not any(words in text for words in (*_TOLD_ELSEWHERE, *_NORMAL))


class PlainLine(logging.Formatter):
    """`12:03:04 warning  Redis cannot be reached ...  topic=shop.events partition=2`"""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        facts = "".join(f"  {name}={value}" for name, value in _facts(record).items())
        line = f"{at:%H:%M:%S} {record.levelname.lower():8} {record.getMessage()}{facts}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonLine(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_facts(record),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(said, enc_hook=str).decode()


_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    """What was passed as `extra`."""
    if record.name.partition(".")[0] != "shopsentry":
        return {}
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}
