"""What every test may use. Imports nothing heavy: the fixtures of a package are in its own conftest."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

import isolation

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for what it runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # commands under test inherit it, and are sent Ctrl-C

hypothesis.settings.register_profile("fixed", derandomize=True)  # the same examples in every run
hypothesis.settings.load_profile("fixed")
pytest_plugins = ["full_disk", "photo_fixtures"]
ROOT = Path(__file__).parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"


HOME = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Workers of xdist have the environment of the process that starts them."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        config.stash[HOME] = Path(tempfile.mkdtemp(prefix="tuwen-tests-"))
        isolation.isolate(config.stash[HOME])


def pytest_unconfigure(config: pytest.Config) -> None:
    if HOME in config.stash:
        shutil.rmtree(config.stash[HOME], ignore_errors=True)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real pictures, captions and vectors that are not part of the project; skips where they are absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the optional folder ../shared/data (real pictures and vectors) is not here")
    return SHARED_DATA


@pytest.fixture(scope="session")
def memory() -> Iterator[Path]:
    """A folder in memory if there is one of some size (a container's has 64 MB, as one index has), else on the disk.

    Every write to an index waits for the disk a hundred times: tests that are not about that keep theirs here.
    """
    fast = os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 2**31
    with tempfile.TemporaryDirectory(prefix="tuwen-tests-", dir="/dev/shm" if fast else None) as folder:
        yield Path(folder)


TOGETHER = ("browser", "client", "exporting")
"""packages whose tests share what is costly to make: one worker runs them all"""
FIRST = ("exporting", "browser", "test_package.py", "training", "journeys", "index", "test_guides.py")
"""what takes longest: begun last, one worker would end long after the other"""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """With `--dist loadfile`, one worker runs the tests of a file, or of one of those packages.

    Groups of xdist would say so too, but its version 3.8 cannot tell them with pytest 9.2.
    """
    from xdist.scheduler import LoadFileScheduling

    class LoadPackageScheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            package = file.split("/")[1]
            return package if package in TOGETHER else file

    return LoadPackageScheduling(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: order.get(item.path.relative_to(ROOT / "tests").parts[0], len(FIRST)))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--minutes", type=float, default=0, help="start no further test after so many minutes (0: no limit)"
    )
    parser.addoption("--cpu-features", help="choose as on a CPU with these features, e.g. avx2,avx512 (see machine.py)")


@pytest.fixture(scope="session")
def deadline(request: pytest.FixtureRequest) -> float:
    """When no further test is started, on the monotonic clock."""
    minutes = request.config.getoption("--minutes")
    return time.monotonic() + 60 * minutes if minutes else float("inf")


@pytest.fixture(autouse=True)
def within_the_time_box(deadline: float) -> None:
    """Skips what `--minutes` leaves no time for."""
    if time.monotonic() > deadline:
        pytest.skip("no time left of --minutes")


@pytest.fixture(autouse=True, scope="session")
def cpu_features(request: pytest.FixtureRequest) -> Iterator[None]:
    """With `--cpu-features`, what is chosen by the CPU's features is chosen as on another CPU."""
    features = request.config.getoption("--cpu-features")
    if features is None:
        yield
        return
    from tuwen.runtime.machine import assumed_cpu_features

    with assumed_cpu_features(*filter(None, features.split(","))):
        yield
