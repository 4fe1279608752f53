"""Since when a user is known, whatever tables it was written to."""

from __future__ import annotations

from stream_app.core.accounts import EPOCH, Accounts, tables


def test_the_first_bucket_of_a_user_stays() -> None:
    accounts = Accounts()
    found, fresh = accounts.first_seen(0, [1, 2, 1], [5, 6, 7])
    assert found == [5, 6, 5]
    assert fresh == {(0, 0): [(1, 5), (2, 6)]}
    assert accounts.first_seen(0, [1, 2], [9, 5]) == ([5, 6], {})


def test_who_goes_on_into_the_next_epoch_stays_known_and_who_was_away_is_new() -> None:
    accounts = Accounts()
    accounts.first_seen(0, [1, 2], [5, 5])
    found, fresh = accounts.first_seen(0, [1], [EPOCH + 1])
    assert (found, fresh) == ([5], {(0, 1): [(1, 5)]})
    assert accounts.first_seen(0, [1, 2], [2 * EPOCH + 1, 2 * EPOCH + 1])[0] == [5, 2 * EPOCH + 1]


def test_partitions_know_their_own_users() -> None:
    accounts = Accounts()
    accounts.first_seen(0, [1], [5])
    assert accounts.first_seen(1, [1], [8])[0] == [8]


def test_what_others_wrote_down_first_counts() -> None:
    ours, theirs = Accounts(), Accounts()
    _, fresh = theirs.first_seen(0, [1], [5])
    for table, known in fresh.items():
        ours.learn(table, known)
        ours.learn(table, [(1, 9)])
    assert ours.first_seen(0, [1], [8]) == ([5], {})


def test_events_need_the_tables_of_their_epoch_and_of_the_one_before() -> None:
    assert tables(3, [EPOCH, EPOCH + 5]) == [(3, 0), (3, 1)]
    assert tables(3, [2 * EPOCH - 1, 2 * EPOCH]) == [(3, 0), (3, 1), (3, 2)]
