"""The commands of the command line, one module each; benchmark/cli.py assembles them.

In: options as a person gives them. Out: text or JSON on stdout, everything else on stderr.
A command's module has its signature and imports little; what it does stands in the wings, or in
modules beside it that are named after what they do. May use: every other wing.
"""
