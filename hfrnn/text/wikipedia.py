"""Readable text from a dump of Wikipedia: Sutskever, Martens & Hinton 2011 (SMH11) sec. 5.1."""

import html
import random
import re


def clean(dump: str, seed: int = 0) -> str:
    """The readable text of a Wikipedia dump, its articles in random order (SMH11 sec. 5.1: WIKI).

    XML, tables, templates, references, headings' and emphasis' marks, links' targets and image captions go; redirects
    and pages outside the article space are left out.

    Args:
      dump: the XML of the pages, whole or broken off at the end.
      seed: of the permutation.
    """
    articles = []
    for page in re.finditer(r'<page>.*?(?:</page>|\Z)', dump, re.DOTALL):
        found = re.match(r'<page>\s*<title>(.*?)</title>.*?<text[^>]*(?<!/)>(.*?)</text>', page[0], re.DOTALL)
        if not found:  # without a text, or broken off
            continue
        title, text = found.groups()
        if re.match(r'(?i)\s*#redirect', text) or re.match(r'(\w+ talk|Talk|User|Wikipedia|Image|Template|MediaWiki|'
                                                           r'Category|Help|Portal):', title):  # fmt: skip
            continue
        articles.append(_plain(html.unescape(html.unescape(text))))
    random.Random(seed).shuffle(articles)
    return '\n\n'.join(article for article in articles if article)


# Links to pages of other kinds, or in other languages: without the capital or the blank that a title with a colon has.
NAMESPACES = 'Image|File|Media|Category|Wikipedia|Template|Help|Portal|User|Talk'
ELSEWHERE = rf'\[\[:?(?:(?i:{NAMESPACES}):|[a-z-]{{2,12}}:(?! ))[^\[\]]*\]\]'


def _plain(text):
    def until_stable(pattern, replacement, text):
        count = 1
        while count:
            text, count = re.subn(pattern, replacement, text, flags=re.DOTALL)
        return text

    text = re.sub(r'<!--.*?-->|<(ref|math|gallery|nowiki|pre)\b[^<>]*?(/>|>.*?</\1>)', '', text, flags=re.DOTALL)
    text = until_stable(r'\{\{[^{}]*\}\}', '', text)
    text = until_stable(r'\{\|(?:(?!\{\|).)*?\|\}', '', text)
    text = until_stable(ELSEWHERE, '', text)
    text = until_stable(r'\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]', r'\1', text)
    text = until_stable(ELSEWHERE, '', text)  # now that no link is in another
    text = re.sub(r'\[(?:https?|ftp)://[^\s\]]*\s*([^\]]*)\]', r'\1', text)
    text = re.sub(r'</?[a-zA-Z][^<>]*>', '', text)
    text = re.sub(r"'{2,}|^[*#:;|!]+[ \t]*|^-{4,}", '', text, flags=re.MULTILINE)
    text = re.sub(r'^=+[ \t]*(.*?)[ \t]*=+[ \t]*$', r'\1', text, flags=re.MULTILINE)
    text = re.sub(r'[ \t\xa0]+', ' ', text)
    return re.sub(r' *\n\s*\n\s*', '\n\n', text).strip()
