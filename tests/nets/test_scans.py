import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from hfrnn.nets.scans import clip_cotangent, recurrence, reverse_recurrence


def test_clip_cotangent_is_the_identity_but_for_its_transpose():
    def f(x):
        return clip_cotangent(x, 2.0)

    x, v = jnp.array([1.0, -30.0, 5.0]), jnp.array([9.0, -1.0, -7.0])
    assert_allclose(f(x), x)
    assert_allclose(jax.jvp(f, (x,), (v,))[1], v)
    assert_allclose(jax.linearize(f, x)[1](v), v)
    assert_allclose(jax.vjp(f, x)[1](v)[0], [2, -1, -2])
    batched = jax.jit(jax.vmap(lambda x, v: jax.vjp(f, x)[1](v)[0]))
    assert_allclose(batched(jnp.stack([x, x]), jnp.stack([v, -v])), [[2, -1, -2], [-2, 1, 2]])
    assert clip_cotangent(x, None) is x


def test_recurrence_is_its_loop_and_so_are_its_derivatives(x64):
    """Values, forward and reverse mode, and the derivative of a derivative, in a batch."""
    rng = np.random.default_rng(0)
    W, p, s, y, a = (jnp.asarray(rng.normal(size=shape)) for shape in ((4, 4), (4,), (4,), (4,), (2, 5, 4)))

    def core(p, s, a):
        s = 0.5 * s + jnp.tanh(a + p * s)
        return s, jnp.sin(s)

    def loop(W, p, s, y, a):
        ys = []
        for a_t in a:
            s, y = core(p, s, a_t + W @ y)
            ys.append(y)
        return s, jnp.stack(ys)

    def everything(run):
        def loss(theta):
            s, ys = jax.vmap(run, (None, None, None, None, 0))(*theta)
            return jnp.sum(s**3) + jnp.sum(ys**2)

        def both(theta):
            forward = jax.jvp(jax.grad(loss), (theta,), (theta,))
            return loss(theta), forward

        return jax.jit(both)((W, p, s, y, a))

    fast = everything(lambda *args: recurrence(core, *args))
    jax.tree.map(lambda one, other: assert_allclose(one, other, rtol=1e-9), fast, everything(loop))


def reverse_case():
    """A core that uses every argument: weights U of its own, constants, parameters, a state."""
    rng = np.random.default_rng(0)
    B, T, N, D, E = 3, 5, 4, 2, 2
    shapes = (N + E, N), (N + E, D), (N,), (N,), (N,), (B, T, D), (B, T, N + E), (E, N)
    constants, *args = (jnp.asarray(rng.normal(size=shape)) for shape in ((B, N), *shapes))

    def core(constants, U, p, s, a):
        s = 0.5 * s + jnp.tanh(a[:-E] + p * s) * constants
        y = jnp.sin(s)
        return s * (1 + jnp.sum(jnp.tanh(U @ y + a[-E:]))), y

    def loop(constants, W, V, p, s, y, xs, a, U):
        ys = []
        for x_t, a_t in zip(xs, a, strict=True):
            s, y = core(constants, U, p, s, a_t + V @ x_t + W @ y)
            ys.append(y)
        return s, jnp.stack(ys)

    return core, loop, constants, args


@pytest.mark.parametrize('own', [False, True], ids=['one W for all', 'a W for each'])
def test_reverse_recurrence_is_its_loop_and_so_is_its_gradient(own, x64):
    """In a batch, in a batch of batches, and alone."""
    core, loop, constants, args = reverse_case()
    if own:
        args = [jnp.stack([W, 2 * W, -W]) if i in (0, 1, 7) else W for i, W in enumerate(args)]
    axes = [0 if own else None] * 2 + [None] * 3 + [0, 0] + [0 if own else None]

    def gradients(run, many):
        def loss(args):
            s, ys = jax.vmap(run, (0, *axes))(constants, *args)
            return jnp.sum(s**3) + jnp.sum(ys**2)

        if many:
            return jax.jit(jax.vmap(jax.value_and_grad(loss)))(jax.tree.map(lambda x: jnp.stack([x, x / 2]), args))
        return jax.jit(jax.value_and_grad(loss))(args)

    def fast(*args):
        return reverse_recurrence(core, None, *args)

    for many in (False, True):
        same = zip(*(jax.tree.leaves(gradients(run, many)) for run in (fast, loop)), strict=True)
        for one, other in same:
            assert_allclose(one, other, rtol=1e-9, atol=1e-12)

    def alone(run):
        args_of_one = [x[0] if axis == 0 else x for x, axis in zip(args, axes, strict=True)]
        return jax.jit(jax.grad(lambda args: jnp.sum(run(constants[0], *args)[1] ** 2)))(args_of_one)

    jax.tree.map(lambda one, other: assert_allclose(one, other, rtol=1e-9, atol=1e-12), alone(fast), alone(loop))


def test_reverse_recurrence_rounds_products_as_asked():
    core, _, constants, args = reverse_case()
    constants, args = jax.tree.map(lambda x: x.astype(jnp.float32), (constants, args))

    def gradient(dtype):
        def loss(args):
            run = jax.vmap(lambda *args: reverse_recurrence(core, dtype, *args), (0, *[None] * 5, 0, 0, None))
            return jnp.sum(run(constants, *args)[1] ** 2)

        return jax.grad(loss)(args)

    exact, rounded = gradient(None), gradient(jnp.bfloat16)
    for one, other in zip(exact, rounded, strict=True):
        assert other.dtype == jnp.float32
        assert 0 < jnp.linalg.norm(one - other) < 0.03 * jnp.linalg.norm(one)


def test_reverse_recurrence_stores_loop_invariants_once():
    """The residuals, a pytree, hold the constants and U once, and not T times."""
    B, T, N, K, E = 3, 50, 4, 7, 5
    constants, U = jnp.ones((B, N, K)), jnp.ones((E, N))

    def core(constants, U, p, s, a):
        s = jnp.tanh(a[:-E] + p * s)
        return s, s * jnp.sum(s @ constants) * jnp.sum(jnp.tanh(U @ s + a[-E:]))

    def residuals(constants, *args):
        return jax.tree.leaves(jax.vjp(lambda *args: reverse_recurrence(core, None, constants, *args), *args)[1])

    xs, a = jnp.ones((B, T, 1)), jnp.zeros((B, T, N + E))
    args = jnp.ones((N + E, N)), jnp.ones((N + E, 1)), jnp.ones(N), jnp.zeros(N), jnp.zeros(N), xs, a, U
    leaves = jax.eval_shape(jax.vmap(residuals, (0, *[None] * 5, 0, 0, None)), constants, *args)
    sizes = [leaf.size for leaf in leaves]
    assert constants.size in sizes and B * T * N in sizes
    assert max(sizes) < min(T * U.size * B, T * constants.size)
