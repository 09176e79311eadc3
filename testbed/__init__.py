"""What tests and benches share: naive reference twins, made-up records and datasets, hostile input
for every parser, and campaigns that kill, starve and race real processes.

Nothing of the product imports from here. The campaigns are commands: `python -m testbed.faults`,
`testbed.drivers`, `testbed.cluster`, `testbed.fuzz`.
"""
