"""The settings that are best on validation: of the encoder's training, and of baselines.

settings.py    settings as TOML, a table for each that was tuned
"""
