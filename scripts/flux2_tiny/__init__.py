"""The tiny FLUX.2: the world that it draws, how its parts are made, and how its images are judged."""
