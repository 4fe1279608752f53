"""What the demo counts, and when it says that it does not add up."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from models.simulate.world import Label
from stream_app.core.campaign import Joined
from stream_app.core.coordination import Evidence
from stream_app.core.messages import CampaignData
from stream_app.core.outcome import Output
from stream_app.demo.shop import BEFORE, EVENT
from stream_app.demo.summary import complaints, summary
from stream_app.demo.tally import Account, Tally, quantile
from stream_app.demo.view import Moment, Screen

HONEST = "honest"


def label(name: str, kind: str = HONEST) -> Label:
    if kind == HONEST:
        return Label(event_id=name, label=0)
    if kind == "family":
        return Label(event_id=name, label=0, look_alike=kind)
    return Label(event_id=name, label=1, attack=kind, difficulty="easy", campaign="c1")


def send(tally: Tally, name: str, kind: str = HONEST, how: str = EVENT) -> None:
    tally.send(how, 1.0, b"user", label(name, kind))


def test_every_record_with_one_outcome_adds_up() -> None:
    tally = Tally(tracked=True)
    for name in ("a", "b", "c"):
        send(tally, name)
    tally.send("broken", 1.0, b"user", None)
    send(tally, "a", how="repeated")
    tally.decide(Output.CLEANED, "a")
    tally.decide(Output.QUARANTINED, "b")
    tally.bury("late", "c")
    tally.bury("not-json", None)
    tally.duplicates = 1
    account = tally.account(5)
    assert account == Account(5, 1, 1, 2, 1)
    assert account.adds_up
    assert tally.open_records == 0
    assert complaints(account, tally, tracked=True) == []


@pytest.mark.parametrize(
    ("input_records", "said"),
    [(3, "1 records have no outcome"), (1, "1 records outcomes too many")],
)
def test_a_record_lost_or_doubled_is_told(input_records: int, said: str) -> None:
    tally = Tally(tracked=False)
    tally.decide(Output.CLEANED, None)
    tally.decide(Output.CLEANED, None)
    assert complaints(tally.account(input_records), tally, tracked=False) == [said]


def test_one_lost_and_one_doubled_do_not_cancel_out() -> None:
    tally = Tally(tracked=True)
    send(tally, "a")
    send(tally, "b")
    tally.decide(Output.CLEANED, "a")
    tally.decide(Output.QUARANTINED, "a")
    account = tally.account(2)
    assert account.adds_up
    assert complaints(account, tally, tracked=True) == [
        "1 events never came out",
        "1 events came out twice",
    ]


def test_precision_and_recall_are_those_of_the_events_after_the_beginning() -> None:
    tally = Tally(tracked=True)
    kinds = ["scraping", "scraping", "scraping", "family", HONEST, HONEST]
    for place, kind in enumerate(kinds):
        send(tally, f"e{place}", kind)
    send(tally, "before", "scraping", how=BEFORE)
    for name in ("e0", "e3", "before"):
        tally.decide(Output.QUARANTINED, name)
    for name in ("e1", "e2", "e4", "e5"):
        tally.decide(Output.CLEANED, name)
    truth = tally.truth
    assert truth.precision == pytest.approx(1 / 2)
    assert truth.recall == pytest.approx(1 / 3)
    assert (truth.look_alikes.events, truth.look_alikes.anomalous) == (1, 1)
    assert (truth.honest.events, truth.honest.anomalous) == (2, 0)
    assert (tally.campaigns["c1"].sent, tally.campaigns["c1"].found) == (4, 2)


def test_without_events_there_is_no_precision() -> None:
    tally = Tally(tracked=True)
    assert tally.truth.precision is None
    assert tally.truth.recall is None
    assert quantile([], 0.5) is None


def test_quantiles() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([float(n) for n in range(100)], 0.99) == 99.0


def test_the_summary_fits_a_narrow_terminal_and_shows_what_is_wrong() -> None:
    tally = Tally(tracked=True)
    send(tally, "a", "click_fraud")
    tally.decide(Output.QUARANTINED, "a")
    console = Console(width=80, file=io.StringIO())
    with console.capture() as shown:
        console.print(summary(tally.account(2), tally, 10.0, tracked=True))
    told = shown.get()
    assert "1 records have no outcome" in told
    assert "it does not add up" in told
    assert "click fraud" in told
    assert max(map(len, told.splitlines())) <= 80


def news(events: int, *first: str, status: str = "open") -> CampaignData:
    return CampaignData(
        campaign_id="c",
        status="closed" if status == "closed" else "open",
        kind="item",
        thing="i7",
        events=events,
        first_ms=0,
        last_ms=1,
        members=tuple(Joined(f"u-{name}", 1, name, 0.9) for name in first),
        evidence=Evidence(len(first), 1.0, 0.9, None, None, 0.93),
        model="m",
    )


def test_a_campaign_is_shown_as_it_was_told_last_with_what_most_of_it_is() -> None:
    tally, out = Tally(tracked=True), io.StringIO()
    for name, kind in (("e0", "brushing"), ("e1", "brushing"), ("e2", HONEST)):
        send(tally, name, kind)
    tally.gather(news(8, "e0", "e1", "e2"))
    tally.gather(news(3, "e0"))  # told again, after a crash
    tally.gather(news(8, "e0", "e1", "e2", status="closed"))
    console = Console(file=out, width=100, height=40)
    console.print(Screen(console, tally).draw(Moment(1.0, 1.0, 60.0, 0, "", "m", "cpu")))
    assert "campaigns found, 1 so far" in out.getvalue()
    assert "0.93 3 users at item i7, 8 events, over   ✓ brushing" in out.getvalue()
    assert tally.truth_of(news(3, "e0", "e2", "e3")) is None


def test_a_summary_counts_campaigns() -> None:
    tally, out = Tally(tracked=True), io.StringIO()
    send(tally, "e0", "brushing")
    tally.alert(None, 1.0, None)
    tally.gather(news(3, "e0"))
    Console(file=out, width=120).print(summary(tally.account(1), tally, 1.0, tracked=True))
    assert "1 campaigns, 1 of them attacks" in out.getvalue()
