"""Bearer tokens come out of a file, as it is when one is needed."""

from __future__ import annotations

import base64
from pathlib import Path

import msgspec
import pytest

from stream_app.core.errors import Misconfigured
from stream_app.edges.bearer import BearerFile
from stream_app.settings import KafkaSettings


def jwt(**claims: object) -> str:
    def part(content: object) -> str:
        return base64.urlsafe_b64encode(msgspec.json.encode(content)).decode().rstrip("=")

    return f"{part({'alg': 'none'})}.{part(claims)}."


async def test_a_token_is_read_anew_each_time(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{jwt(sub='a', exp=5000)}\n")
    bearer = BearerFile(file)
    assert await bearer.token() == jwt(sub="a", exp=5000)
    file.write_text(jwt(sub="a", exp=6000))
    assert bearer.librdkafka("") == (jwt(sub="a", exp=6000), 6000)


@pytest.mark.parametrize("token", ["opaque", "a.b.c", jwt(sub="a"), jwt(exp="soon"), "a.!.c"])
def test_a_token_that_does_not_tell_its_end_is_asked_for_again_soon(
    tmp_path: Path, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 1000.0)
    (tmp_path / "token").write_text(token)
    assert BearerFile(tmp_path / "token").librdkafka("") == (token, 1300.0)


def test_without_a_token_it_says_where_one_is_missing(tmp_path: Path) -> None:
    settings = KafkaSettings(
        security_protocol="SASL_SSL",
        sasl_mechanism="OAUTHBEARER",
        oauth_token_file=tmp_path / "token",
    )
    for make in (settings.aiokafka, settings.librdkafka):
        with pytest.raises(Misconfigured, match="oauth_token_file"):
            make()


def test_oauthbearer_without_a_file_is_refused() -> None:
    with pytest.raises(ValueError, match="needs oauth_token_file"):
        KafkaSettings(security_protocol="SASL_SSL", sasl_mechanism="OAUTHBEARER")
