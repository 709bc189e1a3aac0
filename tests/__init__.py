"""Tests mirror the package; `laws` holds what every part must obey, `oracles` what the numbers must be."""
