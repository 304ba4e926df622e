"""Images that are not trained on, by which a run is measured."""
