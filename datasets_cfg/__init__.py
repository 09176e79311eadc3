"""One TOML per dataset and suites.toml, which groups them: data that is read, never code that is
imported.
"""
