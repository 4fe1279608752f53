"""Redis as the other edges use it: a connection, scripts, and what its refusals mean for us."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from importlib.resources import files
from typing import Any, Final, Generic, Protocol, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
    TryAgainError,
)
from redis.retry import Retry

from stream_app.core.errors import Misconfigured, ShopsentryError, StoreUnavailable
from stream_app.core.window import STARTED_OVER

# Redis 6.2 tells these from inside a script as plain errors: "ERR Error running script (call to
# f_...): @user_script:137: -OOM command not allowed when used memory > 'maxmemory'."
REFUSALS: Final = {
    "OOM": "Redis is full (maxmemory)",
    "READONLY": "this Redis is a replica that takes no writes",
    "MISCONF": "Redis takes no writes because it cannot save to its disk",
    "NOREPLICAS": "Redis takes no writes because too few replicas are connected",
    "MASTERDOWN": "this Redis is a replica that lost its primary",
    "CLUSTERDOWN": "the Redis cluster does not serve this partition",
    "LOADING": "Redis is loading its data",
    "BUSY": "Redis is busy with another script",
    "TRYAGAIN": "the Redis cluster moves this partition",
}


_AT_ONCE: Final = 128  # values that one command reads: they may be large

Reply = TypeVar("Reply")
Result = TypeVar("Result")


class Client(Protocol):
    """What we need of `redis.Redis`; `redis.RedisCluster` has it too."""

    def execute_command(self, *args: Any, **options: Any) -> Any: ...
    def pipeline(self, transaction: Any = ...) -> Any: ...
    def script_load(self, script: Any) -> Any: ...


def connect(
    url: str, *, timeout_s: float = 5.0, connect_timeout_s: float | None = None
) -> redis.Redis:
    """A client for threads; connects at the first command. Raises Misconfigured for a bad URL.

    A command on a connection that turns out to be dead is repeated once, at once; waiting is up to
    the caller.
    """
    try:
        return redis.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=connect_timeout_s or timeout_s,
            retry=Retry(NoBackoff(), 1),
            decode_responses=False,
        )
    except ValueError as error:
        raise Misconfigured(f"not the URL of a Redis: {error}") from error


async def values_of(
    client: Client, executor: Executor, keys: Sequence[bytes], at_once: int = _AT_ONCE
) -> list[bytes | None]:
    """What keys of one hash slot hold, read off the event loop, `at_once` by a command. Raises
    StoreUnavailable, Misconfigured.
    """
    parts = [keys[begin : begin + at_once] for begin in range(0, len(keys), at_once)]
    found = await replies_of(client, executor, [(b"MGET", *part) for part in parts])
    return [value for some in found for value in some]


async def replies_of(
    client: Client, executor: Executor, commands: Sequence[Sequence[bytes]]
) -> list[Any]:
    """What commands on keys of one hash slot answer, one after another in one round trip, but with
    others' in between. Raises StoreUnavailable, Misconfigured.
    """
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(executor, _translating, lambda: _replies(client, commands))


class Script(Generic[Reply]):
    """A script of this package, run off the event loop: the files `names`, one after another."""

    def __init__(self, client: Client, executor: Executor, *names: str) -> None:
        self._client = client
        self._executor = executor
        texts = [files(__package__).joinpath(name).read_bytes() for name in names]
        self._text = b"\n".join(texts)
        self._sha = hashlib.sha1(self._text, usedforsecurity=False).hexdigest()

    async def __call__(self, keys: Sequence[bytes], args: Sequence[bytes | int]) -> Reply:
        """Run on `keys` of one hash slot. Raises StoreUnavailable, Misconfigured."""
        reply, _ = await self._off_loop(keys, args, ())
        return reply

    async def and_read(
        self, keys: Sequence[bytes], args: Sequence[bytes | int], values: Sequence[bytes]
    ) -> tuple[Reply, list[bytes | None]]:
        """The same; and what the keys `values` of this slot hold after it, or a little later, in
        the same round trip. Values that do not pass through a script cost Redis far less.
        """
        return await self._off_loop(keys, args, values)

    async def _off_loop(
        self, keys: Sequence[bytes], args: Sequence[bytes | int], values: Sequence[bytes]
    ) -> tuple[Reply, list[bytes | None]]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._run, keys, args, values)

    def _run(
        self, keys: Sequence[bytes], args: Sequence[bytes | int], values: Sequence[bytes]
    ) -> tuple[Reply, list[bytes | None]]:
        def run() -> tuple[Reply, list[bytes | None]]:
            try:
                return self._evaluate(keys, args, values)
            except NoScriptError:  # first use, restart or failover: nothing was executed
                self._client.script_load(self._text)
                return self._evaluate(keys, args, values)

        return _translating(run)

    def _evaluate(
        self, keys: Sequence[bytes], args: Sequence[bytes | int], values: Sequence[bytes]
    ) -> tuple[Reply, list[bytes | None]]:
        command = ("EVALSHA", self._sha, len(keys), *keys, *args)
        if not values:
            return self._client.execute_command(*command), []
        reply, found = _replies(self._client, [command, ("MGET", *values)])
        return reply, found


def _replies(client: Client, commands: Sequence[Sequence[bytes | int | str]]) -> list[Any]:
    if len(commands) == 1:
        return [client.execute_command(*commands[0])]
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    found: list[Any] = pipeline.execute(raise_on_error=False)  # it would put keys into the message
    for one in found:
        if isinstance(one, Exception):
            raise one
    return found


def _translating(run: Callable[[], Result]) -> Result:
    try:
        return run()
    except RedisError as error:
        told = translated(error)
        if told is None:
            raise
        raise told from error


def translated(error: RedisError) -> ShopsentryError | None:
    """Our error for one of Redis, None for what only a mistake in our code brings about."""
    text = str(error)
    match error:
        case AuthenticationError() | AuthorizationError() | NoPermissionError():
            return Misconfigured(f"Redis does not let us in; check its user and password: {text}")
        case MovedError() | AskError():
            return Misconfigured(
                "this Redis is part of a cluster, and a worker keeps to one server: give redis.url "
                "the address of a Redis that is not in cluster mode"
            )
        case OutOfMemoryError():
            return StoreUnavailable(REFUSALS["OOM"])
        case ReadOnlyError():
            return StoreUnavailable(REFUSALS["READONLY"])
        case BusyLoadingError():
            return StoreUnavailable(REFUSALS["LOADING"])
        case MasterDownError():
            return StoreUnavailable(REFUSALS["MASTERDOWN"])
        case ClusterDownError():
            return StoreUnavailable(REFUSALS["CLUSTERDOWN"])
        case TryAgainError():
            return StoreUnavailable(REFUSALS["TRYAGAIN"])
        case ConnectionError():
            return StoreUnavailable(f"Redis cannot be reached: {text}")
        case TimeoutError():
            return StoreUnavailable(f"Redis did not answer in time: {text}")
        case NoScriptError():
            return StoreUnavailable("Redis loses its scripts as fast as they are loaded")
        case ResponseError() if "WINDOWROW" in text:
            return Misconfigured(
                "the windows in Redis were stored under another schema; choose another prefix"
            )
        case ResponseError() if "STARTEDOVER" in text:
            return Misconfigured(STARTED_OVER)
        case ResponseError() if "NOPERM" in text or "The user executing the script" in text:
            return Misconfigured(f"the user of Redis may not do this: {text}")
        case ResponseError():
            words = text.replace("-", " ").replace(":", " ").split()
            refusal = next((told for code, told in REFUSALS.items() if code in words), None)
            return StoreUnavailable(refusal) if refusal else None
    return None
