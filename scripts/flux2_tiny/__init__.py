"""The tiny FLUX.2: the world it draws, how its parts were made, how its pictures are judged."""
