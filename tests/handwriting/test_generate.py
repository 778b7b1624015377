"""Laws of writing: any text, in lines, by weights from a file; the same again with the same seed."""

import string
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hfrnn import bundle
from hfrnn.errors import DataError
from hfrnn.handwriting import generate, models, render, strokes, synthetic
from hfrnn.nets import attention, outputs
from hfrnn.nets.model import Conditioned
from hfrnn.optim import weight_noise
from hfrnn.text.alphabet import UNKNOWN
from tests.scripts import ROOT

ALPHABET = ' .abcdeho' + UNKNOWN
SIZES = {'layers': 2, 'hidden': 8, 'mixtures': 3, 'gaussians': 2}
SCALE = {'mean': [8.0, 0.1], 'sd': [40.0, 35.0]}
MODEL = {'kind': 'handwriting', 'task': 'synthesis', **SIZES}
DATA = {'source': 'nobody', 'alphabet': ALPHABET, 'scale': SCALE}
IAM_LIKE = ' !"\'(),-.0123456789:;?' + string.ascii_letters.translate(str.maketrans('', '', 'QXZ')) + UNKNOWN


def net(advance=0.2):
    params = models.make('synthesis', models.Net(**SIZES), len(ALPHABET)).init(jax.random.key(1))
    params = jax.tree.map(lambda p: 2 * p, params)
    params['cell']['b_p'] = params['cell']['b_p'].at[-2:].set(jnp.log(advance))
    return bundle.Bundle(MODEL, DATA, {}, params)


@pytest.fixture(scope='module')
def writer():
    return generate.open_writer(net())


@pytest.fixture(scope='module')
def iamondb():
    return generate.open_writer(bundle.load('iamondb'))


def test_the_same_seed_writes_the_same_svg_and_a_line_is_its_own(writer):
    lines = ['abe bad', 'head', 'a']
    svgs = [render.strokes_svg(generate.write(writer, lines, seed=seed, bias=0.5).lines) for seed in (3, 3, 4)]
    assert svgs[0] == svgs[1] != svgs[2]
    all_three, one = generate.write(writer, lines, seed=3), generate.write(writer, lines[:1], seed=3)
    assert len(all_three.lines[0]) == len(one.lines[0]) and all_three.stopped[0] == one.stopped[0]
    np.testing.assert_allclose(all_three.lines[0], one.lines[0], rtol=5e-3, atol=0.1)
    for line in all_three.lines:
        assert len(line) > 1 and not line[0, :2].any() and line[-1, 2] == 1 and np.isfinite(line).all()


def test_a_line_that_never_ends_is_cut_off_by_its_own_length():
    lines = ['abe bad', 'a', 'head']
    endless = generate.write(generate.open_writer(net(advance=1e-6)), lines)
    assert not endless.stopped.any()
    assert [len(line) for line in endless.lines] == [generate.max_points(line) for line in lines]
    slow, quick = (generate.Primer(np.zeros((n, 3)), 'abe') for n in (90, 30))
    assert generate.max_points('a', slow) > generate.max_points('a', quick) == generate.max_points('a')
    assert generate.max_points('a', slow._replace(text='')) > generate.max_points(
        'a', slow
    )  # a pen that has written nothing yet


def test_a_notebook_shows_what_is_written(writer):
    written = generate.write(writer, ['abe', 'bad'], cap=9)
    assert written._repr_svg_() == render.strokes_svg(written.lines)


def test_writing_needs_no_matplotlib():
    code = 'import sys; from hfrnn.handwriting import generate, render; assert "matplotlib" not in sys.modules'
    subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True)


def test_what_ships_writes_to_the_end_and_more_for_more(iamondb):
    lines = ['and then', 'and then they went', 'all of them came home again', 'no one had seen the end of it']
    written = generate.write(iamondb, lines, bias=1.0)
    assert written.stopped.all()
    points = [len(line) / len(text) for line, text in zip(written.lines, lines, strict=True)]
    assert 18 < min(points) < max(points) < 50


def test_a_line_ends_with_its_last_stroke(iamondb):
    """If the rule ends a line within a stroke, the stroke is drawn to its end, and the points before stay."""
    lines = ['too late to matter', 'called the Heron', 'down the canal and up a river', 'and then they went']
    ruled, finished = (generate.write(iamondb, lines, bias=1.0, finish=n) for n in (0, generate.FINISH))
    assert ruled.stopped.all() and finished.stopped.all()
    more = [len(b) - len(a) for a, b in zip(ruled.lines, finished.lines, strict=True)]
    assert 0 <= min(more) < max(more) <= generate.FINISH
    for a, b in zip(ruled.lines, finished.lines, strict=True):
        np.testing.assert_allclose(a[:, :2], b[: len(a), :2], atol=1e-3)
        assert not b[len(a) : -1, 2].any()  # no other stroke is begun


def test_a_primer_is_left_out_and_makes_a_difference(writer):
    primer = generate.Primer(synthetic.line(0, 1)[1][:15], 'bead')
    others = generate.Primer(primer.offsets, 'hood'), generate.Primer(primer.offsets[:, [1, 0, 2]], 'bead')
    lines = [generate.write(writer, ['abe'], primer=p, cap=25).lines[0] for p in (primer, *others)]
    n = min(map(len, lines))
    assert max(map(len, lines)) <= 25  # of which the null vector is one
    assert all((lines[0][:n] != line[:n]).any() for line in lines[1:])
    biased = [
        generate.write(writer, ['abe'], primer=p, cap=25, bias=2.0, bias_after=n).lines[0]
        for p in (primer, None)
        for n in (0, 9)
    ]
    assert len(biased[0]) == len(biased[1]) and (biased[0] == biased[1]).all()  # whose hand it is, is known
    assert len(biased[2]) != len(biased[3]) or (biased[2] != biased[3]).any()
    passed = generate.Primer(synthetic.line(0, 1)[1], 'bead')  # many more points than four characters need
    assert [len(line) for line in generate.write(writer, ['abe'], primer=passed).lines] == [0]


def test_primed_writing_goes_on_from_exactly_the_state_that_scoring_the_primer_leaves(writer):
    primer, seed, bias = generate.Primer(synthetic.line(0, 1)[1][:15], 'bead'), 5, 0.3
    (written,) = generate.write(writer, ['abe'], seed=seed, bias=bias, primer=primer, cap=3).lines
    assert len(written) == 3
    context = generate.encode_line('bead abe', ALPHABET)
    points = strokes.normalise(primer.offsets, writer.scale)
    state, read = writer.model.run(writer.params, None, Conditioned(points, context))
    z, key, drawn = read.z[-1], jax.random.fold_in(jax.random.key(seed), 0), []
    for t in range(len(points) - 1, len(points) + 2):
        drawn.append(writer.model.output.sample(jax.random.fold_in(key, t), z, bias))
        state, z = writer.model.step(writer.params, state, Conditioned(drawn[-1], context))
    expected = strokes.denormalise(np.array(drawn), writer.scale)
    np.testing.assert_allclose(written[:, :2], expected[:, :2], rtol=1e-3, atol=0.01)
    assert (written[:-1, 2] == expected[:-1, 2]).all()


def test_the_window_is_after_a_primer_whose_text_is_that_of_its_strokes():
    hand = generate.open_writer(bundle.load('pens'))
    _, offsets, text = synthetic.line(0, 3)
    end = len(text) + 1
    assert abs(generate.place_after(hand, generate.Primer(offsets, text), 'and more') - end) <= 1
    assert generate.place_after(hand, generate.Primer(offsets[: len(offsets) // 2], text), 'and more') < end - 3
    assert generate.place_after(hand, generate.Primer(offsets, text[:3]), 'and more, and more') > 3 + 2


def test_a_window_past_a_whole_text_is_after_it(writer):
    passed = generate.Primer(synthetic.line(0, 1)[1], 'bead')
    assert generate.place_after(writer, passed, 'abe') == len('bead abe') + 1


def test_inspecting_a_line_gives_what_scoring_it_predicts(writer):
    offsets, text = synthetic.line(0, 1)[1][:40], 'abe bad'
    inspection = generate.inspect(writer, offsets, text)
    context = generate.encode_line(text, ALPHABET)
    points = strokes.normalise(offsets, writer.scale)[:-1]
    z = writer.model.predict(writer.params, Conditioned(points, context)).z
    m = jax.vmap(outputs.mixture)(z)
    for found, expected in zip(inspection.mixture, m, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    state, windows = writer.model.initial_state(writer.params), []
    for x in points:
        state, _ = writer.model.step(writer.params, state, Conditioned(x, context))
        windows.append(attention.phi(state, jnp.arange(1.0, 1 + len(text))))
    np.testing.assert_allclose(inspection.window, windows, rtol=1e-3, atol=1e-5)
    with pytest.raises(DataError, match='needs the text of the line'):
        generate.inspect(writer, offsets)


def test_a_posterior_writes_by_its_means(writer):
    some = net()
    noisy = some._replace(params=weight_noise.posterior(some.params))
    (line,), (mean,) = (generate.write(w, ['abe'], cap=9).lines for w in (generate.open_writer(noisy), writer))
    np.testing.assert_array_equal(line, mean)


def test_a_prediction_net_writes_too():
    sizes = {name: n for name, n in SIZES.items() if name != 'gaussians'}
    params = models.make('prediction', models.Net(**sizes)).init(jax.random.key(0))
    described = {'kind': 'handwriting', 'task': 'prediction', **sizes}
    writer = generate.open_writer(bundle.Bundle(described, DATA, {}, params))
    assert [len(line) for line in generate.sample_unconditional(writer, 2, 1).lines] == [1] * 2
    written = generate.sample_unconditional(writer, 3, 20, bias=0.2)
    assert [len(line) for line in written.lines] == [20] * 3 and not written.stopped.any()
    assert generate.inspect(writer, written.lines[0]).window is None


@pytest.mark.parametrize(
    ('change', 'error'),
    [
        ({'kind': 'language_model'}, 'another net: its kind is language_model, not handwriting'),
        ({'task': 'prediction'}, 'weights of another net'),
        ({'task': 'painting'}, 'does not describe'),
        ({'alphabet': ALPHABET + 'z'}, 'weights of another net'),
        ({'hidden': 9}, 'weights of another net'),
        ({'layers': 'two'}, 'does not describe'),
        ({'layers': None}, 'does not describe'),
        ({'eyes': 2}, 'does not describe'),
        ({'scale': {'mean': [1.0], 'sd': [1.0, 2.0]}}, 'does not describe'),
        ({'scale': {'mean': [1.0, 2.0], 'sd': [1.0, 0.0]}}, 'does not describe'),
        ({'scale': {'mean': [1.0, np.nan], 'sd': [1.0, 2.0]}}, 'does not describe'),
        ({'hidden': 0}, 'does not describe'),
        ({'layers': 10**9}, 'does not describe'),
        ({'hidden': np.inf}, 'does not describe'),
    ],
)
def test_nets_that_do_not_fit_their_description_are_refused(change, error):
    data = {name: value for name, value in change.items() if name in DATA}
    model = {name: value for name, value in change.items() if name not in DATA}
    with pytest.raises(DataError, match=error) as caught:
        generate.open_writer(net()._replace(model=MODEL | model, data=DATA | data))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('width', [1, 7, 40])
def test_long_texts_are_broken_at_words_and_no_character_is_lost(width):
    text = 'head  abe\tbad deed. a\n\n  bad head deedadeedadeeda'
    lines, replaced = generate.to_lines(text, ALPHABET, width)
    assert max(map(len, lines)) <= width and all(line == line.strip() != '' for line in lines)
    assert ''.join(lines).replace(' ', '') == ''.join(text.split()) and not replaced
    if width == 40:
        assert lines == ['head abe bad deed. a', 'bad head deedadeedadeeda']
    if width == 7:
        assert lines == ['head', 'abe bad', 'deed. a', 'bad', 'head de', 'edadeed', 'adeeda']


@pytest.mark.parametrize('alphabet', [IAM_LIKE, synthetic.PRINTABLE], ids=['IAM-OnDB', 'pens'])
def test_every_printable_character_is_written_and_replacements_are_returned(alphabet):
    lines, replaced = generate.to_lines(synthetic.PRINTABLE[1:], alphabet, 200)
    assert set(''.join(lines)) <= set(alphabet)
    assert set(replaced) == set(synthetic.PRINTABLE) - set(alphabet)
    accents, replaced = generate.to_lines('caf\N{LATIN SMALL LETTER E WITH ACUTE}', alphabet)
    assert accents == ['cafe'] and len(replaced) == 1


@pytest.mark.parametrize(
    ('text', 'error'),
    [
        ('', 'is empty'),
        (' \n\t', 'is empty'),
        ('a ' * 5000, 'too long'),
        ('a \N{SNOWMAN}', 'cannot be written'),
        ('a\0', 'cannot be written'),
        (UNKNOWN, 'cannot be written'),
    ],
)
def test_texts_that_cannot_be_written_are_refused_in_one_line(text, error):
    with pytest.raises(DataError, match=error) as caught:
        generate.to_lines(text, ALPHABET)
    assert '\n' not in str(caught.value)
