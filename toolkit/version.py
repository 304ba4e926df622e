"""The version of this trainer, written into what it saves."""

VERSION = "0.1.0"
