"""Loads the plugin also where the package is not installed; where it is, the entry point has the same name."""

pytest_plugins = ["harness.plugin"]
