"""How the state of an optimizer is kept: in few bits while it trains, and in the files of a checkpoint."""
