"""Settings: who wins, what is refused, what is never shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from stream_app.commands.demo import PASSED_ON, _environment
from stream_app.core.alerting import AlertPolicy
from stream_app.core.errors import Misconfigured
from stream_app.core.pseudonym import Pseudonyms
from stream_app.core.window import WindowPolicy
from stream_app.settings import MASK, KafkaSettings, RedisSettings, WindowSettings, listing, load


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("SHOPSENTRY_"):
            monkeypatch.delenv(name)


def written(folder: Path, text: str) -> Path:
    path = folder / "shopsentry.toml"
    path.write_text(text)
    return path


def test_environment_goes_over_file_and_file_over_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, '[kafka]\nbootstrap = "file:1"\ngroup = "file"\n[web]\nport = 1\n')
    monkeypatch.setenv("SHOPSENTRY_KAFKA__BOOTSTRAP", "environment:1")
    settings = load(file)
    assert settings.kafka.bootstrap == "environment:1"
    assert settings.kafka.group == "file"
    assert settings.web.port == 1
    assert settings.web.host == "127.0.0.1"
    sources = {s.name: s.source for s in listing(settings, file)}
    assert sources["kafka.bootstrap"] == "environment"
    assert sources["kafka.group"] == "file"
    assert sources["web.host"] == "default"


def test_the_file_is_the_one_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, "[log]\njson = true\n")
    monkeypatch.setenv("SHOPSENTRY_CONFIG", str(file))
    assert load().log.as_json


@pytest.mark.parametrize("hosts", ["", "a:b", "a:1,", "kafka://a:1", "a b"])
def test_brokers_that_no_client_can_find_are_refused(
    hosts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOPSENTRY_KAFKA__BOOTSTRAP", hosts)
    with pytest.raises(Misconfigured, match=r"kafka.bootstrap .*host:port"):
        load()


@pytest.mark.parametrize("hosts", ["a", "a:1", "a-1.b_c:9092, 10.0.0.1:9092", "[::1]:9092"])
def test_brokers_are_hosts_with_ports(hosts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOPSENTRY_KAFKA__BOOTSTRAP", hosts)
    assert load().kafka.bootstrap == hosts


def test_a_list_in_the_environment_is_parted_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOPSENTRY_KAFKA__INPUT_TOPICS", "web, app")
    assert load().kafka.input_topics == ("web", "app")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("SHOPSENTRY_KAFKA__BOOTSTRP", "SHOPSENTRY_KAFKA__BOOTSTRAP"),
        ("SHOPSENTRY_WEB_PORT", "SHOPSENTRY_WEB__PORT"),
    ],
)
def test_an_unknown_name_in_the_environment_is_refused(
    name: str, nearest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(Misconfigured, match=f"no setting {name}; did you mean {nearest}"):
        load()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[kafka]\nbootstrp = 1", "no setting kafka.bootstrp; did you mean kafka.bootstrap"),
        ("[web]\nbootstrap = 1", "did you mean kafka.bootstrap"),
        ("[kafak]\ngroup = 1", "did you mean kafka.group"),
        ("kafka = 1", "kafka"),
        ("[kafka", "not TOML"),
        ("[window]\nsize = 0", "window.size .*greater than"),
        ('[kafka]\nsecurity_protocol = "SASL_SSL"', "needs username and password"),
        ('[kafka]\ninput_topics = ["shop.cleaned"]', "input and output at once"),
        ('[redis]\nurl = "localhost"', "redis.url .*must begin with"),
        ('[scorer]\ntrusted_keys = ["mine"]', "scorer.trusted_keys .*'mine' is no public key"),
    ],
)
def test_a_wrong_file_is_refused(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=told):
        load(written(tmp_path, text))


def test_what_kubernetes_sets_for_a_service_of_our_name_is_let_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHOPSENTRY_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("SHOPSENTRY_PORT", "tcp://10.0.0.1:6066")
    monkeypatch.setenv("SHOPSENTRY_PORT_6066_TCP_ADDR", "10.0.0.1")
    load()


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        '[kafka]\nsecurity_protocol = "SASL_SSL"\nusername = "u"\npassword = "hush"\n'
        '[redis]\nurl = "rediss://u:hush@redis:6379/1"\n',
    )
    settings = load(file)
    shown = {s.name: s.value for s in listing(settings, file)}
    assert shown["kafka.password"] == MASK
    assert shown["redis.url"] == f"rediss://u:{MASK}@redis:6379/1"
    assert "hush" not in repr(settings) + str(settings.model_dump()) + str(shown)
    assert settings.kafka.librdkafka()["sasl.password"] == "hush"
    assert RedisSettings(url=SecretStr("redis://h/0?password=hush")).shown_url.endswith(
        f"password={MASK}"
    )


def test_users_are_hidden_in_outputs_only_under_a_key_that_nobody_guesses(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"privacy\.key"):
        load(written(tmp_path, "[privacy]\noutputs = true\n"))
    with pytest.raises(Misconfigured, match=r"privacy\.key") as told:
        load(written(tmp_path, '[privacy]\nkey = "short-hush"\n'))
    assert "short-hush" not in str(told.value)
    file = written(tmp_path, f'[privacy]\nkey = "{"k3y-" * 8}"\noutputs = true\n')
    settings = load(file)
    assert {s.name: s.value for s in listing(settings, file)}["privacy.key"] == MASK
    names = settings.privacy.pseudonyms()
    assert names is not None
    assert names.of("u") == Pseudonyms(b"k3y-" * 8).of("u")


def test_the_defaults_are_those_of_the_core() -> None:
    settings = load()
    assert settings.window.policy(WindowPolicy()) == WindowPolicy()
    assert settings.alerts.policy() == AlertPolicy()


def test_a_window_spans_what_the_model_learnt_from_unless_told_otherwise() -> None:
    learnt = WindowPolicy(span_ms=7_000)
    assert WindowSettings().policy(learnt).span_ms == 7_000
    assert WindowSettings(span_s=3).policy(learnt).span_ms == 3_000


def test_every_setting_says_what_it_means() -> None:
    assert all(s.meaning for s in listing())
    assert not any(s.default.startswith("/") for s in listing())


def test_a_pem_that_is_not_there_is_a_wrong_setting(tmp_path: Path) -> None:
    kafka = KafkaSettings(security_protocol="SSL", ssl_cafile=tmp_path / "nix.pem")
    with pytest.raises(Misconfigured, match="PEM"):
        kafka.aiokafka()


@pytest.mark.parametrize(
    "given",
    [
        {},
        {
            "SHOPSENTRY_SCORER__MEMBERS": "bert,trees",
            "SHOPSENTRY_WINDOW__SPAN_S": "7.25",
            "SHOPSENTRY_SCORER__DEVICE": "cpu",
        },
    ],
)
def test_the_worker_of_the_demo_has_the_settings_that_it_was_given(
    given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    ours = load()
    passed_on = _environment(ours)
    for name in given:
        monkeypatch.delenv(name)
    for name, value in passed_on.items():
        monkeypatch.setenv(name, value)
    assert set(given) <= set(passed_on)
    for section in PASSED_ON:
        assert getattr(load(), section) == getattr(ours, section)
