import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.testing import assert_allclose

from hfrnn.optim import hessian_free
from hfrnn.optim.conjugate_gradient import (
    conjugate_gradient,
    geometric_grid,
    progress_since_start,
    regular_grid,
    relative_progress,
)
from hfrnn.optim.curvature import gauss_newton
from hfrnn.optim.line_search import armijo, best_iterate, first_decrease, last_iterate, walk_back


def quadratic(seed=0, n=6):
    """f(x) = 1/2 x'Ax - b'x, its curvature product, and its minimum."""
    rng = np.random.default_rng(seed)
    R = rng.normal(size=(n, n))
    A, b = jnp.asarray(R @ R.T + np.eye(n)), jnp.asarray(rng.normal(size=n))
    return lambda x: 0.5 * x @ A @ x - b @ x, lambda v, lam: A @ v + lam * v, jnp.linalg.solve(A, b)


def one_step(optimizer, f, curvature, x, state=None, **extra):
    state = optimizer.init(x) if state is None else state
    return optimizer.update(jax.grad(f)(x), state, x, curvature=curvature, value_fn=f, **extra)


@pytest.mark.parametrize(
    'rho, factor',
    [
        (-np.inf, 3 / 2),
        (-1, 3 / 2),
        (0.2499, 3 / 2),
        (0.25, 1),
        (0.5, 1),
        (0.75, 1),
        (0.7501, 2 / 3),
        (np.inf, 2 / 3),
        (np.nan, 3 / 2),
    ],
)
def test_the_damping_rule(rho, factor):
    assert_allclose(hessian_free.update_damping(jnp.array(12.0), jnp.array(rho)), 12.0 * factor, rtol=1e-6)


def test_damping_always_finds_its_way_back():
    for rho, back in ((1.0, 0.0), (0.0, 1.0)):
        damping = jnp.float32(1.0)
        for _ in range(300):
            damping = hessian_free.update_damping(damping, jnp.float32(rho))
        assert 0 < damping < jnp.inf
        assert hessian_free.update_damping(damping, jnp.float32(back)) != damping
    assert hessian_free.update_damping(jnp.float32(0), jnp.float32(0)) == 0  # none is none


@pytest.mark.parametrize('preset', hessian_free.PRESETS.values(), ids=hessian_free.PRESETS)
def test_a_quadratic_is_solved_in_one_step(preset, x64):
    f, curvature, solution = quadratic()
    optimizer = preset(1e-12, tolerance=0.0)
    updates, state = one_step(optimizer, f, curvature, jnp.ones(6))
    assert_allclose(1.0 + updates, solution, rtol=1e-6)
    assert_allclose(state.rho, 1.0, rtol=1e-6)
    assert_allclose(state.damping, 2e-12 / 3)
    assert state.step_size == 1
    assert_allclose(state.reduction, f(jnp.ones(6)) - f(solution), rtol=1e-9)


def test_damping_shortens_the_step_as_it_says(x64):
    f, curvature, _ = quadratic()
    x, lam = jnp.ones(6), 3.0
    updates, _ = one_step(hessian_free.hessian_free(lam, tolerance=0.0), f, curvature, x)
    A = jax.hessian(f)(x)
    assert_allclose(updates, -jnp.linalg.solve(A + lam * jnp.eye(6), jax.grad(f)(x)), rtol=1e-6)


def test_rho_with_and_without_damping_and_from_the_start(x64):
    f, curvature, _ = quadratic()
    x, lam = jnp.ones(6), 3.0
    g, A = jax.grad(f)(x), jax.hessian(f)(x)

    def rho(state=None, **choices):
        optimizer = hessian_free.hessian_free(lam, tolerance=0.0, **choices)
        state = optimizer.init(x)._replace(start=jnp.full(6, 0.1))
        return one_step(optimizer, f, curvature, x, state)

    d, undamped = rho()
    assert_allclose(undamped.rho, 1.0, rtol=1e-9)  # the model without damping is f itself
    _, damped = rho(rho_damped=True)
    assert_allclose(damped.rho, (f(x + d) - f(x)) / (g @ d + 0.5 * d @ (A @ d + lam * d)), rtol=1e-9)
    _, origin = rho(rho_damped=True, rho_from_start=True)

    def q(d):
        return g @ d + 0.5 * d @ (A @ d + lam * d)

    s = jnp.full(6, 0.095)
    assert_allclose(origin.rho, (f(x + d) - f(x + s)) / (q(d) - q(s)), rtol=1e-9)


@pytest.mark.parametrize('preset', hessian_free.PRESETS.values(), ids=hessian_free.PRESETS)
@pytest.mark.parametrize('wrong', [lambda f: -f, lambda f: f + jnp.nan], ids=['uphill', 'nan'])
def test_a_rejected_step_changes_nothing_and_says_so(preset, wrong, x64):
    f, curvature, _ = quadratic()
    x = jnp.ones(6)
    optimizer = preset(2.0)
    state = optimizer.init(x)
    updates, new = optimizer.update(
        jax.grad(f)(x),
        state,
        x,
        curvature=curvature,
        value_fn=lambda y: jnp.where((y == x).all(), f(x), wrong(f(y)) + 99),
    )
    assert (updates == 0).all()
    assert new.step_size == 0
    assert new.reduction == 0
    assert new.step == 1
    assert_allclose(new.damping, 3.0)
    assert (new.start == 0).all()


@pytest.mark.parametrize('preset', hessian_free.PRESETS.values(), ids=hessian_free.PRESETS)
def test_a_step_whose_curvature_is_not_finite_is_rejected(preset, x64):
    """Also where the last solution, from which CG sets out, would do."""
    f, curvature, _ = quadratic()
    x = jnp.ones(6)
    optimizer = preset(2.0)
    updates, state = optimizer.update(jax.grad(f)(x), optimizer.init(x), x, curvature=curvature, value_fn=f)
    assert state.step_size > 0 and (state.start != 0).any()
    x = x + 0.1 * updates
    updates, state = optimizer.update(
        jax.grad(f)(x), state, x, curvature=lambda v, lam: curvature(v, lam) * jnp.nan, value_fn=f
    )
    assert (updates == 0).all() and (state.start == 0).all()
    assert state.step_size == 0 == state.reduction


@functools.cache
def first_iterates():
    """Those of CG on ``quadratic`` after 1 to 4 iterations."""
    f, curvature, _ = quadratic()
    alone = [
        hessian_free.hessian_free(
            1.0, backtrack=last_iterate, tolerance=0.0, cg_iterations=n, grid=lambda n: (1, 2, 3, 4)
        )
        for n in (1, 2, 3, 4)
    ]
    return [np.asarray(one_step(optimizer, f, curvature, jnp.zeros(6))[0]) for optimizer in alone]


def bumpy(iterates, merits):
    """An objective that has the given values at the iterates of CG (theta = 0), and grows away from all."""

    def value(x):
        distance = jnp.stack([jnp.abs(x - i).max() for i in iterates])
        return jnp.asarray(merits)[jnp.argmin(distance)] + 0.0 * x.sum()

    return value


@pytest.mark.parametrize(
    'how, merits, chosen',
    [
        (last_iterate, [5.0, 1.0, 3.0, 2.0], 3),
        (walk_back, [5.0, 1.0, 3.0, 2.0], 3),
        (walk_back, [5.0, 1.0, 2.0, 3.0], 1),
        (walk_back, [0.0, 9.0, 2.0, 3.0], 2),
        (walk_back, [0.0, 1.0, 2.0, 3.0], 0),
        (walk_back, [0.0, 1.0, 2.0, np.nan], 0),
        (walk_back, [np.nan, 1.0, 2.0, 3.0], 1),
        (best_iterate, [5.0, 1.0, 3.0, 2.0], 1),
        (best_iterate, [0.0, 9.0, 2.0, 3.0], 0),
        (best_iterate, [4.0, 9.0, 2.0, np.nan], 2),
    ],
)
def test_backtracking(how, merits, chosen, x64):
    f, curvature, _ = quadratic()
    iterates = first_iterates()
    optimizer = hessian_free.hessian_free(
        1.0, backtrack=how, tolerance=0.0, cg_iterations=4, grid=lambda n: (1, 2, 3, 4)
    )
    updates, state = one_step(optimizer, f, curvature, jnp.zeros(6), backtrack_fn=bumpy(iterates, merits))
    assert_allclose(updates, iterates[chosen], rtol=1e-7)
    assert state.backtracked == 3 - chosen
    assert_allclose(state.start, iterates[3], rtol=1e-7)  # the next CG run starts from the last iterate all the same


def test_the_model_on_another_batch_judges(x64):
    """With the curvature that CG had the last iterate is the best; with a much larger one, an earlier is."""
    f, curvature, _ = quadratic()
    choices = {
        'tolerance': 0.0,
        'cg_iterations': 4,
        'grid': lambda n: (1, 2, 3, 4),
        'backtrack': best_iterate,
        'judge_by_model': True,
    }
    x = jnp.zeros(6)
    _, same = one_step(hessian_free.hessian_free(0.1, **choices), f, curvature, x)
    _, other = one_step(
        hessian_free.hessian_free(0.1, **choices),
        f,
        curvature,
        x,
        backtrack_curvature=lambda v, lam: 50 * curvature(v, lam),
    )
    assert same.backtracked == 0
    assert other.backtracked == 3


@pytest.mark.parametrize('how, alpha', [(armijo, 0.8**4), (first_decrease, 0.8**3)])
def test_line_searches(how, alpha, x64):
    """Along d, the objective falls by a hair at 0.8^3 and by enough at 0.8^4."""
    f, curvature, _ = quadratic()
    x = jnp.zeros(6)
    d, _ = one_step(hessian_free.hessian_free(1.0, backtrack=last_iterate), f, curvature, x)
    slope = jax.grad(f)(x) @ d

    def objective(y):
        a = (y @ d) / (d @ d)
        fall = jnp.where(jnp.isclose(a, 0.8**3), 0.005, 0.02) * 0.5 * slope
        return jnp.where(a < 0.8**2 - 1e-9, fall * (a > 0), 1.0)

    updates, state = one_step(
        hessian_free.hessian_free(1.0, backtrack=last_iterate, line_search=how),
        f,
        curvature,
        x,
        line_search_fn=objective,
    )
    assert_allclose(state.step_size, alpha)
    assert_allclose(updates, alpha * d, rtol=1e-9)


@pytest.mark.parametrize('warm', [False, True])
def test_squared_gradients_that_are_not_finite_are_rejected(warm):
    f, curvature, _ = quadratic()
    optimizer, x = hessian_free.martens2010(1.0), jnp.ones(6, jnp.float32)
    state = optimizer.init(x)._replace(start=jnp.full(6, 0.1 * warm, jnp.float32))
    updates, new = one_step(optimizer, f, curvature, x, state, squared_gradients=jnp.full(6, jnp.inf))
    assert new.step_size == 0 and new.reduction == 0
    assert not updates.any() and not new.start.any()


def test_start_decays_by_a_number_or_a_schedule(x64):
    f, curvature, solution = quadratic()
    x = jnp.zeros(6)
    for decay, step, factor in ((0.5, 3, 0.5), (lambda step: 0.5 + 0.1 * step, 3, 0.8)):
        optimizer = hessian_free.hessian_free(1e-12, start_decay=decay, cg_iterations=1, backtrack=last_iterate)
        state = optimizer.init(x)._replace(start=solution / factor, step=jnp.array(step, jnp.int32))
        updates, new = one_step(optimizer, f, curvature, x, state)  # it starts at the solution, and stays
        assert_allclose(updates, solution, rtol=1e-6)
        assert_allclose(new.start, solution, rtol=1e-6)


def test_preconditioner_is_martens(x64):
    """One preconditioned CG iteration from zero goes along (s + lambda)^-3/4 * -g."""
    f, curvature, _ = quadratic()
    x, lam, s = jnp.ones(6), 0.4, jnp.arange(1.0, 7.0)
    optimizer = hessian_free.hessian_free(lam, cg_iterations=1, backtrack=last_iterate)
    updates, _ = one_step(optimizer, f, curvature, x, squared_gradients=s)
    direction = -jax.grad(f)(x) * (s + lam) ** -0.75
    assert_allclose(updates / updates[0], direction / direction[0], rtol=1e-9)


def test_presets_differ_where_the_papers_do():
    """M10c, S11c and MS12, as hessian_free.py cites them; hessian_free's defaults are those of martens2010."""
    seen = {}
    original = hessian_free.hessian_free
    try:
        for name, preset in hessian_free.PRESETS.items():
            hessian_free.hessian_free = lambda damping, **kw: kw | {'damping': damping}
            chosen = preset()
            defaults = {k: p.default for k, p in inspect.signature(original).parameters.items()}
            seen[name] = defaults | chosen
    finally:
        hessian_free.hessian_free = original
    a, b, c = (seen[n] for n in ('martens2010', 'sutskever2011', 'martens_sutskever2012'))
    assert (a['damping'], a['cg_iterations'], b['damping'], b['cg_iterations']) == (45, 250, 10, 150)
    for name, choices in (
        ('stop', (relative_progress, relative_progress, progress_since_start)),
        ('grid', (geometric_grid, regular_grid, geometric_grid)),
        ('backtrack', (walk_back, best_iterate, walk_back)),
        ('judge_by_model', (False, False, False)),
        ('rho_damped', (False, True, True)),
        ('rho_from_start', (False, False, True)),
        ('line_search', (armijo, first_decrease, armijo)),
    ):
        assert (a[name], b[name], c[name]) == choices
    assert regular_grid(150) == tuple(range(10, 151, 10))


@pytest.mark.parametrize('name', ['stop', 'grid', 'backtrack', 'line_search'])
def test_a_choice_that_is_no_function_is_refused_by_name(name):
    with pytest.raises(TypeError, match=f"{name} is a function, such as .*, not 'armijo'"):
        hessian_free.hessian_free(**{name: 'armijo'})


@pytest.mark.parametrize('preset', hessian_free.PRESETS.values(), ids=hessian_free.PRESETS)
def test_how_many_iterates_a_preset_keeps(preset, monkeypatch):
    """As many as CG has room for."""
    room = []

    def spy(*args, **kwargs):
        cg = conjugate_gradient(*args, **kwargs)
        room.append(cg.saved.shape[0])
        return cg

    monkeypatch.setattr(hessian_free, 'conjugate_gradient', spy)
    f, curvature, _ = quadratic()
    for cg_iterations in (3, 60):
        one_step(preset(1.0, cg_iterations), f, curvature, jnp.ones(6))
        assert room.pop() == hessian_free.saved_iterates(preset, cg_iterations)
    assert hessian_free.saved_iterates(preset) == 16


def test_what_is_missing_is_named():
    optimizer = hessian_free.hessian_free()
    f, curvature, _ = quadratic(n=2)
    x = jnp.ones(2)
    state = optimizer.init(x)
    for given, said in (
        ({}, 'needs params, curvature, value_fn in'),
        ({'params': x}, 'needs curvature, value_fn in'),
        ({'params': x, 'curvature': curvature}, 'needs value_fn in'),
        ({'params': x, 'value_fn': f}, 'needs curvature in'),
    ):
        with pytest.raises(ValueError, match=said):
            optimizer.update(x, state, **given)


def test_what_has_another_shape_is_named():
    optimizer = hessian_free.hessian_free()
    f, curvature, _ = quadratic(n=2)
    x = jnp.ones(2)
    given = {'curvature': curvature, 'value_fn': f}
    for grads, changed, said in (
        (jnp.ones(3), {}, r'the gradient is not of the structure and shapes of params: \[\(3,\)\], not \[\(2,\)\]'),
        ((x, x), {}, 'the gradient is not'),
        (x, {'curvature': lambda v, lam: (v, v)}, 'a product of curvature is not'),
        (x, {'value_fn': lambda y: y}, r'value_fn gives shape \(2,\), not a scalar'),
        (x, {'backtrack_fn': lambda y: y}, 'backtrack_fn gives shape'),
        (x, {'line_search_fn': lambda y: y}, 'line_search_fn gives shape'),
        (x, {'line_search_fn': f, 'line_search_value': x}, 'line_search_value gives shape'),
        (x, {'squared_gradients': jnp.ones((3, 2))}, 'squared_gradients is not'),
    ):
        with pytest.raises(ValueError, match=said):
            optimizer.update(grads, optimizer.init(x), x, **given | changed)


def test_params_that_cannot_be_moved_are_named():
    with pytest.raises(TypeError, match=r"params\['n'\] is int32"):
        hessian_free.hessian_free().init({'n': jnp.arange(3), 'x': jnp.ones(2)})
    with pytest.raises(TypeError, match=r"params\['key'\] is key"):
        hessian_free.hessian_free().init({'key': jax.random.key(0), 'x': jnp.ones(2)})
    with pytest.raises(TypeError, match=r"params\['x'\] is bfloat16.* 32 bits"):
        hessian_free.hessian_free().init({'x': jnp.ones(2, jnp.bfloat16)})
    with pytest.raises(ValueError, match='no leaves'):
        hessian_free.hessian_free().init({})


def test_params_are_of_one_type(x64):
    with pytest.raises(TypeError, match=r"params\['y'\] is float64 where others are float32"):
        hessian_free.hessian_free().init({'x': jnp.ones(2, jnp.float32), 'y': jnp.ones(2, jnp.float64)})


@pytest.mark.parametrize(
    'name, dtype', [*((name, jnp.float64) for name in hessian_free.PRESETS), ('martens2010', jnp.bfloat16)]
)
def test_data_may_be_of_another_type_than_params(name, dtype, x64):
    preset = hessian_free.PRESETS[name]
    xs, ys = (jnp.asarray(np.random.default_rng(i).normal(size=(5, 3)), dtype) for i in range(2))
    params, optimizer = {'W': jnp.zeros((3, 3), jnp.float32)}, preset(1.0)

    def predict(params):
        return xs @ params['W'].astype(dtype)

    def loss(z):
        return 0.5 * jnp.sum((z - ys) ** 2)

    def step(carry, _):
        params, state = carry
        curvature = gauss_newton(predict, loss, params)
        grads = jax.grad(lambda p: loss(predict(p)))(params)
        updates, state = optimizer.update(
            grads, state, params, curvature=curvature, value_fn=lambda p: loss(predict(p))
        )
        return (optax.apply_updates(params, updates), state), state.reduction

    (params, state), reduction = jax.lax.scan(step, (params, optimizer.init(params)), None, 2)
    assert params['W'].dtype == state.step_size.dtype == state.rho.dtype == jnp.float32
    assert reduction[0] > 0


@pytest.mark.parametrize('preset', hessian_free.PRESETS.values(), ids=hessian_free.PRESETS)
def test_a_step_to_nowhere_is_no_step(preset, x64):
    """CG takes no iteration where the first curvature is negative, as at a maximum."""
    updates, state = one_step(preset(0.5), lambda x: -0.5 * x @ x, lambda v, lam: -v + lam * v, jnp.ones(3))
    assert (updates == 0).all() and state.step_size == 0 and state.damping == 0.75


def test_from_a_start_that_is_infinitely_bad_nothing_is_learnt_of_the_model(x64):
    f, curvature, _ = quadratic()
    x = jnp.ones(6)
    optimizer = hessian_free.martens_sutskever2012(2.0)
    state = optimizer.init(x)._replace(start=jnp.full(6, 1e3))
    _, state = one_step(optimizer, lambda y: jnp.where(jnp.abs(y).max() > 500, jnp.inf, f(y)), curvature, x, state)
    assert jnp.isnan(state.rho) and state.damping == 3.0


def test_it_chains_and_scans_inside_jit():
    """Rosenbrock as a least-squares problem, with optax around it: a scan of steps reaches the minimum."""

    def residuals(p):
        return jnp.stack([1 - p['x'], 10 * (p['y'] - p['x'] ** 2)])

    def f(p):
        return 0.5 * jnp.sum(residuals(p) ** 2)

    optimizer = optax.chain(hessian_free.hessian_free(1.0, cg_iterations=10), optax.scale(1.0))

    @jax.jit
    def run(p):
        def step(carry, _):
            p, state = carry
            curvature = gauss_newton(residuals, lambda z: 0.5 * jnp.sum(z**2), p)
            updates, state = optimizer.update(jax.grad(f)(p), state, p, curvature=curvature, value_fn=f)
            return (optax.apply_updates(p, updates), state), f(p)

        return jax.lax.scan(step, (p, optimizer.init(p)), None, 40)

    (p, _), values = run({'x': jnp.array(-1.2), 'y': jnp.array(1.0)})
    assert (jnp.diff(values) <= 1e-6).all()
    assert_allclose([p['x'], p['y']], [1, 1], atol=1e-3)
