"""A fleet, and a server that has a share of a processor: ten instances on a tenth are a hundred."""
