"""`tuwen run`: a configuration of PaddleClas' CLIP pipeline, with the pipeline's output."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import click

from tuwen.cli import options
from tuwen.cli.command import REJECTED, Command, say
from tuwen.cli.console import emit, list_rejected
from tuwen.cli.ingest import Shown, run_shown
from tuwen.cli.locations import opened, opened_or_new
from tuwen.cli.options import Computing
from tuwen.cli.search import as_document, is_text
from tuwen.index.index import VectorIndex
from tuwen.interop.paddle import answer, build, check_index, count_inputs
from tuwen.interop.paddle_config import InvalidConfig, PaddleConfig, check_model, read_config
from tuwen.runtime.encoder import Encoder
from tuwen.runtime.loading import find_bundle
from tuwen.runtime.machine import usable_cores
from tuwen.types import Rejected


@click.command(
    cls=Command,
    examples=(
        "tuwen run -c inference_clip.yaml -o Global.mode=image_index_build --model demo",
        "tuwen run -c inference_clip.yaml -o Global.mode=text-to-image -o IndexProcess.return_k=5",
    ),
)
@click.option("-c", "--config", "file", type=options.FILE, required=True, help="The pipeline's YAML file.")
@click.option(
    "-o", "--override", "overrides", multiple=True, metavar="KEY=VALUE", help="Overrides the file; repeatable."
)
@click.option("--model", metavar="MODEL", help="A bundle's folder, or a model's name; overrides the file.")
@options.progress
@options.as_json
def run(file: Path, overrides: Sequence[str], model: str | None, progress: str, as_json: bool) -> int:
    """Run a PaddleClas CLIP configuration.

    Global.mode in the file chooses what to do: image_index_build, text_index_build, text-to-image, image-to-text,
    image-to-image, or text-to-text. The hits of each query are printed as one list. A configuration with a key that
    cannot be honoured is refused before anything is done, with one line for each problem.
    """
    try:
        config = read_config(file, overrides, model)
        place = options.index_folder(config.index)
        check_index(config, place)
        computing = _computing(config)
        if config.model is not None:
            manifest = find_bundle(config.model, computing.settings.models, computing.settings.cache).manifest
            check_model(config, manifest.name, manifest.dim, manifest.image)
        if config.idle:
            say(f"these keys have no effect: {', '.join(config.idle)}")
        with _opened(config, computing) as (encoder, index):
            check_model(config, encoder.name, encoder.dim, encoder.image_spec)
            if config.builds:
                shown = Shown(place, progress, as_json, "row")
                return run_shown(build(config, encoder, index), lambda: count_inputs(config, index), index, shown)
            return _search(config, encoder, index, as_json=as_json)
    except InvalidConfig as error:
        for problem in error.problems:
            say(f"error: {problem}")
        return error.exit_code


def _computing(config: PaddleConfig) -> Computing:
    """The settings, where the configuration says nothing."""
    computing, threads = options.as_set(config.model), config.general.cpu_num_threads
    return replace(
        computing,
        device=config.device or computing.device,
        precision="fp16" if config.general.use_fp16 else computing.precision,
        threads=computing.threads if threads is None else min(threads, usable_cores()),
    )


@contextmanager
def _opened(config: PaddleConfig, computing: Computing) -> Iterator[tuple[Encoder, VectorIndex]]:
    """The index and its model; a build creates an index that does not exist."""
    place = options.index_folder(config.index)
    if config.builds:
        with opened_or_new(place, config.root, computing.measuring(), config.design, anywhere=True) as both:
            yield both
    else:
        with opened(place, computing) as both:
            yield both


def _search(config: PaddleConfig, encoder: Encoder, index: VectorIndex, *, as_json: bool) -> int:
    rejected: list[Rejected] = []
    queries = []
    for found in answer(config, encoder, index, rejected):
        queries.append({"query": found.query, "hits": [as_document(hit) for hit in found.hits]})
        if not as_json:
            names = [str(hit.payload["text" if is_text(hit) else "path"]) for hit in found.hits]
            click.echo(json.dumps(names, ensure_ascii=False, indent=2))
    list_rejected(rejected)
    if as_json:
        failed = [asdict(item) for item in rejected]
        emit({"mode": config.mode, "model": encoder.name, "queries": queries, "rejected": failed})
    return REJECTED if rejected else 0
