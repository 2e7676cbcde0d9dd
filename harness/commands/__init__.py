"""One module a command of ``harness``; nothing heavy is imported before a command runs."""
