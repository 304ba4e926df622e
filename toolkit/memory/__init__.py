"""How the components of a model are kept in memory: on the device, streamed from host memory, or freed."""
