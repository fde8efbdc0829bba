"""A loss of one's own, with the batches that it is computed on and whatever else is trained for its sake.

Named in the configuration as `objective`, it takes the place of pairs and of the losses over them; optimiser,
schedule, mean weights, checkpoints and the bundle at the end are the run's, as ever. Knows what an objective must
have. Does not know any.
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
    """To be derived from. Its own parameters learn at the full rate, without decay, and are thrown away at the end.

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
            said = " ".join(str(error).split())
            raise InvalidInput(f"the objective is not as the run left it: {said}; resume with the same") from error


def objective_of(config: ObjectiveConfig, pair: Pair, run: RunConfig, part: Part) -> Objective:
    """Call the function that the configuration names.

    Raises:
        InvalidInput: there is none, it does not take these settings, or it returns something else.
    """
    made = call(config.source, pair, run, part, **config.settings)
    if not isinstance(made, Objective):
        raise InvalidInput(
            f"{config.source} returns {type(made).__name__}, not an instance of tuwen.training.objective.Objective"
        )
    return made
