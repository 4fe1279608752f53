"""Errors we raise on purpose, grouped by what the worker does about them.

A bad record is no error: it becomes `Rejected` and a dead letter.

ShopsentryError               for people: what happened, what to do
├── Misconfigured             do not start: a setting, a file or a port is wrong
├── BadBundle                 do not start, or keep the bundle in force
├── Unavailable               keep the records, wait, try again; never ack them
│   ├── StoreUnavailable      Redis
│   └── OutboxUnavailable     Kafka, when publishing
├── OutputsWithdrawn          drop the records: nobody saw their outputs, and they come again
└── DeviceFailed              the scorer's device is gone: stop the worker, non-zero
"""

from __future__ import annotations


class ShopsentryError(Exception):
    """Root of the errors that we raise on purpose; its text is fit for a terminal."""


class Misconfigured(ShopsentryError):
    """A setting, a file or a port is wrong; says which and what to do."""


class BadBundle(ShopsentryError):
    """A model bundle is missing, incomplete, altered or made by another version."""


class Unavailable(ShopsentryError):
    """An outside system did not answer. Trying again may help."""


class StoreUnavailable(Unavailable):
    """Redis did not answer, or refused to write."""


class OutboxUnavailable(Unavailable):
    """The broker did not confirm the outputs."""


class OutputsWithdrawn(ShopsentryError):
    """A transaction was aborted, and its records are read again."""


class DeviceFailed(ShopsentryError):
    """The device that scores can not be used any more."""
