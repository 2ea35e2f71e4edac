"""Where the cells of a sweep run: on the devices of this machine, or on many machines."""
