"""Why an event scored as it did: attributions, the field x event table, and how far to trust them.

attribution   score -> what each input of each event adds to it
weighed       the same of all members of a bundle, by their weights
words         a cell of the table as a person would say it: observed, expected
explanation   one event of a file -> its table; `models.reasons` has the stream's short form
terminal, picture, page    the table for a terminal, as PNG, as HTML
deletion, hits             do the strongest cells matter, and do they point at what was attacked
"""
