"""The same backend, with RevokeBus."""
