"""A Kafka and a Redis that let in nobody but whom they know, for no more than is needed.

Certificates are made here. The harness comes in by a listener without a lock, as super user; the
workers by those of their settings.
"""

from __future__ import annotations

import asyncio
import base64
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Consumer, KafkaException
from confluent_kafka.admin._acl import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
)
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType
from confluent_kafka.admin._scram import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialAlteration,
    UserScramCredentialUpsertion,
)
from pydantic import SecretStr
from redis import Redis
from redis.exceptions import NoPermissionError

from stream_app.core.errors import Misconfigured
from stream_app.core.outcome import Output
from stream_app.edges.embedded import free_port
from stream_app.edges.kafka_admin import partition_counts
from stream_app.edges.preflight import check_redis
from stream_app.edges.redis_client import connect
from stream_app.settings import KafkaSettings
from tests.certificates import Certificates, make_certificates
from tests.end_to_end.rig import ROOT, Rig, Sent, Worker
from tests.servers import KafkaBroker, TlsRedisServer

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates"),
]

USER, PASSWORD, REDIS_PASSWORD = "shopsentry", "kafka-secret-5f0e", "redis-secret-81aa"
TOKEN, PRIVACY_KEY = "web-secret-0123456789", "privacy-secret-0123456789-0123456"
SECRETS = (PASSWORD, REDIS_PASSWORD, TOKEN, PRIVACY_KEY)
LISTENERS = {"TLS": "SSL", "MTLS": "SSL", "SCRAM": "SASL_SSL", "OAUTH": "SASL_SSL"}
# What the scripts call, what runs them, and the look at the start: docs/security.md says the same.
REDIS_COMMANDS = [
    "+ping",
    "+evalsha",
    "+script|load",
    "+get",
    "+mget",
    "+getrange",
    "+set",
    "+setrange",
    "+time",
    "+expire",
    "+append",
    "+lrange",
    "+llen",
    "+rpush",
    "+ltrim",
    "+hget",
    "+hset",
    "+hdel",
    "+hkeys",
    "+hvals",
    "+zadd",
    "+zscore",
    "+zrem",
    "+zrangebyscore",
]


class LockedBroker(KafkaBroker):
    """A broker with a listener of each kind, and ACLs."""

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        super().__init__(folder)
        self.ports = {name: free_port() for name in LISTENERS}
        ours = [f"{name}://127.0.0.1:{port}" for name, port in self.ports.items()]
        kinds = {"CONTROLLER": "PLAINTEXT", "PLAINTEXT": "PLAINTEXT", **LISTENERS}
        module = "org.apache.kafka.common.security"
        for name in ("listeners", "advertised.listeners"):
            self.settings[name] = ",".join([self.settings[name], *ours])
        self.settings |= {
            "listener.security.protocol.map": ",".join(f"{n}:{k}" for n, k in kinds.items()),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(certificates.server),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(certificates.ca),
            "listener.name.mtls.ssl.client.auth": "required",
            "listener.name.mtls.ssl.principal.mapping.rules": "RULE:^CN=([^,]+).*$/$1/",
            "listener.name.scram.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.scram.scram-sha-512.sasl.jaas.config": (
                f"{module}.scram.ScramLoginModule required;"
            ),
            "listener.name.oauth.sasl.enabled.mechanisms": "OAUTHBEARER",
            "listener.name.oauth.oauthbearer.sasl.jaas.config": (
                f"{module}.oauthbearer.OAuthBearerLoginModule required "
                'unsecuredLoginStringClaim_sub="broker";'
            ),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }

    def let_in(self, user: str, password: str) -> None:
        """A SCRAM user."""
        how = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        asked: list[UserScramCredentialAlteration] = [
            UserScramCredentialUpsertion(user, how, password.encode())
        ]
        admin = self.admin()  # kept: its answers end with it
        for done in admin.alter_user_scram_credentials(asked).values():
            done.result(20)

    def allow(self, acls: list[AclBinding]) -> None:
        admin = self.admin()
        for done in admin.create_acls(acls).values():
            done.result(20)

    def forbid(self, acl: AclBinding) -> None:
        same = AclBindingFilter(
            acl.restype,
            acl.name,
            acl.resource_pattern_type,
            acl.principal,
            acl.host,
            acl.operation,
            acl.permission_type,
        )
        admin = self.admin()
        for done in admin.delete_acls([same]).values():
            assert len(done.result(20)) == 1


def acl(
    kind: ResourceType,
    name: str,
    operation: AclOperation,
    pattern: ResourcePatternType = ResourcePatternType.LITERAL,
) -> AclBinding:
    return AclBinding(kind, name, pattern, f"User:{USER}", "*", operation, AclPermissionType.ALLOW)


def least(rig: Rig) -> list[AclBinding]:
    """All that a worker needs of Kafka, with transactions: docs/security.md says the same."""
    outputs = [acl(ResourceType.TOPIC, rig.topic(o), AclOperation.WRITE) for o in Output]
    return [
        acl(ResourceType.TOPIC, rig.input, AclOperation.READ),
        acl(ResourceType.GROUP, rig.name, AclOperation.READ),
        acl(
            ResourceType.TRANSACTIONAL_ID,
            f"{rig.name}:",
            AclOperation.WRITE,
            ResourcePatternType.PREFIXED,
        ),
        *outputs,
    ]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"), client=USER)


@pytest.fixture(scope="module")
def locked(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[LockedBroker]:
    with LockedBroker(tmp_path_factory.mktemp("locked"), certificates) as broker:
        broker.let_in(USER, PASSWORD)
        yield broker


@pytest.fixture(scope="module")
def ways(
    locked: LockedBroker, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, KafkaSettings]:
    """Settings for each listener."""
    token = tmp_path_factory.mktemp("token") / "token"
    now = time.time_ns() // 1_000_000_000
    claims = {"sub": USER, "iat": now, "exp": now + 3600}
    parts = [base64.urlsafe_b64encode(msgspec.json.encode(p)) for p in ({"alg": "none"}, claims)]
    token.write_text(".".join(part.decode().rstrip("=") for part in parts) + ".")

    def at(name: str, **settings: object) -> KafkaSettings:
        given = {
            "bootstrap": f"127.0.0.1:{locked.ports[name]}",
            "security_protocol": LISTENERS[name],
            "ssl_cafile": certificates.ca,
            **settings,
        }
        return KafkaSettings(**given)  # type: ignore[arg-type]

    return {
        "TLS": at("TLS"),
        "MTLS": at("MTLS", ssl_certfile=certificates.client, ssl_keyfile=certificates.client),
        "SCRAM": at("SCRAM", username=USER, password=SecretStr(PASSWORD)),
        "OAUTH": at("OAUTH", sasl_mechanism="OAUTHBEARER", oauth_token_file=token),
    }


@pytest.mark.parametrize("way", LISTENERS)
async def test_both_clients_come_in_by_each_way(
    way: str, ways: Mapping[str, KafkaSettings], locked: LockedBroker
) -> None:
    topic = f"door-{uuid.uuid4().hex[:8]}"
    locked.create_topics([topic], partitions=2)
    if way != "TLS":  # without a name, one is the harness
        assert topic not in await partition_counts(ways[way].aiokafka())
        assert topic not in seen_by_librdkafka(ways[way])
        locked.allow([acl(ResourceType.TOPIC, topic, AclOperation.READ)])
    assert (await partition_counts(ways[way].aiokafka()))[topic] == 2
    assert topic in seen_by_librdkafka(ways[way])


def seen_by_librdkafka(settings: KafkaSettings) -> set[str]:
    consumer = Consumer({**settings.librdkafka(), "group.id": "g", "log_level": 0})
    try:
        return set(consumer.list_topics(timeout=10).topics)
    finally:
        consumer.close()


@pytest.mark.parametrize(
    ("way", "wrong"),
    [
        ("TLS", {"ssl_cafile": None}),
        ("MTLS", {"ssl_certfile": None, "ssl_keyfile": None}),
        ("SCRAM", {"password": SecretStr("not-it-77")}),
    ],
)
async def test_nobody_comes_in_without_what_the_way_asks_for(
    way: str, wrong: dict[str, object], ways: Mapping[str, KafkaSettings]
) -> None:
    settings = ways[way].model_copy(update=wrong)
    with pytest.raises(Misconfigured) as told:
        await partition_counts(settings.aiokafka(), 1.0)
    assert "not-it-77" not in str(told.value)
    consumer = Consumer({**settings.librdkafka(), "group.id": "g", "log_level": 0})
    with pytest.raises(KafkaException):
        consumer.list_topics(timeout=1)
    consumer.close()


@pytest.fixture(scope="module")
def tls_redis(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[TlsRedisServer]:
    folder = tmp_path_factory.mktemp("tls-redis")
    with TlsRedisServer(
        folder, certificates.ca, certificates.server, certificates.client
    ) as server:
        yield server


@pytest.fixture
def rig(locked: LockedBroker, tls_redis: TlsRedisServer, tmp_path: Path) -> Rig:
    rig = Rig(locked, tls_redis, tmp_path)
    rig.create_topics()
    return rig


@pytest.fixture
def closed(
    rig: Rig,
    tls_redis: TlsRedisServer,
    ways: Mapping[str, KafkaSettings],
    certificates: Certificates,
) -> dict[str, object]:
    """A worker's settings for both servers, with rights to its own keys alone."""
    scram = ways["SCRAM"]
    with Redis.from_url(rig.redis.url) as admin:
        admin.acl_setuser(
            USER,
            enabled=True,
            reset=True,
            passwords=[f"+{REDIS_PASSWORD}"],
            keys=[f"{rig.name}*"],
            commands=REDIS_COMMANDS,
        )
    where = f"rediss://{USER}:{REDIS_PASSWORD}@{tls_redis.address}/0?{tls_redis.files}"
    return {
        "kafka__bootstrap": scram.bootstrap,
        "kafka__security_protocol": "SASL_SSL",
        "kafka__sasl_mechanism": "SCRAM-SHA-512",
        "kafka__username": USER,
        "kafka__password": PASSWORD,
        "kafka__ssl_cafile": certificates.ca,
        "kafka__create_topics": "false",
        "kafka__delivery": "exactly-once",
        "redis__url": where,
        "web__token": TOKEN,
        "privacy__key": PRIVACY_KEY,
        "privacy__outputs": "true",
    }


def events(count: int) -> list[Sent]:
    now = time.time_ns() // 1_000_000
    return [
        Sent(b"user-of-interest", msgspec.json.encode(event), now)
        for event in (
            {"user_id": "user-of-interest", "type": "click", "event_time": now - n, "item_id": "i"}
            for n in range(count)
        )
    ]


def test_a_worker_runs_with_the_least_rights_and_tells_no_secret(
    rig: Rig, locked: LockedBroker, closed: dict[str, object]
) -> None:
    locked.allow(least(rig))
    worker = Worker(rig, "locked", **closed)
    try:
        worker.await_ready()
        rig.produce(events(50))
        rig.await_committed(50)
        shown = Path(f"/proc/{worker.process.pid}/cmdline").read_text()
        page = worker.get("/metrics") + worker.get("/health")
        assert worker.stop()[0] == 0, worker.said()
    finally:
        worker.close()
    assert len(rig.read(Output.CLEANED)) + len(rig.read(Output.QUARANTINED)) == 50
    for secret in SECRETS:
        assert secret not in shown + worker.said() + page
    assert "user-of-interest" not in worker.said() + page
    with Redis.from_url(rig.redis.url, username=USER, password=REDIS_PASSWORD) as ours:
        for forbidden in (["KEYS", "*"], ["FLUSHALL"], ["GET", "other"], ["CONFIG", "GET", "*"]):
            with pytest.raises(NoPermissionError):
                ours.execute_command(*forbidden)


class DebugWorker(Worker):
    program = ("stream_app", "--debug", "worker")


def test_debugging_shows_neither_tokens_nor_users(
    rig: Rig,
    locked: LockedBroker,
    closed: dict[str, object],
    ways: Mapping[str, KafkaSettings],
) -> None:
    locked.allow(least(rig))
    oauth = ways["OAUTH"]
    assert oauth.oauth_token_file is not None
    settings = {
        **closed,
        "kafka__bootstrap": oauth.bootstrap,
        "kafka__sasl_mechanism": "OAUTHBEARER",
        "kafka__oauth_token_file": oauth.oauth_token_file,
    }
    worker = DebugWorker(rig, "debugged", **settings)
    try:
        worker.await_ready()
        rig.produce(events(50))
        rig.await_committed(50)
        assert worker.stop()[0] == 0, worker.said()
    finally:
        worker.close()
    said = worker.said()
    assert "debug" in said
    for secret in (*SECRETS, oauth.oauth_token_file.read_text(), "user-of-interest"):
        assert secret not in said


def test_redis_by_tls_lets_in_nobody_without_a_certificate_that_it_trusts(
    closed: dict[str, object], tls_redis: TlsRedisServer, certificates: Certificates
) -> None:
    url = str(closed["redis__url"])
    trusting = f"rediss://{USER}:{REDIS_PASSWORD}@{tls_redis.address}/0?ssl_ca_certs="
    assert connect(url).ping()
    for wrong in (
        f"{trusting}{certificates.ca}",  # no certificate of our own
        f"rediss://{USER}:{REDIS_PASSWORD}@{tls_redis.address}/0",  # an authority unknown to us
        f"redis://{USER}:{REDIS_PASSWORD}@{tls_redis.address}/0",
    ):
        with pytest.raises(Misconfigured) as told:
            asyncio.run(check_redis(connect(wrong), "rediss://shown"))
        assert REDIS_PASSWORD not in str(told.value)


@pytest.mark.parametrize("missing", range(4))
def test_each_of_these_rights_is_needed(
    missing: int, rig: Rig, locked: LockedBroker, closed: dict[str, object]
) -> None:
    locked.allow(least(rig))
    locked.forbid(least(rig)[missing])
    told = subprocess.run(
        [sys.executable, "-m", "stream_app", "worker"],
        cwd=ROOT,
        env=rig.environment(**closed),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert told.returncode != 0
    assert told.stderr.strip()
    assert "Traceback" not in told.stderr
    assert not any(secret in told.stderr for secret in SECRETS)


def test_config_and_errors_mask_what_is_secret(rig: Rig, closed: dict[str, object]) -> None:
    for command in (["config"], ["config", "--json"]):
        told = subprocess.run(
            [sys.executable, "-m", "stream_app", *command],
            cwd=ROOT,
            env=rig.environment(**closed, kafka__partitions="3"),
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        for secret in SECRETS:
            assert secret not in told.stdout + told.stderr
