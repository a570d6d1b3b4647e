"""The version of KD Lens, recorded in every run."""

VERSION = "0.1.0"
