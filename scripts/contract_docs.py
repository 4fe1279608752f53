"""The contract with producers and consumers, as documents made from the code.

Started by `scripts/contract`; a test fails while the documents in docs/contract say something else.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import yaml
from msgspec import Meta

from stream_app.core.decode import Rejected
from stream_app.core.event import Event
from stream_app.core.messages import AlertData, CampaignData, CloudEvent, RiskData
from stream_app.core.outcome import (
    COALESCED,
    SCORED_HEADER,
    Message,
    Output,
    Stamp,
    dead_letter,
    passed_on,
)
from stream_app.core.record import StoredRecord
from stream_app.core.score import Reason, Scores
from stream_app.settings import KafkaSettings

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "contract"
DRAFT = "https://json-schema.org/draft/2020-12/schema"
Json = dict[str, Any]
Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


class Alert(CloudEvent, frozen=True, kw_only=True):
    """An alert: one event of a user was decided anomalous. Key: the user id, or its pseudonym."""

    specversion: Literal["1.0"] = "1.0"
    type: Literal["shopsentry.alert.v1"]
    time: Moment
    datacontenttype: Literal["application/json"] = "application/json"
    data: AlertData


class UserRisk(CloudEvent, frozen=True, kw_only=True):
    """How much of what a user did lately was anomalous. Key: the user id, or its pseudonym; the
    newest counts.
    """

    specversion: Literal["1.0"] = "1.0"
    type: Literal["shopsentry.user-risk.v1"]
    time: Moment
    datacontenttype: Literal["application/json"] = "application/json"
    data: RiskData


class Campaign(CloudEvent, frozen=True, kw_only=True):
    """Several users look as if they worked together. Key and subject: the campaign's id."""

    specversion: Literal["1.0"] = "1.0"
    type: Literal["shopsentry.campaign.v1"]
    time: Moment
    datacontenttype: Literal["application/json"] = "application/json"
    data: CampaignData


HEADERS = {
    "shopsentry-score": "calibrated score of the event, 0 to 1, four digits",
    "shopsentry-task": "the task that it was scored under",
    "shopsentry-model": "version of the model bundle",
    SCORED_HEADER: "there if the worker was behind and scored by a window that was cut",
    "shopsentry-reasons": "why it is unusual: a JSON list, the strongest reason first",
    "kafka_dlt-original-topic": "where the record came from",
    "kafka_dlt-original-partition": "decimal",
    "kafka_dlt-original-offset": "decimal",
    "kafka_dlt-original-timestamp": "Kafka time of the record, epoch ms",
    "reason": "empty, too-large, not-utf8, not-json, too-deep, too-many-fields, invalid, "
    "key-mismatch, future, late or poison",
    "detail": "the reason in words, for people",
}

ENVELOPE = {"$ref": "#/components/schemas/envelope"}
PURPOSE = {
    Output.CLEANED: "Normal events: key, value, timestamp and headers of the input, byte for byte.",
    Output.QUARANTINED: "Anomalous events, as in the cleaned stream; kept out of it.",
    Output.ALERTS: "At most one alert for a user and task within the cool-down.",
    Output.DEAD_LETTERS: "Records that are no valid event, came too late or cannot be scored.",
    Output.USER_RISK: "Compacted: the newest share of anomalous behaviour of each user.",
    Output.CAMPAIGNS: "Campaigns of several users at one thing: begun, grown, closed.",
}


def documents() -> dict[str, str]:
    """File name -> content."""
    schemas = {"event": event_schema(), "alert": output_schema(Alert)}
    schemas |= {"user-risk": output_schema(UserRisk), "campaign": output_schema(Campaign)}
    made = {
        f"{name}.schema.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
        for name, schema in schemas.items()
    }
    tree = json.loads(json.dumps(asyncapi()))  # without YAML's anchors for what is there twice
    made["asyncapi.yaml"] = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=100)
    return made


def event_schema() -> Json:
    """Of one event, as producers send it: bare, or in `data` of a CloudEvents envelope."""
    schema = _schema(Event)
    event = schema["$defs"]["Event"]
    event["description"] = "One act of one user. Unknown fields are passed on, and do not matter."
    text = {"type": "string", "format": "date-time", "description": "RFC 3339 with its zone"}
    number = {**event["properties"]["event_time"], "description": "epoch ms"}
    event["properties"]["event_time"] = {"anyOf": [number, text]}
    return schema


def output_schema(kind: type[CloudEvent]) -> Json:
    """Of an output: all fields are always written, but those whose default is to be absent."""
    schema = _schema(kind)
    for definition in schema["$defs"].values():
        told = definition.get("required", [])
        definition["required"] = [
            name
            for name, own in definition["properties"].items()
            if name in told or "default" in own
        ]
    return schema


def _schema(kind: type[msgspec.Struct]) -> Json:
    schema = {"$schema": DRAFT, **msgspec.json.schema(kind)}
    for definition in schema["$defs"].values():
        if "description" in definition:
            definition["description"] = " ".join(definition["description"].split())
    return schema


def asyncapi() -> Json:
    """All topics, under the names that they have by default."""
    kafka = KafkaSettings()
    channels: Json = {
        "events": {
            "address": kafka.input_topics[0],
            "description": "Input: what users do. Key: the user id, in UTF-8, or none.",
            "messages": {
                "event": {"$ref": "#/components/messages/event"},
                "envelope": {"$ref": "#/components/messages/envelope"},
            },
        }
    }
    operations: Json = {"receive-events": _operation("receive", "events")}
    for output, address in kafka.outputs().items():
        channels[output.value] = {
            "address": address,
            "description": PURPOSE[output],
            "messages": {output.value: {"$ref": f"#/components/messages/{output.value}"}},
        }
        operations[f"send-{output.value}"] = _operation("send", output.value)
    headers = header_names()
    as_came = {"anyOf": [_file("event"), ENVELOPE]}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "shopsentry",
            "version": "1",
            "description": "Watches shop behaviour in a stream. Every record of the input ends in "
            "one of cleaned, quarantined and dead-letters, or is a duplicate and only counted.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": {
                "event": {"payload": _file("event")},
                "envelope": {
                    "contentType": "application/cloudevents+json",
                    "payload": ENVELOPE,
                },
                "cleaned": {"headers": headers[Output.CLEANED], "payload": as_came},
                "quarantined": {"headers": headers[Output.QUARANTINED], "payload": as_came},
                "alerts": {"payload": _file("alert")},
                "dead-letters": {
                    "contentType": "application/octet-stream",
                    "headers": headers[Output.DEAD_LETTERS],
                    "payload": {"description": "the bytes of the input, whatever they are"},
                },
                "user-risk": {"payload": _file("user-risk")},
                "campaigns": {"payload": _file("campaign")},
            },
            "schemas": {
                "envelope": {
                    "type": "object",
                    "description": "CloudEvents 1.0, structured",
                    "required": ["specversion", "data"],
                    "properties": {"specversion": {"type": "string"}, "data": _file("event")},
                }
            },
        },
    }


def _operation(action: str, channel: str) -> Json:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}}


def _file(name: str) -> Json:
    return {"$ref": f"./{name}.schema.json"}


def header_names() -> dict[Output, Json]:
    """Schemas of the headers that we add, as one message of each kind has them."""
    record = StoredRecord(topic="t", partition=0, offset=0, timestamp=0, key=None, value=b"")
    score = Scores(*(np.zeros(1, np.float32) for _ in range(3)))
    (stamp,) = Stamp(("click",), "1").headers(np.zeros(1, np.int64), score)
    reasons = (Reason("price", 0, "1", "2", 1.0),)
    return {
        Output.CLEANED: _headers(passed_on(record, stamp)),
        Output.QUARANTINED: _headers(passed_on(record, stamp, reasons)),
        Output.DEAD_LETTERS: _headers(dead_letter(Rejected(record, "late", ""))),
    }


def _headers(message: Message) -> Json:
    names = [name for name, _ in message.headers]
    told = {name: {"type": "string", "description": HEADERS[name]} for name in names}
    if "shopsentry-score" in names:
        told[SCORED_HEADER] = {"const": COALESCED, "description": HEADERS[SCORED_HEADER]}
    return {
        "type": "object",
        "description": "after the input's own",
        "required": names,
        "properties": told,
    }


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, content in documents().items():
        (FOLDER / name).write_text(content)
        print(f"docs/contract/{name}")


if __name__ == "__main__":
    main()
