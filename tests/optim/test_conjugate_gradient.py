import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from hfrnn.optim.conjugate_gradient import (
    conjugate_gradient,
    geometric_grid,
    progress_since_start,
    regular_grid,
    relative_progress,
)

N = 12


def system(n=N, condition=100.0):
    rng = np.random.default_rng(0)
    Q, _ = np.linalg.qr(rng.normal(size=(n, n)))
    A = jnp.asarray(Q * np.geomspace(1, condition, n) @ Q.T)
    return A, jnp.asarray(rng.normal(size=n)), jnp.asarray(rng.normal(size=n))


def textbook(A, b, x, steps, M=None):
    """Preconditioned conjugate gradient as a loop, Nocedal & Wright algorithm 5.3."""
    M = np.eye(len(b)) if M is None else M
    r = A @ x - b
    y = np.linalg.solve(M, r)
    p, xs = -y, []
    for _ in range(steps):
        alpha = r @ y / (p @ A @ p)
        x = x + alpha * p
        r_new = r + alpha * A @ p
        y_new = np.linalg.solve(M, r_new)
        p = -y_new + (r_new @ y_new) / (r @ y) * p
        r, y = r_new, y_new
        xs.append(x)
    return xs


def test_it_solves(x64):
    A, b, x0 = system()
    found = conjugate_gradient(lambda v: A @ v, b, x0, max_iterations=60, tolerance=0.0)
    assert_allclose(found.x, np.linalg.solve(A, b), rtol=1e-8)


def test_a_pytree_is_its_vector(x64):
    A, b, x0 = system()

    def split(v):
        return {'a': v[:5].reshape(5, 1), 'b': (v[5:6].reshape(()), v[6:])}

    def join(t):
        return jnp.concatenate([t['a'].ravel(), t['b'][0][None], t['b'][1]])

    found = conjugate_gradient(lambda t: split(A @ join(t)), split(b), split(x0), max_iterations=4)
    assert_allclose(join(found.x), textbook(A, b, x0, 4)[-1], rtol=1e-9)


@pytest.mark.parametrize('steps', [1, 3])
@pytest.mark.parametrize('preconditioned', [False, True])
def test_it_is_the_textbook(steps, preconditioned, x64):
    A, b, x0 = system()
    m = jnp.asarray(np.random.default_rng(1).uniform(1, 9, N)) if preconditioned else jnp.ones(N)
    found = conjugate_gradient(lambda v: A @ v, b, x0, precondition=lambda r: r / m, max_iterations=steps)
    assert found.iterations == steps
    assert_allclose(found.x, textbook(A, b, x0, steps, np.diag(m))[-1], rtol=1e-10)


def test_phi_is_the_quadratic(x64):
    A, b, x0 = system()
    for steps in (1, 2, 7):
        found = conjugate_gradient(lambda v: A @ v, b, x0, max_iterations=steps)
        assert_allclose(found.phi, 0.5 * found.x @ A @ found.x - b @ found.x, rtol=1e-10)


@pytest.mark.parametrize('steps', [1, 4, 5, 6, 9])
def test_saved_iterates_are_those_of_the_grid_and_the_last(steps, x64):
    A, b, x0 = system()
    grid = (2, 5, 8)
    found = conjugate_gradient(lambda v: A @ v, b, x0, max_iterations=steps, tolerance=0.0, grid=grid)
    wanted = sorted({*(i for i in grid if i <= steps), steps})
    path = textbook(A, b, x0, steps)
    assert found.last == len(wanted) - 1
    for j, i in enumerate(wanted):
        assert_allclose(found.saved[j], path[i - 1], rtol=1e-7)
    assert_allclose(found.saved[found.last], found.x)


@pytest.mark.parametrize('stop', [relative_progress, progress_since_start])
def test_the_stop_is_where_the_rule_says(stop, x64):
    """The rule, by hand, on the values of phi along the textbook's path."""
    A, b, x0 = system(n=100, condition=1e3)
    tolerance = 1e-3 if stop is relative_progress else 1e-2  # few enough steps that rounding plays no part
    x0 = 0.1 * x0
    phis = [0.5 * x @ A @ x - b @ x for x in [x0, *textbook(A, b, x0, 80)]]
    for i in range(1, 80):
        k = max(10, int(np.ceil(0.1 * i)))
        if i > k and stop is relative_progress and phis[i] < 0 and (phis[i] - phis[i - k]) / phis[i] < k * tolerance:
            break
        if i > k and stop is progress_since_start and (phis[i - k] - phis[i]) / (phis[0] - phis[i]) < tolerance:
            break
    found = conjugate_gradient(lambda v: A @ v, b, x0, max_iterations=80, tolerance=tolerance, stop=stop)
    assert 10 < found.iterations == i < 79


def test_a_direction_of_no_curvature_ends_it(x64):
    A = jnp.diag(jnp.asarray([1.0, 2.0, -1.0]))
    found = conjugate_gradient(lambda v: A @ v, jnp.ones(3), jnp.zeros(3), max_iterations=9, grid=(1, 2))
    assert jnp.isfinite(found.x).all()
    assert found.iterations < 3
    nothing = conjugate_gradient(lambda v: v * jnp.nan, jnp.ones(3), jnp.zeros(3), max_iterations=9)
    assert nothing.iterations == 0
    assert (nothing.x == 0).all()


def test_a_start_that_is_the_solution_stays(x64):
    A, b, _ = system()
    x = jnp.linalg.solve(A, b)
    found = conjugate_gradient(lambda v: A @ v, A @ x, x, max_iterations=9)
    assert_allclose(found.x, x, rtol=1e-9)
    assert_allclose(found.saved[found.last], x, rtol=1e-9)


def test_grids():
    assert geometric_grid(200) == (5, 7, 9, 11, 15, 19, 25, 32, 41, 54, 69, 90, 117, 152, 197)
    assert geometric_grid(10, first=1.0) == (1, 2, 3, 4, 5, 7, 9)
    assert regular_grid(35) == (10, 20, 30)


def test_it_runs_inside_jit_and_vmap(x64):
    A, b, x0 = system()

    @jax.jit
    @jax.vmap
    def solve(b):
        return conjugate_gradient(lambda v: A @ v, b, x0, max_iterations=60, tolerance=0.0).x

    bs = jnp.stack([b, 2 * b])
    assert_allclose(solve(bs), np.linalg.solve(A, bs.T).T, rtol=1e-7)
