"""The other weights that a run's samples are drawn on, with the trained network applied to them."""

from __future__ import annotations

from collections.abc import Callable

from toolkit.errors import UserError
from toolkit.models.base_model import BaseModel
from toolkit.train.learner import Learner
from toolkit.train.trainable import NetworkWeights


class Twin:
    """A model that is loaded to draw samples on it, and freed afterwards unless it stays.

    Args:
        model: the model, nothing of which is loaded.
        stays: whether the model stays loaded after its first round.
    """

    def __init__(self, model: BaseModel, *, stays: bool) -> None:
        self.model = model
        self.stays = stays
        self._weights: NetworkWeights | None = None

    def draw(self, learner: Learner, draw: Callable[[NetworkWeights], None]) -> None:
        """Load the model with a copy of the network, as its weights are now, and the VAE of the model that is trained.

        Args:
            learner: the model being trained, with its network.
            draw: called with the copy while the model is loaded.

        Raises:
            UserError: its weights cannot be loaded, or do not have the layers of the model that is trained.
        """
        trained = learner.weights
        assert isinstance(trained, NetworkWeights), "the check has refused other weights"
        model = self.model
        model.share_vae(learner.model)
        try:
            if self._weights is None:
                model.load("transformer")
                model.use_attention_kernel(learner.model.attention_kernel)
                self._weights = NetworkWeights(trained.network.beginning_on(model))
            _copy(trained, self._weights, source=model.model_config.name_or_path)
            draw(self._weights)
        finally:
            if not self.stays:
                self._weights = None
                model.free("transformer")


def _copy(trained: NetworkWeights, copy: NetworkWeights, *, source: str) -> None:
    """Give a copy of a network the current weights."""
    for (name, weight), (_, own) in zip(trained.named_parameters(), copy.named_parameters(), strict=True):
        if own.shape != weight.shape:
            shapes = " and ".join(" x ".join(map(str, one.shape)) for one in (own, weight))
            raise UserError(f"sample.model: {source} has other layers than the model being trained: {name}: {shapes}")
        own.data.copy_(weight.detach())
