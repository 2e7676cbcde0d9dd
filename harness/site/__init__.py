"""The nightly dashboard: records in, a folder of HTML pages out that needs no network and no server."""
