"""docker-compose.yml holds what Compose accepts, and what the deployment promises.

No package ships the Compose Specification's schema; here is the part of it that the file uses,
closed against other keys, so that a misspelt one is found without an engine.
"""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import pytest
import yaml

from tests.servers import ROOT

DURATION = {"type": "string", "pattern": r"^([0-9]+(ms|s|m|h))+$"}
STRINGS = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
COMMAND = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
NAME = r"^[a-zA-Z0-9._-]+$"


def closed(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def named(each: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "patternProperties": {NAME: each}, "additionalProperties": False}


CONDITION = {"enum": ["service_started", "service_healthy", "service_completed_successfully"]}
DEVICE = closed(
    ("capabilities",),
    driver={"type": "string"},
    count={"anyOf": [{"type": "integer"}, {"const": "all"}]},
    device_ids=STRINGS,
    capabilities=STRINGS,
)
SERVICE = closed(
    ("image",),
    image={"type": "string"},
    build=closed(context={"type": "string"}, dockerfile={"type": "string"}),
    command=COMMAND,
    depends_on=named(closed(("condition",), condition=CONDITION)),
    # Text alone: YAML would make another value of `yes` or 1.0 than the one meant.
    environment=named({"type": "string"}),
    ports={"type": "array", "items": {"type": "string", "pattern": r"^[0-9.]+:[0-9]+:[0-9]+$"}},
    volumes=STRINGS,
    healthcheck=closed(
        ("test",),
        test=COMMAND,
        interval=DURATION,
        timeout=DURATION,
        start_period=DURATION,
        retries={"type": "integer", "minimum": 1},
    ),
    init={"type": "boolean"},
    profiles=STRINGS,
    restart={"enum": ["no", "always", "on-failure", "unless-stopped"]},
    stop_grace_period=DURATION,
    cap_drop=STRINGS,
    security_opt=STRINGS,
    deploy=closed(
        resources=closed(reservations=closed(devices={"type": "array", "items": DEVICE})),
    ),
)
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": r"^[a-z0-9][a-z0-9_-]*$"},
        "services": named(SERVICE),
        "volumes": named({"type": ["object", "null"]}),
    },
    "patternProperties": {"^x-": {}},
    "required": ["services"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return read


def test_compose_accepts_the_file(compose: dict[str, Any]) -> None:
    jsonschema.validate(compose, SCHEMA)


def test_everything_that_a_service_names_is_there(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert set(service.get("depends_on", ())) <= set(compose["services"])
        for other in service.get("depends_on", ()):
            assert "healthcheck" in compose["services"][other]
        assert {v.split(":")[0] for v in service.get("volumes", ())} <= set(compose["volumes"])
        if build := service.get("build"):
            assert (ROOT / build["context"] / build["dockerfile"]).is_file()


def test_no_port_is_open_to_other_machines(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_only_the_gpu_profile_asks_for_a_gpu(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert {name for name in services if "deploy" in services[name]} == {"worker-gpu"}
    assert services["worker-gpu"]["profiles"] == ["gpu"]
    assert services["worker-gpu"]["environment"]["SHOPSENTRY_SCORER__DEVICE"] == "cuda"


def test_the_image_installs_the_pins_and_runs_as_nobody_in_particular() -> None:
    dockerfile = (ROOT / "scripts/docker/Dockerfile").read_text()
    pins = set(re.findall(r"scripts/requirements/\S+\.txt", dockerfile))
    assert pins == {"scripts/requirements/uv.txt", "scripts/requirements/run.txt"}
    assert len(re.findall(r"--require-hashes", dockerfile)) == len(pins)
    assert "\nUSER shopsentry\n" in dockerfile


@pytest.mark.parametrize("name", ["run", "train", "dev", "uv"])
def test_every_pin_is_exact_has_hashes_and_names_no_address(name: str) -> None:
    text = (ROOT / f"scripts/requirements/{name}.txt").read_text()
    pins = text.replace("\\\n", "").splitlines()
    assert pins
    assert all(re.match(r"[a-z0-9._-]+==[^ ]+ .*--hash=sha256:[0-9a-f]{64}", pin) for pin in pins)
    assert "://" not in text
