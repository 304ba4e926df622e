"""How a model's components are held: streamed from host memory, offloaded, freed."""
