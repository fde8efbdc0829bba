"""Custom objectives: a loss with its own batches and parameters, in place of pairs and the built-in losses.

Named in the configuration as `objective`. Optimiser, schedule, averaged weights, checkpoints and the bundle remain.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from tuwen.errors import InvalidInput
from tuwen.models.trained import call
from tuwen.training.config import ObjectiveConfig, RunConfig
from tuwen.training.model import Pair
from tuwen.training.pairs import Part

_PAIR = "pair."


class Batches(Protocol):
    """What a run draws from: an epoch each time it is gone through; begun again after a break, it goes on.

    Attributes:
        skipped: what could not be read -> why.
    """

    skipped: dict[str, str]

    def __len__(self) -> int:
        """How many batches an epoch has; the same in every process."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """The batches of the epoch from here on."""
        ...

    def state(self) -> dict[str, Any]:
        """Where it is, after the batch that it gave last, in types that `torch.load(weights_only=True)` reads."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        ...


class Objective(nn.Module):
    """Base class of custom objectives. Its own parameters learn at the full rate without decay, and are discarded.

    Attributes:
        pair: the towers and their scale, which are what is kept.
        batches: what `forward` is called with, one after the other.
    """

    def __init__(self, pair: Pair, batches: Batches) -> None:
        super().__init__()
        self.pair, self.batches = pair, batches

    @abstractmethod
    def forward(self, batch: Any) -> Tensor:  # noqa: ANN401  (its own kind of batch)
        """The loss of a batch, a scalar; of this process' batch, where several train.

        A batch comes as `batches` made it: to bring it to the device of the parameters is the objective's part.
        """

    def own_parameters(self) -> dict[str, nn.Parameter]:
        """Those that are not the pair's, by name."""
        named = self.named_parameters()
        return {name: value for name, value in named if not name.startswith(_PAIR) and value.requires_grad}

    def own_state(self) -> dict[str, Tensor]:
        """What a checkpoint must have beside the pair: parameters and buffers."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith(_PAIR)}

    def load_own_state(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `own_state` took.

        Raises:
            InvalidInput: this objective has other parts.
        """
        whole = {name: value for name, value in self.state_dict().items() if name.startswith(_PAIR)}
        try:
            self.load_state_dict(whole | dict(state))
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise InvalidInput(
                f"the objective differs from that of the checkpoint: {reason}; resume with the same", where="objective"
            ) from error


def objective_of(config: ObjectiveConfig, pair: Pair, run: RunConfig, part: Part) -> Objective:
    """Call the function that the configuration names.

    Raises:
        InvalidInput: there is none, it does not take these settings, or it returns something else.
    """
    made = call(config.source, pair, run, part, **config.settings)
    if not isinstance(made, Objective):
        raise InvalidInput(
            f"{config.source} returns {type(made).__name__}, not an instance of tuwen.training.objective.Objective",
            value=config.source,
            where="objective.source",
        )
    return made
