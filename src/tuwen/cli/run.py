"""`tuwen run`: the configuration of another tool's CLIP pipeline, understood, with its output."""

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
from tuwen.cli.search import as_document
from tuwen.errors import IndexNotFound
from tuwen.index.index import VectorIndex, manifest_of
from tuwen.index.location import Place
from tuwen.index.store import design
from tuwen.ingest.images import ImageIngest
from tuwen.ingest.texts import TextIngest
from tuwen.interop.paddle import Answer, answer, build_images, build_texts, count_inputs
from tuwen.interop.paddle_config import BUILDS, SEARCHES, Plan, differences, read_plan
from tuwen.runtime.encoder import Encoder
from tuwen.runtime.machine import usable_cores
from tuwen.types import Hit, Rejected

WRONG = 2
"""The exit code of a configuration that cannot be used."""


@click.command(
    cls=Command,
    examples=(
        "tuwen run -c inference_clip.yaml -o Global.mode=image_index_build --model demo",
        "tuwen run -c inference_clip.yaml -o Global.mode=text-to-image -o IndexProcess.return_k=5",
    ),
)
@click.option("-c", "--config", type=options.FILE, required=True, help="The pipeline's YAML.")
@click.option(
    "-o", "--override", "overrides", multiple=True, metavar="KEY=VALUE", help="Wins over the file; repeatable."
)
@click.option("--model", metavar="MODEL", help="A bundle's folder, a model's name, or demo; wins over the file.")
@options.progress
@options.as_json
def run(config: Path, overrides: Sequence[str], model: str | None, progress: str, as_json: bool) -> int:
    """Run a PaddleClas CLIP configuration.

    The file's Global.mode says what: image_index_build, text_index_build, text-to-image, image-to-text,
    image-to-image, or text-to-text. Each query's hits are printed as one list. What cannot be honoured is told,
    each in one line, before anything is done.
    """
    plan, problems = read_plan(config, overrides, model)
    if plan is None:
        return _refused(problems)
    computing = _computing(plan)
    problems = _index_problems(plan)
    if plan.model is not None and not problems:
        problems = _model_problems(plan, computing.load(plan.model))
    if problems:
        return _refused(problems)
    if plan.idle:
        say(f"nothing depends on {', '.join(plan.idle)}")
    if plan.mode in BUILDS:
        return _build(plan, computing, progress, as_json)
    return _search(plan, computing, as_json)


def _refused(problems: Sequence[str]) -> int:
    for problem in problems:
        say(f"error: {problem}")
    return WRONG


def _computing(plan: Plan) -> Computing:
    """As the settings have it, where the configuration says nothing."""
    computing = options.as_set(plan.model)
    threads = None if plan.threads is None else min(plan.threads, usable_cores())
    return replace(
        computing,
        device=plan.device or computing.device,
        precision=plan.precision or computing.precision,
        threads=threads or computing.threads,
    )


def _index_of(plan: Plan) -> Place:
    """The index that the mode works on."""
    kind = BUILDS[plan.mode] if plan.mode in BUILDS else SEARCHES[plan.mode][1]
    return options.index_folder(plan.indexes[kind])


def _index_problems(plan: Plan) -> list[str]:
    """What stands against working on that index: there is none, or another kind of one."""
    folder = _index_of(plan)
    try:
        made = manifest_of(folder)
    except IndexNotFound:
        if plan.mode not in BUILDS:
            return [f"there is no index at {folder}: run the mode that builds it first"]
        if plan.operation == "new":
            return []
        wants = f"IndexProcess.index_operation: {plan.operation} wants an index at {folder}"
        return [f"{wants}, and there is none: write new"]
    wanted = design(**{"kind": made.kind, "metric": made.metric, **plan.design})
    if (wanted.kind, wanted.metric) == (made.kind, made.metric):
        return []
    return [
        f"IndexProcess.index_method and dist_type: the index at {folder} is {made.kind} with {made.metric}, and "
        "stays so: write that, name another folder, or delete this one"
    ]


def _model_problems(plan: Plan, encoder: Encoder) -> list[str]:
    """Where the configuration counts on another model than the one at hand."""
    dims = [
        f"{key}: {value} is not the model's: {encoder.name} has {encoder.dim}; write that, or leave it out"
        for key, value in plan.dims.items()
        if value != encoder.dim
    ]
    return [*dims, *differences(plan.transforms, encoder.image_spec)]


@contextmanager
def _opened(plan: Plan, computing: Computing) -> Iterator[tuple[Encoder, VectorIndex]]:
    """The index and its model, made where a build is to make it."""
    folder = _index_of(plan)
    if plan.mode in BUILDS:
        with opened_or_new(folder, plan.root, computing, plan.design, anywhere=True) as both:
            yield both
    else:
        with opened(folder, computing) as both:
            yield both


def _build(plan: Plan, computing: Computing, progress: str, as_json: bool) -> int:

    with _opened(plan, computing) as (encoder, index):
        problems = _model_problems(plan, encoder)
        if problems:
            return _refused(problems)
        if BUILDS[plan.mode] == "image":
            reports = build_images(plan, ImageIngest(encoder, index))
        else:
            reports = build_texts(plan, TextIngest(encoder, index), index)
        shown = Shown(_index_of(plan), progress, as_json, "row")
        return run_shown(reports, lambda: count_inputs(plan, index), index, shown)


def _search(plan: Plan, computing: Computing, as_json: bool) -> int:

    rejected: list[Rejected] = []
    with _opened(plan, computing) as (encoder, index):
        problems = _model_problems(plan, encoder)
        if problems:
            return _refused(problems)
        answers = []
        for each in answer(plan, encoder, index, rejected):
            answers.append(each)
            if not as_json:
                click.echo(json.dumps([_name(hit) for hit in each.hits], ensure_ascii=False, indent=2))
    list_rejected(rejected)
    if as_json:
        emit(_document(plan, encoder, answers, rejected))
    return REJECTED if rejected else 0


def _name(hit: Hit) -> str:
    """What the pipeline prints of a hit: a text, or a picture's path."""
    return str(hit.payload["text"] if hit.payload.get("type") == "text" else hit.payload["path"])


def _document(
    plan: Plan, encoder: Encoder, answers: Sequence[Answer], rejected: Sequence[Rejected]
) -> dict[str, object]:

    queries = [{"query": each.query, "hits": [as_document(hit) for hit in each.hits]} for each in answers]
    return {
        "mode": plan.mode,
        "model": encoder.name,
        "queries": queries,
        "rejected": [asdict(item) for item in rejected],
    }
