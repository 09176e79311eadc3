"""A benchmark of few-shot adaptation of CLIP-like models: datasets x methods x shots x seeds ->
evidence and tables.

Start reading at `benchmark.api`, the contract between the harness and a method.
"""
