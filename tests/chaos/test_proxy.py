"""The proxy of the faults: it passes everything on until it is told not to."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from tests.proxy import Proxy
from tests.servers import RedisServer

pytestmark = pytest.mark.redis


@pytest.fixture
def way(redis_server: RedisServer) -> Iterator[Proxy]:
    with Proxy(("127.0.0.1", redis_server.port)) as made:
        yield made


@pytest.fixture
def link(way: Proxy) -> Iterator[socket.socket]:
    with connected(way) as made:
        yield made


def connected(way: Proxy) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", way.port))
    made.settimeout(10)
    return made


def ask(link: socket.socket, word: bytes = b"") -> bytes:
    link.sendall(b"PING " + word + b"\r\n")
    return link.makefile("rb").readline()


def test_what_is_sent_comes_back_whole(link: socket.socket) -> None:
    word = b"x" * 60_000
    link.sendall(b"".join(b"PING %d%s\r\n" % (n, word) for n in range(20)))
    answers = link.makefile("rb")
    for n in range(20):
        answers.readline()  # its length
        assert answers.readline() == b"%d%s\r\n" % (n, word)


def test_a_cut_breaks_what_is_open_and_nothing_else(way: Proxy, link: socket.socket) -> None:
    assert ask(link) == b"+PONG\r\n"
    assert way.cut() == 1
    with pytest.raises(ConnectionError):
        ask(link)
    with connected(way) as other:
        assert ask(other) == b"+PONG\r\n"


def test_silence_is_no_end(way: Proxy, link: socket.socket) -> None:
    way.silence()
    link.settimeout(0.3)
    with pytest.raises(TimeoutError):
        ask(link)
    way.heal()
    link.settimeout(10)
    assert link.recv(7) == b"+PONG\r\n"


def test_a_delay_is_of_each_way(way: Proxy, link: socket.socket) -> None:
    way.delay_s = 0.1
    began = time.monotonic()
    assert ask(link) == b"+PONG\r\n"
    assert time.monotonic() - began >= 0.2  # never less, however busy the machine


def test_a_server_that_is_away_ends_connections(way: Proxy) -> None:
    way.target = ("127.0.0.1", 1)
    with connected(way) as link, pytest.raises(ConnectionError):
        ask(link)
