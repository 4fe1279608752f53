"""The outside, one system a module."""
