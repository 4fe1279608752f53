"""The pure part: no IO, no clock, no randomness. Modules in the order in which a record passes
them.
"""
