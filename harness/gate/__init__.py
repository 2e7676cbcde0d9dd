"""The version-upgrade gate: may we move from this runtime to that one?"""
