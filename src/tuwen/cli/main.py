"""`tuwen`: the table of commands. A command's module is imported when the command is named."""

import gc
import sys

import click

from tuwen import __version__
from tuwen.cli.command import LazyGroup, exit_code

COMMANDS = {
    "adapt": ("tuwen.cli.adapt", "Learn a classifier from a few images of each class."),
    "bench": ("tuwen.cli.bench", "Measure a model's throughput and latency on this machine."),
    "calibrate": ("tuwen.cli.calibrate", "Measure the score below which nothing in an index matches."),
    "classify": ("tuwen.cli.classify", "Classify images by labels of your choice."),
    "convert": ("tuwen.cli.convert", "Convert a bundle for another runtime, and compare the two."),
    "demo": ("tuwen.cli.demo", "Index and search a packaged gallery."),
    "doctor": ("tuwen.cli.doctor", "Show what this machine can run, and what to install."),
    "embed": ("tuwen.cli.embed", "Compute vectors of images and texts."),
    "evaluate": ("tuwen.cli.evaluate", "Measure retrieval or classification on a dataset."),
    "export": ("tuwen.cli.export", "Export a checkpoint to a verified bundle that needs no torch."),
    "index": ("tuwen.cli.index", "Build and maintain an index of images and texts."),
    "mcp": ("tuwen.cli.mcp", "Offer an index to language models as tools (MCP)."),
    "models": ("tuwen.cli.models", "List the packaged models, known ones, and those on this machine."),
    "pull": ("tuwen.cli.pull", "Download a model from the hub."),
    "run": ("tuwen.cli.run", "Run a PaddleClas CLIP configuration."),
    "search": ("tuwen.cli.search", "Search an index by text, by image, or by both."),
    "serve": ("tuwen.cli.serve", "Serve an index over HTTP, with a search page."),
    "train": ("tuwen.cli.train", "Train a model on image-text pairs and export it."),
    "verify": ("tuwen.cli.verify", "Check that a bundle computes what its checkpoint does."),
}
"""command -> its module, and its line in the help of `tuwen`, which imports none of these modules"""


@click.command(
    cls=LazyGroup,
    commands=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    examples=(
        "tuwen demo",
        "tuwen index build PHOTOS/ --index photos.tuwen",
        'tuwen search "一只狗在草地上" --index photos.tuwen',
    ),
)
@click.version_option(__version__, "--version", prog_name="tuwen", message="%(prog)s %(version)s")
def tuwen() -> None:
    """Search images by content, from CLIP checkpoint to index, with every step verified."""


def main() -> None:
    """Run the command line with this process' arguments, and leave with the command's exit code."""
    code = exit_code(lambda: tuwen.main(prog_name="tuwen", standalone_mode=False))
    gc.freeze()  # or the end of the process looks through all that was imported: a tenth of the time of a search
    sys.exit(code)
