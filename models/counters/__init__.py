"""Causal counters: some 200 numbers of each event from the past of its user, item, group and site.

aggregates.py  all of them in one pass, for baselines
counting.py    the same as fields of a row, for a schema that asks for them
act.py         an event as they read it
shopper.py     a user's state; rhythm.py and habits.py read it
things.py      items and groups of items; company.py: who else was there
site.py        the site as a whole, values, further categories
"""
