"""Backbones: names and weights, and what is built from them.

In: a backbone's name. Out: a frozen `api.Backbone` whose towers are open between their blocks, with
class prompts (`prompting/`). May use: errors, paths, api, tiny.
"""
