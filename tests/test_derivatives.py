import jax
import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_allclose

from hfrnn.derivatives import clip_cotangent, recurrence


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
