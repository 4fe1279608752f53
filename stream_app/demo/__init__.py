"""A shop to watch, all on this machine: embedded broker and Redis, a real worker, simulated people.

shop.py     what people do there: simulated, with its truth, or out of a file
faults.py   broken records and repeated ones in between
feed.py     sends all that when its time has come
worker.py   the worker as a process of its own, and what it says of itself
watch.py    reads the outputs from the topics
tally.py    adds up: every record's outcome, what was found, how fast
view.py     the screen while it runs; summary.py what is left at the end
show.py     the story, from the first process to the last
"""
