"""Honest shoppers, attacks on their shop, and the two as one labelled stream.

style.py       what a shop logs, and how its people behave
catalogue.py   items, categories, prices, queries
people.py      honest sessions
site.py        catalogue and people as a `World`; events as dicts of the contract
raid.py        what all families of attacks draw from
attacks.py     ten families of attacks on any `World`
campaign.py    their acts in time: rhythm, camouflage, spread
look_alikes.py honest behaviour that resembles them
quota.py       when the next campaign starts, so that shares hold
config.py      what to simulate
feed.py        all of it, merged by time
shop.py        simulate, live, write
domain.py      people of any other domain, from domains/*.toml
forge.py       ids in the manner of known ones
recorded.py    a `World` made of a real event file; splice.py puts attacks into it
audit.py       does a single raw field give the attacks away?
"""
