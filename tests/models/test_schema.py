from __future__ import annotations

import pytest

from models import schema as schemas
from stream_app.core.errors import Misconfigured

GOOD = """
name = "x"
tasks = ["a"]
[types]
t = "a"
[[fields]]
name = "f"
kind = "category"
source = "item_id"
"""


def test_shop_events_are_scored_under_three_tasks() -> None:
    tasks = schemas.load("shop").tasks
    assert tasks.names == ("browse", "click", "purchase")
    scored = {kind: tasks.names[task] for kind, task in tasks.of_type.items()}
    assert scored["search"] == "browse"
    assert scored["favourite"] == "click"
    assert scored["cart"] == "purchase"


SHIPPED = (
    "finance", "shop", "shop-context", "shop-counters", "smart-home", "wiki", "wiki-counters",
)  # fmt: skip


@pytest.mark.parametrize("name", SHIPPED)
def test_a_schema_survives_being_written(name: str) -> None:
    schema = schemas.load(name)
    assert schemas.parse(schemas.dump(schema)) == schema


@pytest.mark.parametrize(
    ("instead_of", "wrong", "complaint"),
    [
        ('t = "a"', 't = "b"', "which is not among the tasks"),
        ('kind = "category"', 'kind = "amount"', "has the source 'item_id', not price"),
        ('source = "item_id"', 'source = "colour"', "has the source 'colour'"),
        ('name = "f"', 'name = "at_ms"', "needs another name"),
        ('name = "f"', 'name = "a b"', "needs another name"),
        ('kind = "category"', 'kind = "word"', "Invalid enum value 'word'"),
        ('source = "item_id"', 'source = "item_id"\nbits = 8', "Invalid enum value 8"),
        ('tasks = ["a"]', 'tasks = ["a"]\nspan_s = 0', "span_s must be above 0"),
        ('source = "item_id"', 'source = "item_id"\ncolour = 1', "unknown field"),
        ('source = "item_id"', 'source = "item_id"\nby = "g"', "is no category"),
        ("[types]", "[types", "is no schema"),
    ],
)
def test_a_wrong_schema_is_refused_by_name(instead_of: str, wrong: str, complaint: str) -> None:
    schemas.parse(GOOD)
    with pytest.raises(Misconfigured, match=r"mine\.toml is no schema") as refused:
        schemas.parse(GOOD.replace(instead_of, wrong), "mine.toml")
    assert complaint in str(refused.value)


def test_an_unknown_name_is_told_which_exist() -> None:
    with pytest.raises(Misconfigured, match=", ".join(SHIPPED)):
        schemas.load("bank")


SEEN = """
[[fields]]
name = "seen"
kind = "context"
source = "context.f.users"
"""


@pytest.mark.parametrize(
    ("instead_of", "wrong", "complaint"),
    [
        ("context.f.users", "context.g.users", "tells of 'g', which is no category"),
        ("context.f.users", "context.f.since17", "no context is that"),
        ("context.f.users", "context.f.user1", "no context is that"),
        ("context.f.users", "context.f", "no context is that"),
        ("context.f.users", "context.f.did.u", "tells of the type 'u', which is none"),
        ("context.f.users", "item_id", "no context is that"),
        ('"context"\n', '"company"\n', "no company is that"),
    ],
)
def test_context_that_cannot_be_told_is_refused(
    instead_of: str, wrong: str, complaint: str
) -> None:
    text = GOOD + SEEN
    assert instead_of in text
    with pytest.raises(Misconfigured, match=complaint):
        schemas.parse(text.replace(instead_of, wrong))


def test_a_schema_says_what_it_asks_of_the_site() -> None:
    assert not schemas.load("shop").context
    plan = schemas.load("shop-context").context
    assert plan.things == ("item",)
    names = schemas.load("shop-context").type_names
    assert [names[number - 1] for number in plan.types] == ["cart", "purchase"]
    assert {asked.what for asked in plan.asked} == {"since", "users", "share", "user"}


def test_a_schema_may_ask_for_longer_windows() -> None:
    usual = schemas.parse(GOOD).window
    longer = schemas.parse(GOOD.replace('tasks = ["a"]', 'tasks = ["a"]\nspan_s = 172800')).window
    assert longer.span_ms == 2 * 24 * 3600 * 1000 == 2 * usual.span_ms
    assert longer.size == usual.size
