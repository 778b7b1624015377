"""The problems against their definitions, and against solvers that see nothing but the inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from hfrnn.errors import DataError
from hfrnn.nets import cells, model, outputs
from hfrnn.toys import tasks
from hfrnn.train.devices import spread
from hfrnn.train.loss import eval_step, padded_batches, predict_batch, sum_metrics, sum_nll

N = 4000
T = 60
each = pytest.mark.parametrize('form', tasks.FORMS)
each_task = pytest.mark.parametrize('name', tasks.TASKS)
marked = pytest.mark.parametrize('name', ['addition', 'multiplication', 'xor'])


def draw(name, form, T=T, n=N, seed=0):
    task = tasks.make(name, T, form)
    return task, task.draw(np.random.default_rng(seed), n)


# -- solvers: one sequence of inputs -> the answers {step: answer} ----------------------------------------------------


def solve_marked(combine):
    def solve(xs, form):
        a, b = xs[xs[:, 1] == 1, 0]
        answer = combine(a, b, form)
        return dict.fromkeys(range(np.flatnonzero(xs[:, 1] == 1)[-1], len(xs)), answer)

    return solve


def solve_order(xs, form):
    bits = xs[xs < 2]
    return {len(xs) - 1: int(''.join(map(str, bits)), 2)}


def solve_memorisation(n, nothing):
    def solve(xs, form):
        at = int(np.flatnonzero(xs == nothing + 1)[0])
        return {t: nothing if t <= at else xs[t - at - 1] for t in range(len(xs))}

    return solve


SOLVERS = {
    'addition': solve_marked(lambda a, b, form: (a + b) / (2 if form == 'thesis' else 1)),
    'multiplication': solve_marked(lambda a, b, form: a * b),
    'xor': solve_marked(lambda a, b, form: a + b == 1),
    'temporal_order_2': solve_order,
    'temporal_order_3': solve_order,
    'permutation': lambda xs, form: {len(xs) - 1: xs[0]},
    'memorisation_5': solve_memorisation(5, 2),
    'memorisation_20': solve_memorisation(10, 5),
}


def solved_z(task, name, xs, form):
    """(B, steps, size) what a net that had the solver's answers would put out."""
    z = np.zeros((*xs.shape[:2], task.output.size))
    for row, x in enumerate(xs):
        for t, answer in SOLVERS[name](x, form).items():
            if task.output.size > 1:
                z[row, t, answer] = 1
            else:
                z[row, t, 0] = (2 * answer - 1) if name == 'xor' else answer
    return z


@each
@each_task
@pytest.mark.parametrize('T', [23, 60])
def test_a_solver_that_sees_the_inputs_alone_scores_100_per_cent(name, form, T):
    task, batch = draw(name, form, T, n=500)
    z = solved_z(task, name, batch.xs, form)
    assert not task.wrong(z, batch).any()
    assert not np.asarray(task.wrong(jnp.asarray(z), batch)).any()
    assert task.wrong(-z - 0.1, batch).mean() > 0.9


@each
@each_task
def test_batches_are_what_training_wants(name, form):
    task, batch = draw(name, form)
    vectors = batch.xs.ndim == 3
    assert batch.xs.shape == ((N, task.steps, 2) if vectors else (N, task.steps))
    assert batch.targets.shape == ((N, task.steps, 1) if vectors else (N, task.steps))
    assert batch.weights.shape == (N, task.steps)
    assert {leaf.dtype for leaf in batch} <= {np.dtype(np.float32), np.dtype(np.int32)}
    if not vectors:
        assert set(np.unique(batch.xs)) <= set(range(task.inputs))
        assert set(np.unique(batch.targets)) <= set(range(task.output.size))
    assert task.output.nll(np.zeros(task.output.size), batch.targets[0, 0]).shape == ()
    again = draw(name, form)[1]
    jax.tree.map(assert_array_equal, batch, again)
    exhaustive = (name, form) == ('memorisation_5', 'release')
    assert exhaustive or (batch.xs != draw(name, form, seed=1)[1].xs).any()


def chance(values, low, high):
    """Whether values are i[low, high]: all of them, none beside, each as often, within 6 standard deviations."""
    found = np.bincount(values, minlength=high + 1)
    p = 1 / (high - low + 1)
    assert set(np.flatnonzero(found)) == set(range(low, high + 1))
    assert (np.abs(found[low:] - N * p) < 6 * np.sqrt(N * p * (1 - p)) + 1).all()


@marked
def test_marks_of_the_thesis(name):
    T = 100
    _, batch = draw(name, 'thesis', T)
    length = 1 + batch.weights.argmax(1)
    assert_array_equal(batch.weights.sum(1), 1)
    chance(length, T, 110)
    marks = np.argsort(-batch.xs[..., 1], kind='stable')[:, :2] + 1
    I, J = marks.T
    assert_array_equal(batch.xs[..., 1].sum(1), 2)
    assert (batch.xs[np.arange(N), I - 1, 1] == 1).all()
    assert (I >= 1).all()
    assert (length // 10 >= I).all()
    assert (length // 10 <= J).all()
    assert (length // 2 >= J).all()
    assert_allclose(I.mean(), 5.5, atol=0.3)
    assert_allclose(J.mean(), (10 + 52.5) / 2, atol=0.8)
    for row in range(50):
        assert (batch.xs[row, length[row] :] == 0).all()
    inside = np.arange(batch.xs.shape[1]) < length[:, None]
    numbers = batch.xs[..., 0][inside]
    assert_allclose(numbers.mean(), 0.5, atol=0.005)
    assert set(np.unique(numbers)) == {0, 1} if name == 'xor' else numbers.std() == pytest.approx(12**-0.5, abs=0.005)


@marked
def test_marks_of_the_release(name):
    T = 200
    task, batch = draw(name, 'release', T)
    length = 1 + batch.weights.argmax(1)
    places = np.array([np.flatnonzero(row) for row in batch.xs[..., 1]])
    assert_array_equal(places[:, 0], 0)
    assert_array_equal(places[:, 3], length - 1 - 3)
    values = np.take_along_axis(batch.xs[..., 1], places, 1)
    assert_array_equal(values, np.broadcast_to([-1, 1, 1, -1], (N, 4)))
    chance(length, *((100, 110) if name == 'xor' else (200, 220)))
    chance(places[:, 1], 2, 20)
    low, high = (30, 50) if name == 'xor' else (20, 100)
    assert (places[:, 2].min(), places[:, 2].max()) == (low, high)
    assert task.steps == (110 if name == 'xor' else 220)


@pytest.mark.parametrize(
    'name, form, windows',
    [
        ('temporal_order_2', 'thesis', [(10, 20), (50, 60)]),
        ('temporal_order_3', 'thesis', [(10, 20), (30, 40), (60, 70)]),
        ('temporal_order_2', 'release', [(1, 10), (40, 50)]),
        ('temporal_order_3', 'release', [(1, 10), (30, 40), (50, 60)]),
    ],
)
def test_special_symbols_stand_in_their_windows(name, form, windows):
    task, batch = draw(name, form, 100)
    places = np.array([np.flatnonzero(row < 2) + 1 for row in batch.xs])
    assert places.shape == (N, len(windows))
    for at, window in zip(places.T, windows, strict=True):
        chance(at, *window)
    chance(batch.targets[:, -1], 0, 2 ** len(windows) - 1)
    assert_array_equal(np.unique(batch.xs), np.arange(6 if form == 'thesis' else 8))
    assert_array_equal(batch.weights.sum(0), N * (np.arange(100) == 99))
    assert (task.inputs, task.steps) == (6 if form == 'thesis' else 8, 100)


def test_permutation():
    task, batch = draw('permutation', 'thesis', 30)
    assert_array_equal(batch.xs[:, 1:], batch.targets[:, :-1])
    assert_array_equal(batch.xs[:, 0], batch.targets[:, -1])
    chance(batch.xs[:, 0], 0, 1)
    chance(batch.xs[:, 7], 2, 99)
    assert (batch.weights == 1).all()
    z = np.zeros((N, 30, 100))
    z[np.arange(N), -1, batch.xs[:, 0]] = 1
    assert not task.wrong(z, batch).any()  # what cannot be known is not judged


@pytest.mark.parametrize('name, n, V', [('memorisation_5', 5, 2), ('memorisation_20', 10, 5)])
def test_memorisation(name, n, V):
    for form, steps in (('thesis', T + 2 * n), ('release', T)):
        task, batch = draw(name, form)
        assert batch.xs.shape == (N, steps)
        assert (batch.xs[:, :n] < V).all()
        assert (batch.xs[:, n:-n] == [V] * (steps - 2 * n - 1) + [V + 1]).all()
        assert (batch.xs[:, -n:] == V).all()
        assert (batch.targets[:, :-n] == V).all()
        assert_array_equal(batch.targets[:, -n:], batch.xs[:, :n])
        assert (batch.weights == 1).all()
        assert (task.inputs, task.output.size) == (V + 2, V + 1)
        z = solved_z(task, name, batch.xs[:100], form)
        some = jax.tree.map(lambda leaf: leaf[:100], batch)
        z[:, 3] = 0
        z[:, 3, 0] = 1  # a blank step is judged like any other
        assert task.wrong(z, some).all()
    if name == 'memorisation_5':
        _, batch = draw(name, 'release', n=64)
        assert len(np.unique(batch.xs[:32], axis=0)) == 32
        assert_array_equal(batch.xs[:32], batch.xs[32:])


@pytest.mark.parametrize(
    'name, constant, share',
    [
        ('addition', 0.5, 0.92**2),  # (u + v) / 2 has a triangular density
        (
            'multiplication',
            0.25,
            1 - (0.29 * (1 - np.log(0.29)) - 0.21 * (1 - np.log(0.21))),
        ),  # P(uv < c) = c - c log c
        ('xor', 1.0, 1 / 2),
        ('temporal_order_2', 0, 3 / 4),
        ('temporal_order_3', 0, 7 / 8),
        ('permutation', 0, 1 / 2),
        ('memorisation_5', 0, 31 / 32),
    ],
)
def test_the_share_that_a_constant_answer_has_wrong(name, constant, share):
    task, batch = draw(name, 'thesis')
    z = np.zeros((N, task.steps, task.output.size))
    if task.output.size == 1:
        z += constant
    else:
        z[..., constant] = 1
    if name == 'memorisation_5':
        z[:, :-5, 2] = 2
    assert_allclose(task.wrong(z, batch).mean(), share, atol=0.03)


def test_wrong_is_more_than_4_hundredths_and_never_right_if_not_a_number():
    task, batch = draw('addition', 'thesis', n=5)
    z = batch.targets.astype(float) + np.array([0.039, -0.039, 0.041, -0.041, np.nan])[:, None, None]
    assert_array_equal(task.wrong(z, batch), [False, False, True, True, True])


@pytest.mark.parametrize(
    'name, T, form, said',
    [
        ('addition', 9, 'thesis', 'T of 10'),
        ('xor', 19, 'release', 'T of 20'),
        ('temporal_order_2', 9, 'thesis', 'T of 10'),
        ('permutation', 1, 'thesis', 'T of 2'),
        ('memorisation_5', 0, 'thesis', 'T of 1'),
        ('memorisation_20', 20, 'release', 'T of 21'),
        ('chess', 30, 'thesis', 'no task'),
        ('xor', 30, 'verse', 'form'),
    ],
)
def test_what_cannot_be_made_is_refused(name, T, form, said):
    with pytest.raises(DataError, match=said):
        tasks.make(name, T, form)


@each_task
def test_the_shortest_lags_can_be_drawn(name):
    for form, T in (('thesis', 10), ('release', 22)):
        _, batch = draw(name, form, T, n=200)
        if name in ('addition', 'multiplication', 'xor'):
            assert_array_equal((batch.xs[..., 1] == 1).sum(1), 2)


@pytest.mark.four_devices
def test_wrong_sequences_are_counted_once_however_they_are_cut():
    task, batch = draw('permutation', 'thesis', 5, n=20)
    net = model.sequence_model(cells.rnn(task.inputs, 4), task.output)
    params = net.init(jax.random.key(0))
    step = spread(eval_step(net, wrong=tasks.wrong_sequences(task.wrong)), 2)
    found = sum_metrics(step, params, padded_batches(batch, 8))  # the last 8 are half padding
    z = predict_batch(net, params, batch).z
    expected = {'targets': 100, 'sequences': 20, 'wrong': int(task.wrong(z, batch).sum())}
    assert found == pytest.approx(expected | {'nats': float(sum_nll(net, z, batch))}, rel=1e-5)


# -- their outputs ----------------------------------------------------------------------------------------------------


def test_output_layers_are_what_they_say(x64):
    """Against the densities themselves; the Hessians in z are the identity and p (1 - p)."""
    z, t = jnp.array([0.3, -2.0, 40.0]), jnp.array([1.0, 0.0, 1.0])
    gaussian, bernoulli = outputs.gaussian(3), outputs.bernoulli(3)
    constant = 1.5 * np.log(2 * np.pi)
    assert_allclose(gaussian.nll(z, t) + constant, -jax.scipy.stats.norm.logpdf(t, z).sum())
    p = jax.nn.sigmoid(z)
    assert_allclose(bernoulli.nll(z, t), -np.log([p[0], 1 - p[1], p[2]]).sum(), rtol=1e-12)
    assert_allclose(jax.hessian(gaussian.nll)(z, t), np.eye(3))
    assert_allclose(jax.hessian(bernoulli.nll)(z, t), np.diag(p * (1 - p)), atol=1e-15)
    keys = jax.random.split(jax.random.key(0), 20_000)
    drawn = jax.vmap(gaussian.sample, (0, None))(keys, z)
    assert_allclose(drawn.mean(0), z, atol=0.03)
    assert_allclose(jnp.cov(drawn.T), np.eye(3), atol=0.04)
    assert_allclose(jax.vmap(bernoulli.sample, (0, None))(keys, z).mean(0), p, atol=0.015)
