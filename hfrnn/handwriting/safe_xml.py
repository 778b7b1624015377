"""Untrusted XML: read by expat, event by event; documents with declarations are refused."""

from collections.abc import Callable
from xml.parsers import expat

from hfrnn.errors import DataError


def parse(data: bytes, name: str, start: Callable, end: Callable | None = None, text: Callable | None = None) -> None:
    """Reads a document and calls back for its elements and text.

    A document type declaration is refused: it can declare entities, and an entity can grow without bound or name a
    file.  Nothing is ever fetched.

    Args:
      data: the document.
      name: of the document, for errors.
      start: ``start(tag, attributes)`` at an element's start, the attributes as a flat list: name, value, name, ...
      end: ``end(tag)`` at its end.
      text: ``text(characters)``.

    Raises:
      DataError: if the document is broken, or has a document type declaration.
    """
    parser = expat.ParserCreate()
    parser.ordered_attributes = True
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text

    def refuse(*_):
        raise DataError(f'{name} declares a document type or entities; such XML is refused')

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as e:
        raise DataError(f'{name} is broken XML: {e}') from e
    except (ValueError, LookupError) as e:  # an encoding that Python does not know
        if isinstance(e, DataError):
            raise
        raise DataError(f'{name} is broken XML: {e}') from e
