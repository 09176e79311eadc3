"""Methods from elsewhere, as a third party would write them: what the runner must cope with."""
