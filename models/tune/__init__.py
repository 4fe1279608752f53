"""The settings that are best on validation: of the encoder's training, and of baselines.

space.py       ranges of the training; those of baselines are in models.baselines.space
settings.py    settings as TOML, a table for each that was tuned
"""
