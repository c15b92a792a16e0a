"""Unit tests of the clean-up of tracked UDP flows."""
