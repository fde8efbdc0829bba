"""Few-shot methods on the packaged galleries: accuracy by images a class.

    python benchmarks/adapt.py [--shots 1,2,4,8,16] [--seeds 5] [--methods gda,proker] [--plot adapt.webp]
    python benchmarks/adapt.py --photos --seeds 20
    python benchmarks/adapt.py --speed

Drawings are in Unicode's own subgroups, which wants emoji-test.txt of Unicode (Debian: unicode-data), or its path as
--emoji-test. Photos are in the folders of their gallery, those of at least four. --speed chooses a method and its
parameters for 1,000 classes of 16 generated vectors of 512 numbers.
"""

import argparse
import re
import time
import unicodedata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import tuwen
from tuwen.classify import selection
from tuwen.classify.labels import label_vectors
from tuwen.classify.methods import METHODS, Support
from tuwen.demo import demo_gallery, photo_gallery

EMOJI_TEST = Path("/usr/share/unicode/emoji/emoji-test.txt")


def subgroups(file: Path) -> dict[str, str]:
    """What a drawing's file is called -> its subgroup."""
    found, current = {}, ""
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("# subgroup:"):
            current = line.partition(":")[2].strip()
        elif named := re.match(r"[0-9A-F ]+; fully-qualified\s+# \S+ E[\d.]+ (.*)", line):
            plain = unicodedata.normalize("NFKD", named[1]).encode("ascii", "ignore").decode()
            found[re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")] = current
    return found


def drawings(file: Path) -> dict[Path, str]:
    """The drawings that Unicode lists, and their subgroups."""
    known = subgroups(file)
    return {path: known[path.stem] for path in sorted(demo_gallery().rglob("*.webp")) if path.stem in known}


def photos() -> dict[Path, str]:
    """The photos of folders of at least four, and the folders' names."""
    folders = [folder for folder in sorted(photo_gallery().iterdir()) if folder.is_dir()]
    several = {folder: sorted(folder.iterdir()) for folder in folders}
    return {path: folder.name for folder, paths in several.items() if len(paths) > 3 for path in paths}


def encoded(
    known: dict[Path, str], model: str
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], float]:
    """Vectors of the images, their classes, the classes' text vectors, the model's scale."""
    encoder, classes = tuwen.load(model, precision="fp32"), sorted(set(known.values()))
    labels = np.array([classes.index(name) for name in known.values()])
    texts = label_vectors([name.replace("-", " ") for name in classes], ["_"], encoder).vectors
    print(f"{len(known)} images, {len(classes)} classes")
    return encoder.encode_images(list(known)), labels, texts, encoder.scoring.scale


def speed() -> None:
    """How long `auto` takes with 1,000 classes of 16 images."""
    chance = np.random.default_rng(0)
    centres, labels = chance.standard_normal((1000, 512)), np.repeat(np.arange(1000), 16)
    vectors, texts = (
        (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        for rows in (
            centres[labels] + 3 * chance.standard_normal((16000, 512)),
            centres + 3 * chance.standard_normal((1000, 512)),
        )
    )
    support = Support(vectors, labels, texts, 100.0)
    start, busy = time.perf_counter(), time.process_time()
    best = selection.best_of(selection.choose(support, selection.for_auto(support)))
    selection.temperature(best.logits, labels[best.rows])
    METHODS[best.method].fit(support, best.parameters)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    print(f"{best.method}: {seconds:.1f} s, {busy:.1f} s of processor time, accuracy {best.accuracy:.3f} on its fold")


def drawn(labels: NDArray[np.int64], shots: int, seed: int) -> NDArray[np.int64]:
    """The rows to learn from: so many of each class, at most half of it."""
    chance = np.random.default_rng(seed)
    rows = []
    for label in np.unique(labels):
        own = chance.permutation(np.flatnonzero(labels == label))
        rows.extend(own[: max(1, min(shots, len(own) // 2))])
    return np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shots", default="1,2,4,8,16")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--emoji-test", type=Path, default=EMOJI_TEST)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--photos", action="store_true")
    parser.add_argument("--speed", action="store_true")
    asked = parser.parse_args()
    if asked.speed:
        speed()
        return
    known = photos() if asked.photos else drawings(asked.emoji_test)
    vectors, labels, texts, scale = encoded(known, "photo" if asked.photos else "demo")
    methods, sizes = asked.methods.split(","), [int(word) for word in asked.shots.split(",")]
    figures: dict[str, list[float]] = {name: [] for name in (*methods, "auto")}
    print("| images a class |" + "".join(f" {name} |" for name in figures))
    print("|--:|" + "--:|" * len(figures))
    for shots in sizes:
        found: dict[str, list[float]] = {name: [] for name in figures}
        for seed in range(asked.seeds):
            rows = drawn(labels, shots, seed)
            test = np.setdiff1d(np.arange(len(labels)), rows)
            support = Support(vectors[rows], labels[rows], texts, scale)
            choices = selection.choose(support, methods, seed=seed)
            for name, choice in choices.items():
                added = METHODS[name].fit(support, choice.parameters).of(vectors[test])
                logits = support.zero_shot(vectors[test]) + choice.parameters["alpha"] * added
                found[name].append(float((logits.argmax(axis=1) == labels[test]).mean()))
            able = {name: choice for name, choice in choices.items() if name in selection.for_auto(support)}
            found["auto"].append(found[selection.best_of(able).method][-1])
        for name, values in found.items():
            figures[name].append(100 * float(np.mean(values)))
        print(f"| {shots} |" + "".join(f" {values[-1]:.1f} |" for values in figures.values()), flush=True)
    if asked.plot is not None:
        draw(sizes, figures, asked.plot)


def draw(sizes: list[int], figures: dict[str, list[float]], file: Path) -> None:
    from matplotlib.figure import Figure

    image = Figure(figsize=(7, 4.2), layout="constrained")
    axes = image.add_subplot()
    for name, values in figures.items():
        axes.plot(sizes, values, marker="o", label=name, linewidth=3 if name == "auto" else 1.5, zorder=name != "auto")
    axes.set(xscale="log", xticks=sizes, xticklabels=sizes, xlabel="images a class", ylabel="accuracy, %")
    axes.legend(frameon=False)
    image.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
