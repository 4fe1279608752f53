"""The settings that are best on validation: of the encoder's training, and of baselines.

run.py         `tune`: files in, trials, the best settings out
subjects.py    what is tuned, and how it is judged
study.py       trials, in a file
space.py       ranges of the training; those of baselines are in models.baselines.space
settings.py    settings as TOML, a table for each that was tuned
"""
