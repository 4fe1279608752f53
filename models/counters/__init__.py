"""Causal counters: some 200 numbers of each event from the past of its user, item, group and site.

aggregates.py  all of them in one pass, for baselines
counting.py    the same as fields of a row, for a schema that asks for them
kept.py        the same in a worker, over a store; at_hand.py: what of it is in memory
act.py         an event as they read it
state.py       all that is known of a stream; keep.py: for how long, and how much
shopper.py     a user's part of it; rhythm.py and habits.py read it
things.py      items and groups of items; company.py: who else was there
site.py        the site as a whole, values, further categories
"""
