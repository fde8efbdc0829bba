"""Calibration: measure the score below which a hit is not a match, with queries whose answer is known.

    probes --measure--> scores --thresholds--> one threshold for each kind of query

Cosines between a text and an image and cosines between two images have different scales, and each model has its own, so
no fixed threshold fits all of them.
"""

import csv
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO
from itertools import combinations, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tuwen.data.files import is_file, key_of
from tuwen.errors import InvalidInput, require
from tuwen.evaluation.metrics import false_accepts, false_rejects, fewest_errors
from tuwen.index.calibration import QUERY_KINDS, QueryKind, Threshold
from tuwen.index.store import row_id
from tuwen.search.query import RowId, Term, term_vectors

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from tuwen.index.index import VectorIndex
    from tuwen.runtime.encoder import Encoder

_ENGLISH = """
jurisprudence; the subjunctive mood; amortisation of a loan; a tax deduction; the gold standard; inflation targeting
a statute of limitations; a power of attorney; the categorical imperative; epistemology; a syllogism; a tautology
the law of large numbers; a null hypothesis; a prime number theorem; an eigenvalue; a Fourier transform; entropy
quantum entanglement; a chemical bond; plate tectonics; natural selection; a recessive gene; the immune response
an antonym; an iambic pentameter; a rhetorical question; a loan word; the past perfect tense; a double negative
a software licence; a race condition; garbage collection of memory; a stack overflow; a version number; open source
supply and demand; a hostile takeover; a profit warning; a conflict of interest; a golden parachute; a bear market
a pension reform; a vote of no confidence; the separation of powers; a customs union; a ceasefire agreement
a filibuster; proportional representation; diplomatic immunity; universal suffrage; a trade deficit; a census
nostalgia for the future; a guilty conscience; stage fright; an inferiority complex; wishful thinking; hindsight
a slip of the tongue; a moral dilemma; a white lie; deja vu; a midlife crisis; cognitive dissonance; patience
an astrolabe; a theodolite; a bathysphere; a cyclotron; a wind tunnel; an electron microscope; a Geiger counter
a trilobite fossil; a coelacanth; an axolotl; a pangolin; a tardigrade; an okapi; a narwhal tusk; a cassowary
a harpsichord; a theremin; a hurdy-gurdy; a didgeridoo; an alphorn; a glass harmonica; a mellotron; a bassoon reed
a suit of samurai armour; a trebuchet; a portcullis; a halberd; a chastity belt; a guillotine; a sedan chair
a zeppelin over a city; a steam locomotive on a turntable; an icebreaker in pack ice; a hovercraft; a log flume
a telephone switchboard; a punched card; a vacuum tube; a slide rule; a teleprinter; a daguerreotype; a phonograph
an oil refinery at dusk; a uranium mine; a salt evaporation pond; a blast furnace; a paper mill; a slaughterhouse
an autopsy table; a dental X-ray; a kidney stone; an iron lung; a leech on an arm; an MRI of a brain; a hip joint
a particle detector; a tokamak; a radio telescope dish; a Mars rover; a supernova remnant; the surface of Venus
a cuneiform tablet; an Egyptian sarcophagus; a Viking longship; an Aztec codex; a Roman aqueduct; a rune stone
a beekeeper in a veil; a sumo match; a fencing duel; a bullfight; a log driver; a falconer; a glass blower
an oscilloscope trace; a circuit diagram; a weather map; a seismogram; a barcode; a sheet of music for organ
a page of a phone book; a tax form; a land register; a share certificate; a birth certificate; a parking ticket
"""
_CHINESE = """
法理学; 虚拟语气; 贷款摊销; 抵税; 金本位制; 通货膨胀目标; 诉讼时效; 授权委托书; 定言令式; 认识论; 三段论; 同义反复
大数定律; 零假设; 素数定理; 特征值; 傅里叶变换; 熵增; 量子纠缠; 化学键; 板块构造; 自然选择; 隐性基因; 免疫反应
反义词; 五言绝句的格律; 反问句; 外来语; 过去完成时; 软件许可证; 竞态条件; 内存回收; 版本号; 开源协议; 供给与需求
恶意收购; 利益冲突; 熊市; 养老金改革; 不信任投票; 三权分立; 关税同盟; 停火协议; 比例代表制; 外交豁免权; 普选权
贸易逆差; 人口普查; 怀旧; 内疚; 怯场; 自卑情结; 一厢情愿; 后见之明; 口误; 道德困境; 善意的谎言; 似曾相识; 中年危机
星盘; 经纬仪; 深海潜水球; 回旋加速器; 风洞; 电子显微镜; 盖革计数器; 三叶虫化石; 腔棘鱼; 六角恐龙; 穿山甲; 水熊虫
羽管键琴; 特雷门琴; 手摇风琴; 迪吉里杜管; 阿尔卑斯长号; 玻璃琴; 武士铠甲; 投石机; 断头台; 轿子; 齐柏林飞艇; 破冰船
气垫船; 雪橇赛道; 电话交换台; 打孔卡; 真空管; 计算尺; 电传打字机; 留声机; 炼油厂; 铀矿; 盐田; 高炉; 造纸厂; 屠宰场
解剖台; 牙齿的X光片; 肾结石; 铁肺; 水蛭; 脑部核磁共振; 托卡马克; 射电望远镜; 火星车; 超新星遗迹; 金星表面; 泥板
木乃伊棺; 维京长船; 阿兹特克手抄本; 罗马水道; 养蜂人; 相扑比赛; 击剑; 斗牛; 驯鹰人; 吹玻璃的工匠; 示波器; 电路图
天气图; 地震波形图; 条形码; 管风琴乐谱; 电话簿; 报税表; 土地登记簿; 股票证书; 出生证明; 停车罚单
"""


def negative_texts(count: int, languages: Sequence[str]) -> list[str]:
    """Choose `count` different texts that hardly any collection matches, at random but the same every time.

    Args:
        count: how many; if there are fewer, pairs of texts are added.
        languages: the model's languages; if they include neither English nor Chinese, the texts are English.
    """
    chosen = [text for language, text in (("en", _ENGLISH), ("zh", _CHINESE)) if language in languages]
    texts = [text.strip() for lines in chosen or [_ENGLISH] for line in lines.split("\n") for text in line.split(";")]
    chance = random.Random(0)
    singles = [text for text in texts if text]
    chance.shuffle(singles)
    pairs = islice(combinations(singles, 2), max(0, count - len(singles)))
    return [*singles[:count], *(f"{one}, {other}" for one, other in pairs)]


_SEED = 0


@dataclass(frozen=True, slots=True)
class Probe:
    """A query and the rows that it should find.

    Attributes:
        what: a text, an image file, or a row of the index, which looks for the row nearest to itself.
        right: ids of the rows that match; empty if none do.
    """

    what: str | Path | RowId
    right: tuple[str, ...] = ()

    @property
    def kind(self) -> QueryKind:
        """Whether the query is a text or an image."""
        return "text" if isinstance(self.what, str) else "image"

    @property
    def matches(self) -> bool:
        """Whether the index has a match; the index's own images count as having one."""
        return bool(self.right) or isinstance(self.what, RowId)


def random_probes(count: int, encoder: "Encoder", index: "VectorIndex") -> list[Probe]:
    """Make probes from `count` texts without a match, in the model's languages, and `count` images of the index.

    They are chosen at random, but are the same every time. There are fewer images if the index has fewer.
    """
    texts = [Probe(text) for text in negative_texts(count, encoder.text_spec.languages)]
    return texts + [Probe(RowId(row)) for row in _random_images(count, index)]


def labelled_probes(path: Path, index: "VectorIndex") -> list[Probe]:
    """Read queries and their matches from a file in UTF-8. Its extension decides the format.

        .jsonl          {"query": "a dog", "paths": ["dog.jpg", "park/dogs.jpg"]}
        .csv, .tsv      a query, then any number of paths in further columns; no header

    A query is an image if a file of that name exists (relative to the working folder or to this file), otherwise a
    text. Paths are keys of the index, or files; a query without paths has no match.

    Raises:
        InvalidInput: the file cannot be read, or a path is not in the index; `.where` is the file with the line.
    """
    readers = {".jsonl": _json_lines, ".csv": _csv_lines, ".tsv": _tsv_lines}
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise InvalidInput(
            f"{path}: unknown format {suffix!r}; save the queries as one of {', '.join(readers)}",
            value=suffix,
            where=path,
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8", where=path) from error
    found = []
    for number, (query, paths) in readers[suffix](text, path):
        place = f"{path}, line {number}"
        if not query.strip():
            raise InvalidInput(f"{place}: the query is empty", value=query, where=place)
        right = _rows(paths, index, place)
        found.append(Probe(_image(query, path.parent) or query, right))
    if not found:
        raise InvalidInput(f"{path} contains no queries", where=path)
    return found


def _image(query: str, folder: Path) -> Path | None:
    return next((file for file in (Path(query), folder / query) if is_file(file)), None)


def _rows(paths: Sequence[str], index: "VectorIndex", place: str) -> tuple[str, ...]:
    ids = []
    for path in paths:
        key = path if index.payloads([path]) else key_of(Path(path), index.root)
        if key != path and not index.payloads([key]):
            raise InvalidInput(
                f"{place}: the path {path} is not in the index; tuwen index list shows its paths",
                value=path,
                where=place,
            )
        ids.append(str(row_id(key)))
    return tuple(ids)


def _json_lines(text: str, path: Path) -> Iterator[tuple[int, tuple[str, list[str]]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            item = json.loads(line)
        except ValueError as error:
            raise InvalidInput(f"{place}: invalid JSON: {error}", value=line, where=place) from error
        if not _is_labelled(item):
            raise InvalidInput(
                f'{place}: expected {{"query": "a dog", "paths": ["dog.jpg"]}}, not {line.strip()[:80]}',
                value=item,
                where=place,
            )
        yield number, (item["query"], item["paths"])


def _is_labelled(item: object) -> bool:
    if not isinstance(item, dict) or set(item) != {"query", "paths"}:
        return False
    paths = item["paths"]
    return isinstance(item["query"], str) and isinstance(paths, list) and all(isinstance(path, str) for path in paths)


def _csv_lines(text: str, path: Path, delimiter: str = ",") -> Iterator[tuple[int, tuple[str, list[str]]]]:
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, (cells[0], [cell for cell in cells[1:] if cell.strip()])
    except csv.Error as error:
        place = f"{path}, line {reader.line_num}"
        raise InvalidInput(f"{place}: {error}", where=place) from error


def _tsv_lines(text: str, path: Path) -> Iterator[tuple[int, tuple[str, list[str]]]]:
    return _csv_lines(text, path, "\t")


def _random_images(count: int, index: "VectorIndex") -> list[str]:
    """Ids of `count` random images of the index."""
    keys = index.keys('type == "image"')
    return [str(row_id(key)) for key in random.Random(_SEED).sample(keys, min(count, len(keys)))]


Scores = NDArray[np.float64]

FEWEST = 5
"""a threshold for a kind of query needs at least this many scores"""
ALLOWED = 0.05
"""the error rate of a threshold if only one of the two kinds of error can be measured"""
_COPIES = 64
"""how many hits of an image's search are checked for one that is not a copy of it"""


@dataclass(frozen=True, slots=True)
class Score:
    """The score of one query: that of its best match, or of its best hit if it has no match."""

    kind: QueryKind
    value: float
    matches: bool


@dataclass(frozen=True, slots=True)
class Samples:
    """The sorted scores of one kind of query: of queries with a match, and of queries without."""

    matching: Scores
    unmatching: Scores

    @property
    def count(self) -> int:
        """The number of scores."""
        return len(self.matching) + len(self.unmatching)


def measure(probes: Sequence[Probe], encoder: "Encoder", index: "VectorIndex") -> Iterator[Score | None]:
    """Compute one score for each query, in order; None if there is nothing to compare it with.

    - The score of a query with matches is its highest cosine with one of them.
    - The score of a query without a match is its highest cosine with any row.
    - The score of a row is its highest cosine with a row of different content.

    Raises:
        RejectedImages: a query's image cannot be read.
        InvalidInput: a query is empty.
    """
    for probe in probes:
        vector = term_vectors([Term(probe.what)], encoder, index)[0]
        value = _value(probe, vector, index)
        yield None if value is None else Score(probe.kind, value, probe.matches)


def samples(scores: Sequence[Score]) -> dict[QueryKind, Samples]:
    """Group scores by the kind of query."""
    found = {}
    for kind in QUERY_KINDS:
        matching = [score.value for score in scores if score.kind == kind and score.matches]
        unmatching = [score.value for score in scores if score.kind == kind and not score.matches]
        if matching or unmatching:
            found[kind] = Samples(np.sort(np.array(matching, float)), np.sort(np.array(unmatching, float)))
    return found


def thresholds(measured: Mapping[QueryKind, Samples], rows: int) -> dict[QueryKind, Threshold]:
    """Choose a threshold for each kind of query (see `choose`), and estimate its error rates.

    The rates are leave-one-out estimates: each query is judged by the threshold chosen from the other queries. Kinds
    with fewer than five queries are left out.

    Args:
        measured: the scores, see `samples`.
        rows: the number of rows in the index.

    Raises:
        InvalidInput: there are fewer than five queries of every kind, or the index is empty.
    """
    if not measured:
        raise InvalidInput("there is nothing to measure: the index has no rows", value=rows)
    found = {kind: _threshold(it, rows) for kind, it in measured.items() if it.count >= FEWEST}
    if not found:
        counts = {kind: it.count for kind, it in measured.items()}
        hint = f"give at least {FEWEST} queries of one kind, preferably 50, or add some with --random"
        shown = ", ".join(f"{count} {kind} queries" for kind, count in counts.items())
        raise InvalidInput(f"too few queries to choose a threshold ({shown}): {hint}", value=counts, hint=hint)
    return found


def choose(matching: Scores, unmatching: Scores) -> float:
    """Choose the threshold with the fewest errors.

    With only one kind of scores, 5 % of them are on the wrong side of the threshold.

    Args:
        matching: (n,) sorted; scores below the threshold are false rejects.
        unmatching: (m,) sorted; scores of at least the threshold are false accepts.
    """
    if not len(matching):
        return float(np.quantile(unmatching, 1 - ALLOWED))
    if not len(unmatching):
        return float(np.quantile(matching, ALLOWED))
    return fewest_errors(matching, unmatching)


def _value(probe: Probe, vector: NDArray[np.float32], index: "VectorIndex") -> float | None:
    if probe.right:
        return float(max(vector @ right for right in index.vectors(probe.right).values()))
    if not isinstance(probe.what, RowId):
        return next((hit.score for hit in index.search(vector, k=1)), None)
    row = probe.what.id
    content = index.get([row])[row].payload.get("content", row)
    hits = index.search(vector, k=_COPIES)
    return next((hit.score for hit in hits if hit.id != row and hit.payload.get("content") != content), None)


def _threshold(measured: Samples, rows: int) -> Threshold:
    matching, unmatching = measured.matching, measured.unmatching
    accepts = [
        false_accepts(unmatching[[i]], choose(matching, np.delete(unmatching, i))) for i in _left_out(unmatching)
    ]
    rejects = [false_rejects(matching[[i]], choose(np.delete(matching, i), unmatching)) for i in _left_out(matching)]
    return Threshold(
        threshold=choose(matching, unmatching),
        false_accept=_mean(accepts),
        false_reject=_mean(rejects),
        matching=len(matching),
        unmatching=len(unmatching),
        rows=rows,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _left_out(scores: Scores) -> range:
    """The positions of scores to leave out in turn; none if there is only one, since nothing would remain."""
    return range(len(scores) if len(scores) > 1 else 0)


def _mean(rates: Sequence[NDArray[np.float64]]) -> float | None:
    return round(float(np.mean(rates)), 4) if rates else None


_TITLES: dict[QueryKind, str] = {"text": "text queries", "image": "image queries"}
_BINS = 40
_MATCH, _NONE, _LINE = "#0072b2", "#d55e00", "#222222"  # distinguishable with colour blindness


def draw(measured: Mapping[QueryKind, Samples], chosen: Mapping[QueryKind, Threshold], file: Path) -> None:
    """Plot a histogram for each kind of query that has a threshold. The file's extension decides the format.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    require("matplotlib", extra="plot")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.4 + 2.6 * len(chosen)), layout="constrained")
    for place, (kind, it) in enumerate(chosen.items(), start=1):
        axes = figure.add_subplot(len(chosen), 1, place)
        _histograms(axes, measured[kind], it.threshold)
        axes.set_title(_TITLES[kind], loc="left", fontsize=11)
    axes.set_xlabel("score: the cosine of the match, or of the best hit if there is no match")
    figure.savefig(file, dpi=110)


def _histograms(axes: "Axes", measured: Samples, threshold: float) -> None:
    everything = np.concatenate([measured.matching, measured.unmatching, [threshold]])
    edges: list[float] = np.linspace(everything.min() - 0.01, everything.max() + 0.01, _BINS + 1).tolist()
    for scores, name, colour in (
        (measured.unmatching, "without a match", _NONE),
        (measured.matching, "with a match", _MATCH),
    ):
        if len(scores):
            weights = np.full(len(scores), 100 / len(scores))
            axes.hist(scores, edges, weights=weights, label=f"{name} ({len(scores)})", color=colour, alpha=0.65)
    axes.axvline(threshold, color=_LINE, linestyle="--", label=f"threshold {threshold:.3f}")
    axes.set_ylabel("% of queries")
    axes.legend(frameon=False, fontsize=9)
    axes.set_ylim(top=1.4 * axes.get_ylim()[1])  # space for the legend
    axes.spines[["top", "right"]].set_visible(False)
