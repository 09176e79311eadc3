"""Conformance: does a method keep the contract of `benchmark.api`?

In: a method, ours or anybody's. Out: one result per check, with a sentence that says what is wrong.
`toy` is a tiny CLIP with few-shot episodes, `checks` holds the checks, `verify` runs them. May use:
errors, api, training, methods, backbones.
"""
