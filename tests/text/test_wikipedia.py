from hfrnn.text import wikipedia

PAGES = """
<page> <title>Foo</title> <text xml:space="preserve">'''Foo''' is a [[bar (x)|bar]] &amp;amp; [[baz]]s.{{c|{{d}}}}
== Head ==
* one &lt;ref name=&quot;a&quot;&gt;gone&lt;/ref&gt;two &lt;br /&gt; [http://a.b/c the site]
{| class=x
| cell {| nested |} |}
[[Image:x.png|thumb|A [[caption]] goes]][[de:Foo]][[Category:Things]]</text></page>
<page><title>Film</title><text xml:space="preserve">In [[Alien: Resurrection]], [[Batman: Year One|it]].</text></page>
<page><title>Old</title><text xml:space="preserve">#REDIRECT [[Foo]]</text></page>
<page><title>Talk:Foo</title><text xml:space="preserve">chatter</text></page>
<page><title>Nothing</title><text xml:space="preserve" /></page>
<page><title>Bar</title><text xml:space="preserve">Second.</text></page>
<page><title>Broken</title><text xml:space="preserve">off"""


def test_wikipedia_is_cleaned():
    plain = 'Foo is a bar & bazs.\nHead\none two the site'
    assert sorted(wikipedia.clean(PAGES).split('\n\n')) == sorted([plain, 'In Alien: Resurrection, it.', 'Second.'])
    orders = {wikipedia.clean(PAGES, seed).index('Second.') == 0 for seed in range(9)}
    assert orders == {True, False}
