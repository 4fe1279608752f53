"""The documents in docs/contract say what the code does."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
import yaml
from jsonschema import Draft202012Validator

from scripts.contract_docs import FOLDER, documents
from stream_app.core.decode import decode
from stream_app.core.outcome import Output
from stream_app.settings import KafkaSettings
from tests.builders import (
    POISON,
    START_MS,
    TASKS,
    Desk,
    browse,
    click,
    envelope,
    purchase,
    record,
    records,
    without,
)

GOOD = click("u1", at_ms=0)
FULL = {
    **GOOD,
    "event_id": "e1",
    "item_id": "i1",
    "query": "x" * 512,
    "position": 0,
    "price": 0.5,
    "quantity": 1,
    "attributes": {"a": "x", "b": 1, "c": None},
    "own": [1],
}


def validator(name: str) -> Draft202012Validator:
    schema = json.loads((FOLDER / f"{name}.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def contract() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "asyncapi.yaml").read_text())
    return found


async def outputs() -> Desk:
    desk = Desk()
    await desk.take(
        [
            record(click("u1", at_ms=0, score=0.9), key=b"u1", headers=(("own", b"1"),)),
            *records(
                browse("u1", at_ms=5, score=0.9),
                purchase("käufer", at_ms=7, score=1.0, event_id="e7"),
                click("u2", at_ms=0),
                click("u3", at_ms=0, score=POISON),
                b"nonsense",
                *(click(f"g{n}", at_ms=20, score=0.9, item_id="i1") for n in range(3)),
                first=1,
            ),
        ]
    )
    assert all(desk.published[output] for output in Output)
    return desk


async def test_an_alert_may_tell_its_p_value() -> None:
    desk = await outputs()
    alert = json.loads(desk.published[Output.ALERTS][0].value or b"")
    for told, fine in ((0.001, True), ("rare", False), (None, False)):
        alert["data"]["p_value"] = told
        assert validator("alert").is_valid(alert) == fine


def test_the_documents_are_those_that_the_code_makes() -> None:
    there = {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert there == documents(), "run scripts/contract"


@pytest.mark.parametrize(
    ("output", "schema"),
    [
        (Output.ALERTS, "alert"),
        (Output.USER_RISK, "user-risk"),
        (Output.CAMPAIGNS, "campaign"),
    ],
)
async def test_what_is_published_keeps_to_its_schema(output: Output, schema: str) -> None:
    checks = validator(schema)
    for message in (await outputs()).published[output]:
        body = json.loads(message.value or b"")
        checks.validate(body)
        for name in body:
            assert not checks.is_valid(without(body, name)), f"{name} may be missing"
        assert not checks.is_valid({**body, "type": "other"})
        assert not checks.is_valid({**body, "data": {}})


async def test_every_header_that_we_add_is_in_the_contract_and_the_other_way_round() -> None:
    messages = contract()["components"]["messages"]
    for output, found in (await outputs()).published.items():
        promised = messages[output.value].get("headers", {}).get("required", [])
        for message in found:
            assert [name for name, _ in message.headers if name != "own"] == promised


def test_the_contract_names_every_topic_as_the_settings_do() -> None:
    addresses = {channel["address"] for channel in contract()["channels"].values()}
    kafka = KafkaSettings()
    assert addresses == {*kafka.input_topics, *kafka.outputs().values()}


def test_every_reference_of_the_contract_leads_somewhere() -> None:
    document = contract()
    found: list[str] = []

    def walk(node: object) -> None:
        if isinstance(node, dict):
            found.extend(value for name, value in node.items() if name == "$ref")
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(document)
    assert len(found) > 10
    for reference in found:
        if reference.startswith("./"):
            assert (FOLDER / reference).exists()
            continue
        node: Any = document
        for name in reference.removeprefix("#/").split("/"):
            node = node[name]


SAME: list[dict[str, Any]] = [
    GOOD,
    FULL,
    {**GOOD, "event_time": 0},
    {**GOOD, "event_time": "2023-11-14T22:13:20Z"},
    {**GOOD, "item_id": None},
    without(GOOD, "user_id"),
    without(GOOD, "type"),
    without(GOOD, "event_time"),
    {**GOOD, "user_id": ""},
    {**GOOD, "user_id": "x" * 257},
    {**GOOD, "event_time": -1},
    {**GOOD, "event_time": 1 << 48},
    {**GOOD, "event_time": START_MS + 0.5},
    {**GOOD, "event_time": None},
    {**GOOD, "event_time": []},
    {**GOOD, "price": -1},
    {**GOOD, "price": "1"},
    {**GOOD, "quantity": 0},
    {**GOOD, "position": -1},
    {**GOOD, "query": "x" * 513},
    {**GOOD, "attributes": {"a": True}},
    {**GOOD, "event_id": ""},
]


@pytest.mark.parametrize("event", SAME, ids=lambda event: json.dumps(event)[:80])
def test_the_schema_of_an_event_accepts_what_the_stream_accepts(event: dict[str, Any]) -> None:
    accepted = bool(decode([record(event)], TASKS).events)
    assert validator("event").is_valid(event) == accepted
    assert bool(decode([record(envelope(event))], TASKS).events) == accepted
    assert msgspec.json.decode(record(event).value or b"") == event
