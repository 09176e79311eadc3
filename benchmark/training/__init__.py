"""Training: the one loop, its optimisers and schedules, and choices made on the validation set.

In: a loss of one tensor of weights. Out: the trained weights and the losses of every step.
Adapters use it beside `benchmark.api`. May use: errors, api.
"""
