"""Few-shot methods equal their formulas, written out anew; parameters are chosen on images that were not seen."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tuwen.classify import selection
from tuwen.classify.methods import METHODS, Support, cross_entropy, softmax

SCALE = 50.0


def unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def support(classes: int = 4, each: int = 3, dim: int = 6, *, seed: int = 0, noise: float = 1.0) -> Support:
    """Images around a centre of their own class; the text vectors are near the centres, too."""
    chance = np.random.default_rng(seed)
    centres = chance.standard_normal((classes, dim))
    labels = np.repeat(np.arange(classes), each)
    vectors = unit(centres[labels] + noise * chance.standard_normal((len(labels), dim)))
    return Support(vectors, labels, unit(centres + 1.5 * chance.standard_normal((classes, dim))), SCALE)


def others(known: Support, count: int = 7) -> NDArray[np.float32]:
    return unit(np.random.default_rng(9).standard_normal((count, known.texts.shape[1])))


def direct_cache(known: Support, queries, keys, values, beta: float) -> NDArray[np.float64]:
    found = np.zeros((len(queries), len(known.texts)))
    for row, query in enumerate(queries):
        for key, value in zip(keys, values, strict=True):
            found[row] += np.exp(-beta * (1 - float(np.dot(query, key)))) * value
    return found


def test_tip_adapter() -> None:
    known = support()
    queries = others(known)
    votes = np.zeros((len(known.labels), len(known.texts)))
    for row, label in enumerate(known.labels):
        votes[row, label] = SCALE / 100
    found = METHODS["tip"].fit(known, {"beta": 5.5}).of(queries)
    np.testing.assert_allclose(found, direct_cache(known, queries, known.vectors, votes, 5.5), rtol=1e-4, atol=1e-6)
    near = METHODS["tip"].fit(known, {"beta": 5.5}).of(known.vectors)
    assert (near.argmax(axis=1) == known.labels).mean() > 0.8  # an image votes most for itself: beta's sign is right


def test_gaussian_discriminant_analysis() -> None:
    known, dim = support(each=5), 6
    means = [known.vectors[known.labels == c].astype(np.float64).mean(axis=0) for c in range(4)]
    centred = [vector - means[label] for vector, label in zip(known.vectors, known.labels, strict=True)]
    covariance = sum(np.outer(row, row) for row in centred) / (len(centred) - 1)
    precision = dim * np.linalg.pinv((len(centred) - 1) * covariance + np.trace(covariance) * np.eye(dim))
    queries = others(known)
    wanted = [[f @ precision @ m - m @ precision @ m / 2 for m in means] for f in queries.astype(np.float64)]
    found = METHODS["gda"].fit(known, {}).of(queries)
    np.testing.assert_allclose(found, SCALE / 100 * np.array(wanted), rtol=1e-3, atol=1e-3)


def test_gaussians_of_one_image_each_are_finite() -> None:
    known = support(each=1)
    found = METHODS["gda"].fit(known, {}).of(known.vectors)
    assert np.isfinite(found).all()
    assert (found.argmax(axis=1) == known.labels).all()


def test_proker_is_the_minimiser() -> None:
    known, beta, ridge = support(), 3.0, 0.7
    x = known.vectors.astype(np.float64)
    gram = np.array([[np.exp(-beta * (1 - a @ b)) for b in x] for a in x])
    missing = np.eye(4)[known.labels] - x @ known.texts.T.astype(np.float64)

    def objective(values) -> float:
        return float(((gram @ values - missing) ** 2).sum() + ridge * np.trace(values.T @ gram @ values))

    residual = METHODS["proker"].fit(known, {"beta": beta, "ridge": ridge})
    assert residual.values is not None
    values = residual.values / SCALE
    chance = np.random.default_rng(1)
    for _ in range(20):
        assert objective(values) <= objective(values + 0.01 * chance.standard_normal(values.shape)) + 1e-6
    queries = others(known)
    wanted = SCALE * direct_cache(known, queries, known.vectors, values, beta)
    np.testing.assert_allclose(residual.of(queries), wanted, rtol=1e-3, atol=1e-3)


def test_linear_is_a_minimum_that_its_ridge_holds() -> None:
    pytest.importorskip("scipy")
    known = support(each=6)
    x, texts = known.vectors.astype(np.float64), known.texts.astype(np.float64)
    trust = np.array([softmax(known.zero_shot(known.vectors))[known.labels == c, c].mean() for c in range(4)])

    def objective(weights, ridge: float) -> float:
        loss, _ = cross_entropy(SCALE * x @ weights.T, known.labels)
        return loss + ridge * float((trust * ((weights - texts) ** 2).sum(axis=1)).mean())

    def learnt(ridge: float) -> NDArray[np.float64]:
        residual = METHODS["linear"].fit(known, {"ridge": ridge})
        assert residual.weight is not None
        return texts + residual.weight / SCALE

    chance = np.random.default_rng(2)
    for _ in range(20):
        nearby = learnt(10.0) + 0.02 * chance.standard_normal(texts.shape)
        assert objective(learnt(10.0), 10.0) <= objective(nearby, 10.0) + 1e-6
    far, near = (np.abs(learnt(ridge) - texts).max() for ridge in (0.1, 1e5))
    assert near < far / 100


def test_trained_keys_lower_the_loss_and_stay_near() -> None:
    pytest.importorskip("scipy")
    known = support(each=6, noise=1.5)
    parameters = {"beta": 5.5, "ridge": 0.01, "alpha": 10.0}
    start, trained = METHODS["tip"].fit(known, parameters), METHODS["tip-f"].fit(known, parameters)
    base = known.zero_shot(known.vectors)
    before, _ = cross_entropy(base + 10 * start.of(known.vectors), known.labels)
    after, _ = cross_entropy(base + 10 * trained.of(known.vectors), known.labels)
    assert after < before
    held = METHODS["tip-f"].fit(known, parameters | {"ridge": 1e6})
    np.testing.assert_allclose(held.keys, start.keys, atol=1e-3)


def test_a_probe_forgets_the_names() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    known, ridge = support(each=8), 1e-2
    queries = others(known)
    found = known.zero_shot(queries) + METHODS["probe"].fit(known, {"ridge": ridge}).of(queries)
    reference = linear_model.LogisticRegression(C=1 / (ridge * len(known.labels)), tol=1e-8, max_iter=1000)
    wanted = reference.fit(known.vectors, known.labels).predict_proba(queries)
    np.testing.assert_allclose(softmax(found), wanted, atol=1e-3)


@pytest.mark.parametrize("name", ["tip-f", "linear", "probe"])
def test_gradients_are_those_of_the_losses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    caught = {}

    def check(loss, start, **_):
        point = start + 0.01 * np.random.default_rng(3).standard_normal(start.shape)
        caught["error"] = optimize.check_grad(lambda x: loss(x)[0], lambda x: loss(x)[1], point, epsilon=1e-6)
        caught["size"] = np.linalg.norm(loss(point)[1])
        return optimize.OptimizeResult(x=start)

    monkeypatch.setattr(optimize, "minimize", check)
    METHODS[name].fit(support(), {"beta": 3.0, "ridge": 0.1, "alpha": 5.0})
    assert caught["error"] < 1e-4 * max(caught["size"], 1)


def test_cross_entropy_gradient() -> None:
    chance = np.random.default_rng(4)
    logits, labels = chance.standard_normal((5, 3)), chance.integers(3, size=5)
    _, gradient = cross_entropy(logits, labels)
    for row, column in np.ndindex(5, 3):
        step = np.zeros_like(logits)
        step[row, column] = 1e-6
        slope = (cross_entropy(logits + step, labels)[0] - cross_entropy(logits - step, labels)[0]) / 2e-6
        assert gradient[row, column] == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize(("each", "folds"), [(1, 0), (2, 2), (4, 4), (7, 5), (20, 5)])
def test_folds_leave_out_every_image_once(each: int, folds: int) -> None:
    labels = np.random.default_rng(5).permutation(np.repeat(np.arange(6), each))
    found = list(selection.splits(labels, 0))
    assert len(found) == folds
    for fold in found:
        seen = np.setdiff1d(np.arange(len(labels)), fold)
        assert set(labels[seen]) == set(range(6))
    if folds:
        assert sorted(np.concatenate(found)) == list(range(len(labels)))


def test_a_lonely_image_is_never_left_out() -> None:
    labels = np.array([0, 1, 1, 1, 2, 2])
    for fold in selection.splits(labels, 0):
        assert 0 not in fold


@pytest.mark.parametrize("name", METHODS)
def test_chance_is_not_beaten_where_there_is_nothing_to_learn(name: str) -> None:
    """An image that a fold has seen would be recognised by all of the caches."""
    if name in {"tip-f", "linear", "probe"}:
        pytest.importorskip("scipy")
    chance = np.random.default_rng(6)
    known = Support(unit(chance.standard_normal((80, 40))), np.repeat(np.arange(4), 20), unit(np.eye(4, 40)), SCALE)
    choice = selection.choose(known, [name])[name]
    assert choice.accuracy is not None
    assert choice.accuracy < 0.45


def test_what_helps_is_chosen_and_what_does_not_is_left() -> None:
    pytest.importorskip("scipy")
    known = support(classes=5, each=8, dim=16, noise=0.7)
    choices = selection.choose(known, selection.for_auto(known))
    best = selection.best_of(choices)
    assert best.accuracy > choices["zero-shot"].accuracy  # type: ignore[operator]
    perfect = Support(known.texts[known.labels], known.labels, known.texts, SCALE)
    assert selection.best_of(selection.choose(perfect, ["zero-shot", "gda", "tip"])).method == "zero-shot"


def test_the_parameters_that_judge_left_out_images_best_are_chosen() -> None:
    known = support(classes=5, each=8, dim=16, noise=1.5)
    folds = list(selection.splits(known.labels, 0))
    rows = np.concatenate(folds)
    found = []
    for parameters, alphas in selection.candidates("tip"):
        added = [
            METHODS["tip"].fit(known.only(np.setdiff1d(np.arange(40), fold)), parameters).of(known.vectors[fold])
            for fold in folds
        ]
        for alpha in alphas:
            logits = known.zero_shot(known.vectors[rows]) + alpha * np.concatenate(added)
            found.append((logits.argmax(axis=1) == known.labels[rows]).mean())
    assert min(found) < max(found)
    assert selection.choose(known, ["tip"])["tip"].accuracy == pytest.approx(max(found))


def choice(name: str, right: list[int]) -> selection.Choice:
    return selection.Choice(name, {"alpha": 1.0}, np.arange(len(right)), np.zeros((len(right), 2)), np.array(right) > 0)


@pytest.mark.parametrize(
    ("zero", "proker", "gda", "chosen"),
    [
        ([0] * 20, [0] * 10 + [1] * 10, [0] * 9 + [1] * 11, "proker"),  # one image more is luck
        ([0] * 20, [0] * 10 + [1] * 10, [0] * 2 + [1] * 18, "gda"),
        ([0] * 20, [0] * 10 + [1] * 10, [1] * 11 + [0] * 9, "proker"),  # nor eleven that are others than the ten
        ([0] * 5 + [1] * 15, [0] * 10 + [1] * 10, [0] * 9 + [1] * 11, "zero-shot"),
        ([0] * 10 + [1] * 10, [0] * 10 + [1] * 10, [0] * 11 + [1] * 9, "zero-shot"),  # nothing is told differently
        ([0] * 9 + [1] * 11, [0] * 10 + [1] * 10, [0] * 10 + [1] * 10, "proker"),
        ([0] * 8 + [1] * 12, [0] * 10 + [1] * 10, [0] * 10 + [1] * 10, "zero-shot"),
        ([], [], [], "proker"),
    ],
)
def test_a_method_that_is_better_by_chance_is_not_chosen(zero, proker, gda, chosen: str) -> None:
    known = {"zero-shot": zero, "gda": gda, "proker": proker}
    assert selection.best_of({name: choice(name, right) for name, right in known.items()}).method == chosen


def test_with_two_images_a_class_folds_do_not_choose_among_all() -> None:
    assert selection.for_auto(support(each=3)) == selection.ORDER
    for each in (1, 2):
        assert selection.for_auto(support(each=each)) == ("zero-shot", "proker")
        assert selection.for_auto(support(each=each), by_folds=False) == selection.ORDER
    uneven = support(each=3).only(np.arange(8))  # three images of two classes, two of the third
    assert selection.for_auto(uneven) == selection.ORDER


def test_gaussians_of_one_image_each_are_as_sharp_as_of_more() -> None:
    """What is tuned on folds with one image a class is used with two."""
    sizes = [np.abs(METHODS["gda"].fit(support(12, each, 16), {}).weight).mean() for each in (1, 2)]
    assert 1 / 3 < sizes[0] / sizes[1] < 3


def test_choosing_on_other_images_is_choosing_on_them() -> None:
    known = support(classes=5, each=4, dim=16, noise=0.8)
    other = support(classes=5, each=30, dim=16, seed=0, noise=0.8)
    found = selection.choose_on(known, other.vectors, other.labels, ["tip"])["tip"]
    residual = METHODS["tip"].fit(known, found.parameters).of(other.vectors)
    logits = known.zero_shot(other.vectors) + found.parameters["alpha"] * residual
    assert found.accuracy == pytest.approx((logits.argmax(axis=1) == other.labels).mean())


def test_temperature_makes_probabilities_right() -> None:
    chance = np.random.default_rng(7)
    logits = 2 * chance.standard_normal((4000, 5))
    labels = np.array([chance.choice(5, p=row) for row in softmax(logits)])
    assert selection.temperature(8 * logits, labels) == pytest.approx(8, rel=0.1)
    assert selection.temperature(np.empty((0, 5)), np.empty(0, dtype=int)) == 1


def test_a_few_images_that_are_all_right_are_no_proof_of_certainty() -> None:
    logits, labels = 100 * np.eye(3)[[0, 1, 2, 0]], np.array([0, 1, 2, 0])
    probabilities = softmax(logits / selection.temperature(logits, labels))
    assert probabilities.max() == pytest.approx(5 / 6, abs=1e-3)  # (n + 1) / (n + 2)
