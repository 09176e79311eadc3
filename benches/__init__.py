"""Speed, measured side by side with a naive reference in the same run. Nothing here is installed or
tested by the clock.
"""
